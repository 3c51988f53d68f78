package interop

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/test/process"
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
		process.WriteFile(t, file, config)
		for _, path := range []string{file, filepath.Join("..", "..", "deploy", service+".toml")} {
			if out, err := exec.Command(filepath.Join(bin, "sallyport-"+service), "-check", "-config", path).CombinedOutput(); err != nil {
				t.Errorf("sallyport-%s -check of %s: %v\n%s", service, filepath.Base(path), err, out)
			}
		}
	}
}

// The page on clients names the tests that stand behind what it says.
func TestTheTestsThatThePageOnClientsNamesAreThere(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "connect-clients.md"))
	must(t, err)
	there := map[string]bool{}
	defined := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range defined.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	}))
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) == 0 {
		t.Fatal("the page names no test")
	}
	for _, m := range named {
		if !there[m[1]] {
			t.Errorf("docs/connect-clients.md names %s, which is not there", m[1])
		}
	}
}
