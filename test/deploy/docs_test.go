package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"sallyport/certs"
	"sallyport/edge"
)

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The configs that deploy-edge.md shows are valid, the second in place of the
// first's [tls], the third with either.
func TestConfigsInTheEdgesPageAreValid(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(page(t, "deploy-edge.md"), -1)
	if len(blocks) != 3 {
		t.Fatalf("%d configs", len(blocks))
	}
	whole := blocks[0][1]
	before, after, _ := strings.Cut(whole, "[tls]\n")
	_, after, _ = strings.Cut(after, "[tunnel]\n")
	files := before + blocks[1][1] + "[tunnel]\n" + after
	for _, text := range []string{whole, files, whole + blocks[2][1], files + blocks[2][1]} {
		cfg := edge.DefaultConfig()
		if err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&cfg); err != nil {
			t.Errorf("%v\n%s", err, text)
		} else if err := cfg.Validate(); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

// The commands that make certificates make what compose.yaml mounts, and the
// pages agree on them.
func TestCertificateCommandsMakeWhatComposeMounts(t *testing.T) {
	command := regexp.MustCompile(`(?m)^(?:#   )?sallyport (certs .*?)(?: +#.*)?$`)
	dir := t.TempDir()
	tool := filepath.Join(dir, "sallyport")
	build := exec.Command("go", "build", "-o", tool, "sallyport/cmd/sallyport")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var first []string
	for _, text := range []string{read(t, "compose.yaml"), page(t, "deploy-containers.md")} {
		var lines []string
		for _, m := range command.FindAllStringSubmatch(text, -1) {
			lines = append(lines, strings.Join(strings.Fields(m[1]), " "))
		}
		if first == nil {
			first = lines
		}
		if len(lines) != 3 || strings.Join(lines, "\n") != strings.Join(first, "\n") {
			t.Fatalf("commands %q, want %q", lines, first)
		}
	}
	for _, line := range first {
		cmd := exec.Command(tool, strings.Fields(line)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sallyport %s: %v\n%s", line, err, out)
		}
	}
	for service, want := range map[string]certs.Role{"edge": certs.RoleEdge, "core": certs.RoleCore} {
		for _, v := range parse(t).Services[service].Volumes {
			from, _, _ := strings.Cut(v, ":")
			name, ours := strings.CutPrefix(from, "./compose/ca/")
			if !ours {
				continue
			}
			b, err := certs.LoadBundle(filepath.Join(dir, "ca", name))
			if err != nil || b.Role() != want {
				t.Errorf("%s mounts %s: %v", service, from, err)
			}
		}
	}
}
