package arch

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	statement = regexp.MustCompile(`^- ((?:T-)?[A-Z]{1,2})-?([0-9]+) `)
	// A test may show several: TestTXM5TXM9ExactlyOnce….
	testName = regexp.MustCompile(`(?m)^func (?:Test|Benchmark)((?:[A-Z]{1,3}[0-9]+)+)`)
	oneName  = regexp.MustCompile(`[A-Z]{1,3}[0-9]+`)
)

// TestEachStatementHasATestOfItsName: docs/standards.md says what the project
// promises, sentence by sentence. One without a test is a wish.
func TestEachStatementHasATestOfItsName(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-f", "{{range .TestGoFiles}}{{$.Dir}}/{{.}}\n{{end}}{{range .XTestGoFiles}}{{$.Dir}}/{{.}}\n{{end}}", module+"...")
	files, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	tested := make(map[string]bool)
	for _, file := range strings.Fields(string(files)) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllSubmatch(text, -1) {
			for _, name := range oneName.FindAllString(string(m[1]), -1) {
				tested[name] = true
			}
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "standards.md"))
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	for lines := bufio.NewScanner(bytes.NewReader(page)); lines.Scan(); {
		m := statement.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		said++
		if name := strings.ReplaceAll(m[1], "-", "") + m[2]; !tested[name] {
			t.Errorf("docs/standards.md states %s-%s, and no test is named Test%s…", m[1], m[2], name)
		}
	}
	if said < 90 {
		t.Errorf("read %d statements: has the form of the list changed?", said)
	}
}
