package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the deploy pages tell operators to write must pass the services' own
// check, so that a page cannot fall behind.
func TestTheConfigsOfTheDeployPagesPassTheCheck(t *testing.T) {
	bin, err := build()
	must(t, err)
	for _, service := range []string{"edge", "core"} {
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", "deploy-"+service+".md"))
		must(t, err)
		_, rest, found := strings.Cut(string(page), "```toml\n")
		config, _, closed := strings.Cut(rest, "```")
		if !found || !closed {
			t.Fatalf("deploy-%s.md has no toml block", service)
		}
		file := filepath.Join(t.TempDir(), service+".toml")
		writeFile(t, file, config)
		for _, path := range []string{file, filepath.Join("..", "..", "deploy", service+".toml")} {
			if out, err := exec.Command(filepath.Join(bin, "sallyport-"+service), "-check", "-config", path).CombinedOutput(); err != nil {
				t.Errorf("sallyport-%s -check of %s: %v\n%s", service, filepath.Base(path), err, out)
			}
		}
	}
}
