package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/edge"
	"sallyport/test/e2e"
)

// clockTick is the unit of CPU times in /proc (USER_HZ), 10 ms wherever Linux
// runs Go.
const clockTick = 10 * time.Millisecond

// halves are an edge and a core in processes of their own, so that what they
// use is not mixed with what the phones use. The rest of their town, PBX and
// APNs, runs in the benchmark's process.
type halves struct {
	*e2e.Town
	edge, core *process
}

// start makes a town with its halves outside. env is added to theirs.
func start(b *testing.B, ctx context.Context, users []string, env ...string) *halves {
	b.Helper()
	return startTown(b, ctx, e2e.Config{Users: users}, env...)
}

// startTown is start for a town of which more is told.
func startTown(b *testing.B, ctx context.Context, cfg e2e.Config, env ...string) *halves {
	b.Helper()
	edgeAdmin := freePort(b)
	cfg.Dir, cfg.PBX, cfg.Edge = b.TempDir(), true, func(c *edge.Config) {
		unlimited(c)
		c.Admin.Listen, c.Log.Level = edgeAdmin, "warn"
	}
	town, err := e2e.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(town.Close)
	if err := town.Start(ctx); err != nil {
		b.Fatal(err)
	}
	town.Stop("core")
	town.Stop("edge")
	h := &halves{Town: town}
	h.edge = run(b, ctx, "sallyport-edge", edgeAdmin, town.WriteEdgeConfig, env)
	h.core = run(b, ctx, "sallyport-core", town.Admin, town.WriteCoreConfig, env)
	return h
}

// unlimited lets one address play all clients.
func unlimited(c *edge.Config) {
	c.Limits.NewFlowsPerSecond, c.Limits.NewFlowsPerIPPerSecond = 1e6, 1e6
	c.Limits.FlowsPerIP = 1e6
}

func freePort(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A process is one half.
type process struct {
	b     *testing.B
	cmd   *exec.Cmd
	admin string
}

func run(b *testing.B, ctx context.Context, name, admin string, write func() (string, error), env []string) *process {
	b.Helper()
	binary := filepath.Join(b.TempDir(), name)
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "sallyport/cmd/"+name).CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	config, err := write()
	if err != nil {
		b.Fatal(err)
	}
	p := &process{b: b, cmd: exec.Command(binary, "-config", config), admin: admin}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr, p.cmd.Stdout = b.Output(), b.Output()
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	for {
		if _, err := p.get("/readyz"); err == nil {
			return p
		}
		if ctx.Err() != nil {
			b.Fatalf("%s is not ready", name)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *process) get(path string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + p.admin + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return string(text), err
}

// metric is one value of /metrics.
func (p *process) metric(name string) float64 {
	p.b.Helper()
	text, err := p.get("/metrics")
	if err != nil {
		p.b.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.b.Fatal(err)
			}
			return v
		}
	}
	p.b.Fatalf("no metric %s", name)
	return 0
}

// cpu is what the process has used so far, in user and kernel.
func (p *process) cpu() time.Duration {
	p.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest) // from field 3 of proc(5)
	var ticks time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			p.b.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * clockTick
}

// memory is what the process holds.
type memory struct{ heap, stack, goroutines float64 }

func (p *process) memory() memory {
	return memory{
		heap:  p.metric("go_memstats_heap_alloc_bytes"),
		stack: p.metric("go_memstats_stack_inuse_bytes"), goroutines: p.metric("go_goroutines"),
	}
}
