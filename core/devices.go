package core

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"sallyport/core/admin"
	"sallyport/core/location"
	"sallyport/core/push"
	"sallyport/core/vault"
	"sallyport/core/wake"
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
	s.waker.Pushed(device, r)
	if jid, im := strings.CutPrefix(id.AOR, location.SchemeXMPP); im && r.Outcome == push.DeadToken && s.xmpp != nil {
		s.xmpp.Recheck(jid + "/" + id.Instance)
	}
}

// scored is whether an accepted push woke its device.
func (s *Server) scored(sc wake.Score) {
	if id, ok := location.ParseDeviceID(sc.Device); ok {
		s.loc.Scored(id, location.Wake{
			Token: tokenID(sc.Push.Token), Call: sc.Push.Channel == push.VoIP, At: sc.Sent, Woke: sc.Woke(),
		})
	}
}

// tokenOf is a device's token as the API shows it.
func (s *Server) tokenOf(d location.Device, t location.Token) admin.Token {
	state := admin.TokenLive
	_, _, fits := s.pushes.Fit(pushToken(t))
	switch {
	case t.Dead:
		state = admin.TokenDead
	case !fits:
		state = admin.TokenNoFit
	case t.Suspects > 0:
		state = admin.TokenQuarantined
	case d.DeafTo(t):
		state = admin.TokenDeaf
	}
	return admin.Token{
		Kind: t.Kind, Provider: t.Provider, App: t.App, State: state, Token: push.Redact(t.Value), Encrypts: t.Key != "" && t.Auth != "",
		Registered: admin.At(t.Registered), LastOK: admin.At(t.LastOK), LastError: t.LastError, ErrorAt: admin.At(t.LastErrorAt),
		WakeOK: t.Calls.Woke, WakeMiss: t.Calls.Missed, NoteOK: t.Notes.Woke, NoteMiss: t.Notes.Missed,
	}
}

// deaf warns of devices that calls do not reach any more.
func (s *Server) deaf() string {
	count, first := 0, ""
	s.loc.All(func(d location.Device) bool {
		if d.Deaf() {
			if count++; count == 1 {
				first = d.ID.AOR
			}
		}
		return true
	})
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("%d device(s), the first of %s: accepted VoIP pushes do not wake it while others do: iOS withholds them from an app "+
		"that did not report each as a call; reinstall the app there, and see that it reports every push to CallKit (`sallyport clients` shows who)", count, first)
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
		Suspects: t.Suspects, Suspected: t.LastErrorAt,
	}
}
