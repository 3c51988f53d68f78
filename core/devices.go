package core

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"sallyport/core/location"
	"sallyport/core/push"
	"sallyport/core/vault"
)

// This file joins core/location, which keeps devices and their tokens, to
// core/push and core/wake, which use them.

// openDevices reads the key file and brings back the devices.
func (s *Server) openDevices(ctx context.Context, name string) (err error) {
	path, made := s.cfg.Store.KeyFile, false
	if path == "" {
		path = filepath.Join(s.cfg.Store.Dir, "token.key")
		s.vault, made, err = vault.LoadOrMake(path)
	} else {
		s.vault, err = vault.Load(path)
	}
	if errors.Is(err, fs.ErrNotExist) && len(s.cfg.Store.NATS) > 0 {
		return fmt.Errorf("store.key_file: %w, and give the same file to every core on the cluster", err)
	}
	if err != nil {
		return fmt.Errorf("store.key_file: %w", err)
	}
	if made {
		s.log.Info("key made that encrypts push tokens at rest: keep a copy of it apart from the store's", "file", path)
	}
	s.loc = location.New(location.Config{
		DeviceKeep: s.cfg.Wake.DeviceKeep.Duration, Core: name, Vault: s.vault,
	}, s.store.Devices(), s.log)
	err = s.loc.Load(ctx)
	if errors.Is(err, vault.ErrKey) {
		return fmt.Errorf("store.key_file %s: %w: put back the file that was there when they registered, as it is or as a second line "+
			"of this one; if it is lost, remove the devices (%s), and their clients register again by themselves", path, err, s.devicesAt())
	}
	if err != nil {
		return fmt.Errorf("location: %w", err)
	}
	return nil
}

// devicesAt says where the store has the devices, for who must remove them.
func (s *Server) devicesAt() string {
	if len(s.cfg.Store.NATS) > 0 {
		return "`nats kv del sallyport_devices`"
	}
	return "the directory " + filepath.Join(s.cfg.Store.Dir, "jetstream", "$G", "streams", "KV_sallyport_devices") + ", while no core runs"
}

// told is what a provider said of a push to a device.
func (s *Server) told(device string, r push.Result) {
	id, ok := location.ParseDeviceID(device)
	if !ok {
		return
	}
	s.loc.Told(id, location.Answer{
		Token: tokenID(r.Token), At: time.Now(), Reason: r.Reason,
		Accepted: r.Outcome == push.Accepted, Dead: r.Outcome == push.DeadToken, Suspect: r.Suspect, Since: r.DeadSince,
	})
}

func tokenID(t push.Token) location.TokenID {
	return location.TokenID{Provider: t.Provider, Kind: t.Kind, Value: t.Value}
}

// target is a device as it stands now, as a push sees it.
func (s *Server) target(device string) (push.Target, bool) {
	id, ok := location.ParseDeviceID(device)
	if !ok {
		return push.Target{}, false
	}
	d, ok := s.loc.Device(id)
	return target(d), ok
}

func target(d location.Device) push.Target {
	t := push.Target{Device: d.ID.String(), Class: d.Class}
	for _, token := range d.Tokens {
		t.Tokens = append(t.Tokens, pushToken(token))
	}
	return t
}

func pushToken(t location.Token) push.Token {
	return push.Token{
		Provider: t.Provider, Kind: t.Kind, App: t.App, Param: t.Param, Value: t.Value,
		Sandbox: t.Sandbox, Registered: t.Registered, Dead: t.Dead, Key: t.Key, Auth: t.Auth,
	}
}
