package interop

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/test/process"
)

//go:embed scenarios/*.xml
var scenarios embed.FS

// sippLimit ends a scenario that has come to a standstill.
const sippLimit = 25 * time.Second

// Sipp is a caller or callee behind the PBX, one scenario for one call.
type Sipp struct {
	*process.Process
	// User is what the PBX calls a callee by: sip:User@domain.
	User string
	// Port is where it listens.
	Port int
	dir  string
}

// SippCall is what a caller says.
type SippCall struct {
	// Scenario names a file in scenarios, without its ending.
	Scenario string
	// To is the user part of who is called.
	To string
	// Caller and Name are who calls; empty means "desk" and "Front Desk".
	Caller, Name string
	// Status is what uac_status expects.
	Status int
	// Transport is "udp" (the default) or "tcp".
	Transport string
}

// StartCaller runs a scenario against the PBX; Wait tells how it went.
func StartCaller(t testing.TB, k *Kamailio, c SippCall) *Sipp {
	t.Helper()
	if c.Caller == "" {
		c.Caller, c.Name = "desk", "Front Desk"
	}
	return startSipp(t, c, "-s", c.To, "-key", "caller", c.Caller, "-key", "caller_name", c.Name, "-key", "domain", k.Domain, k.Addr)
}

// StartCallee runs a scenario that waits for one call to its User.
func StartCallee(t testing.TB, scenario string) *Sipp {
	t.Helper()
	s := startSipp(t, SippCall{Scenario: scenario})
	s.Until(t, func() error { return listening(s.Port) })
	return s
}

// listening looks for a UDP socket in the kernel's table. Trying the port
// itself would take it from the one that is about to listen there.
func listening(port int) error {
	table, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return err
	}
	if !strings.Contains(string(table), fmt.Sprintf(": 0100007F:%04X ", port)) {
		return fmt.Errorf("nobody listens on UDP port %d yet", port)
	}
	return nil
}

func startSipp(t testing.TB, c SippCall, args ...string) *Sipp {
	t.Helper()
	path := process.Need(t, "sipp")
	text, err := scenarios.ReadFile("scenarios/" + c.Scenario + ".xml")
	if err != nil {
		t.Fatal(err)
	}
	s := &Sipp{Port: process.FreePort(t), dir: process.TempDir(t)}
	s.User = "uas-" + strconv.Itoa(s.Port)
	file := filepath.Join(s.dir, c.Scenario+".xml")
	process.WriteFile(t, file, strings.ReplaceAll(string(text), "STATUS", strconv.Itoa(c.Status)))
	mode := "u1"
	if c.Transport == "tcp" {
		mode = "t1"
	}
	s.Process = process.Launch(t, process.Spec{
		Name: "sipp " + c.Scenario, Path: path, Dir: s.dir,
		Args: append([]string{
			"-sf", file, "-i", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-t", mode, "-m", "1", "-nostdin",
			"-timeout", strconv.Itoa(int(sippLimit / time.Second)), "-timeout_error", "-trace_err", "-error_file", filepath.Join(s.dir, "errors"),
			"-trace_msg", "-message_file", filepath.Join(s.dir, "messages"), "-message_overwrite", "true",
		}, args...),
	})
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"errors", "messages"} {
				process.LogFile(t, filepath.Join(s.dir, name))
			}
		}
	})
	return s
}

// Wait waits for the end of the scenario; nil says that each step came as written.
func (s *Sipp) Wait(ctx context.Context) error { return s.Process.Wait(ctx) }
