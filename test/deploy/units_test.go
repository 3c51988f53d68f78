package deploy

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// file is a path in deploy/.
func file(name string) string { return filepath.Join("..", "..", "deploy", name) }

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(file(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// need finds a program, skips without it, and fails where CI must have it.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + program)
	}
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is not installed", program)
	default:
		t.Skipf("%s is not installed", program)
	}
	return ""
}

// The units name no option that systemd does not know, keep their sandbox, and
// expose little. Paths of programs that are not installed here are replaced.
func TestUnitsAreKnownToSystemdAndExposeLittle(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	const most = 3.0 // of 10
	level := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+) `)
	for name, caps := range map[string]string{"sallyport-edge.service": "CAP_NET_BIND_SERVICE", "sallyport-core.service": ""} {
		unit := read(t, name)
		for _, line := range []string{"User=sallyport", "NoNewPrivileges=yes", "ProtectSystem=strict", "AmbientCapabilities=" + caps, "CapabilityBoundingSet=" + caps} {
			if !strings.Contains(unit, "\n"+line+"\n") {
				t.Errorf("%s lacks %s", name, line)
			}
		}
		path := filepath.Join(t.TempDir(), name)
		unit = strings.ReplaceAll(unit, "/usr/bin/sallyport", "/bin/true -")
		if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", path).CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) || bytes.Contains(out, []byte(name+":")) {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
		out, err = exec.Command(analyze, "security", "--offline=true", "--no-pager", path).CombinedOutput()
		found := level.FindSubmatch(out)
		if err != nil || found == nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", name, err, out)
			continue
		}
		if n, err := strconv.ParseFloat(string(found[1]), 64); err != nil || n > most {
			t.Errorf("%s: exposure %s, want at most %v\n%s", name, found[1], most, out)
		}
	}
}
