package e2e

import (
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// coreProcess is a core of its own, to be killed.
type coreProcess struct {
	t      *testing.T
	town   *Town
	binary string
	config string
	cmd    *exec.Cmd
}

// buildCore makes the binary, before the clock of a story runs.
func buildCore(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sallyport-core")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "sallyport/cmd/sallyport-core")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// apart stops the town's own core and runs sallyport-core in its place.
func apart(t *testing.T, ctx context.Context, town *Town, binary string) *coreProcess {
	t.Helper()
	config := must[string](t)(town.WriteCoreConfig())
	town.Stop("core")
	p := &coreProcess{t: t, town: town, binary: binary, config: config}
	p.start(ctx)
	t.Cleanup(p.kill)
	return p
}

// start runs the process and waits until it says that it serves.
func (p *coreProcess) start(ctx context.Context) {
	p.t.Helper()
	p.cmd = exec.Command(p.binary, "-config", p.config)
	p.cmd.Stderr, p.cmd.Stdout = p.t.Output(), p.t.Output()
	ok(p.t, p.cmd.Start())
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.town.Admin+"/readyz", nil)
		ok(p.t, err)
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatal("the core was not ready in time")
		}
	}
}

// kill ends it as `kill -9` does.
func (p *coreProcess) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

func TestB21KillNineOfTheCoreLosesNoSleepingPhone(t *testing.T) {
	binary := buildCore(t)
	at(t, PBXDomain, Config{}, func(s *scene) {
		proc := apart(s.t, s.ctx, s.Town, binary)
		alice, bob := s.caller("alice"), s.asleep("bob")
		proc.kill()
		proc.start(s.ctx)
		s.connected(alice)
		s.wakesFor(alice, bob, "bob", 1)
	})
}

func TestB21KillNineOfTheCoreWhileACallIsHeld(t *testing.T) {
	binary := buildCore(t)
	at(t, Domain, Config{}, func(s *scene) {
		proc := apart(s.t, s.ctx, s.Town, binary)
		alice, bob := s.caller("alice"), s.asleep("bob")
		s.call(alice, "bob") // is lost with the core that held it
		s.pushed(1)
		proc.kill()
		proc.start(s.ctx)
		s.registers(bob, "bob") // comes for the first push, for nothing
		s.heard(bob, "INVITE", 0)
		s.sleeps(bob)
		s.wakesFor(alice, bob, "bob", 2)
		s.connected(alice)
	})
}
