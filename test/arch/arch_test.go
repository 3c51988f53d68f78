package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxLines is what a reader holds in mind at once.
const maxLines = 400

// room is what `go list` says of one of our packages.
type room struct {
	Dir, ImportPath, Name              string
	GoFiles, CgoFiles, IgnoredGoFiles  []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func (r room) name() string { return strings.TrimPrefix(r.ImportPath, module) }

// sources are the files that end up in a build on some platform.
func (r room) sources() []string { return slices.Concat(r.GoFiles, r.CgoFiles, r.IgnoredGoFiles) }

// rooms asks the go tool once for every package of the module. -e lets a
// package that does not compile fail its own build instead of this test.
func rooms(t *testing.T) []room {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=Dir,ImportPath,Name,GoFiles,CgoFiles,IgnoredGoFiles,Imports,TestImports,XTestImports,Deps", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []room
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var r room
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
}

// allowed reports whether the table lets from enter to.
func allowed(from, to string) bool {
	for _, pattern := range mayImport[from] {
		if prefix, tree := strings.CutSuffix(pattern, "*"); pattern == to || tree && strings.HasPrefix(to, prefix) {
			return true
		}
	}
	return false
}

func TestEveryRoomHasARow(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms(t) {
		if _, known := mayImport[r.name()]; !known {
			t.Errorf("%s is a new room: give it a row in mayImport and in docs/architecture.md", r.name())
		}
		if !bytes.Contains(page, []byte("`"+r.name()+"`")) {
			t.Errorf("docs/architecture.md does not name `%s`: its package table is what readers navigate by", r.name())
		}
	}
}

func TestRoomsKeepTheirDoors(t *testing.T) {
	for _, r := range rooms(t) {
		for _, imp := range r.Imports {
			if to, ours := strings.CutPrefix(imp, module); ours && !allowed(r.name(), to) {
				t.Errorf("%s must not import %s: the table in docs/architecture.md does not open that door", r.name(), to)
			}
		}
	}
}

// Tests may use more rooms than the code they test, but never cross from one
// side of the tunnel to the other: that is what test/e2e is for.
func TestTestsStayOnTheirSideOfTheTunnel(t *testing.T) {
	sides := map[string]string{"edge": "core", "core": "edge"}
	for _, r := range rooms(t) {
		side, _, _ := strings.Cut(r.name(), "/")
		other, sided := sides[side]
		if !sided {
			continue
		}
		for _, imp := range slices.Concat(r.TestImports, r.XTestImports) {
			if imp == module+other || strings.HasPrefix(imp, module+other+"/") {
				t.Errorf("tests of %s import %s: edge and core meet in tunnel alone, whole-system stories go to test/e2e", r.name(), imp)
			}
		}
	}
}

func TestWhatIsNeverReached(t *testing.T) {
	all := rooms(t)
	for _, rule := range neverReaches {
		i := slices.IndexFunc(all, func(r room) bool { return r.name() == rule.room })
		if i < 0 {
			continue
		}
		for _, dep := range all[i].Deps {
			if dep == rule.forbidden || strings.HasPrefix(dep, rule.forbidden+"/") {
				t.Errorf("%s reaches %s: %s (see `go list -deps ./%s`)", rule.room, dep, rule.why, rule.room)
			}
		}
	}
}

func TestAPackageIntroducesItselfOnce(t *testing.T) {
	for _, r := range rooms(t) {
		var where []string
		for _, name := range r.sources() {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(r.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil || file.Doc == nil {
				continue
			}
			where = append(where, name)
			if text := file.Doc.Text(); r.Name != "main" && !strings.HasPrefix(text, "Package "+r.Name+" ") {
				t.Errorf("%s/%s: the package comment starts %q, want \"Package %s …\": godoc shows that sentence alone", r.name(), name, firstWords(text), r.Name)
			}
		}
		if len(r.sources()) > 0 && len(where) != 1 {
			t.Errorf("%s has its package comment in %d files %v, want exactly one: it says what the room owns and what it never knows", r.name(), len(where), where)
		}
	}
}

func firstWords(s string) string {
	words := strings.Fields(s)
	return strings.Join(words[:min(4, len(words))], " ")
}

func TestFilesFitAReadersHead(t *testing.T) {
	for _, r := range rooms(t) {
		for _, name := range r.sources() {
			text, err := os.ReadFile(filepath.Join(r.Dir, name))
			if err != nil {
				t.Error(err)
				continue
			}
			if n := bytes.Count(text, []byte("\n")); n > maxLines {
				t.Errorf("%s/%s has %d lines, more than %d: split it by noun", r.name(), name, n, maxLines)
			}
		}
	}
}

func TestGoModReplacesNothing(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", filepath.Join("..", "..", "go.mod")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Replace []struct{ Old, New struct{ Path string } }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Replace {
		t.Errorf("go.mod replaces %s by %s: `go install` and readers would then build something else than what is named", r.Old.Path, r.New.Path)
	}
}
