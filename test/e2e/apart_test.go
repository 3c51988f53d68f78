package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sallyport/edge"
)

// half is one of the two services in a process of its own, to be killed.
type half struct {
	t      *testing.T
	admin  string // where it says that it is ready
	binary string
	config string
	cmd    *exec.Cmd
}

// build makes the binary of a service, before the clock of a story runs.
func build(t *testing.T, service string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), service)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "sallyport/cmd/"+service)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// coreApart stops the town's own core and runs sallyport-core in its place.
func coreApart(t *testing.T, ctx context.Context, town *Town, binary string) *half {
	t.Helper()
	config := must[string](t)(town.WriteCoreConfig())
	town.Stop("core")
	return apart(t, ctx, &half{t: t, admin: town.Admin, binary: binary, config: config})
}

// edgeApart stops the town's own edge and runs sallyport-edge in its place. The
// town is one of [withEdgeAdmin].
func edgeApart(t *testing.T, ctx context.Context, town *Town, binary string) *half {
	t.Helper()
	config := must[string](t)(town.WriteEdgeConfig())
	town.Stop("edge")
	return apart(t, ctx, &half{t: t, admin: town.edge.Admin.Listen, binary: binary, config: config})
}

// withEdgeAdmin gives the edge a place to say that it is ready.
func withEdgeAdmin(t *testing.T, cfg *Config) {
	t.Helper()
	l, err := freeAddr()
	ok(t, err)
	addr := l.Addr().String()
	ok(t, l.Close())
	before := cfg.Edge
	cfg.Edge = func(c *edge.Config) {
		if before != nil {
			before(c)
		}
		c.Admin.Listen = addr
	}
}

func apart(t *testing.T, ctx context.Context, h *half) *half {
	t.Helper()
	h.start(ctx)
	t.Cleanup(h.kill)
	return h
}

// start runs the process and waits until it says that it serves.
func (h *half) start(ctx context.Context) {
	h.t.Helper()
	h.cmd = exec.Command(h.binary, "-config", h.config)
	h.cmd.Stderr, h.cmd.Stdout = h.t.Output(), h.t.Output()
	ok(h.t, h.cmd.Start())
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.admin+"/readyz", nil)
		ok(h.t, err)
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.t.Fatalf("%s was not ready in time", filepath.Base(h.binary))
		}
	}
}

// kill ends it as `kill -9` does.
func (h *half) kill() {
	if h.cmd.ProcessState == nil {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait()
	}
}

// files is how many files the process has open.
func (h *half) files() int {
	h.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.cmd.Process.Pid))
	if err != nil {
		h.t.Skipf("open files are counted on Linux only: %v", err)
	}
	return len(list)
}
