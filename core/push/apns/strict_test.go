package apns_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// The transport's strict mode dead-locks with Apple's change of the allowed
// streams from 1 to 1000 (golang/go#70809). It is set nowhere below core/push,
// whatever the field is called where it is set.
func TestP9_StrictStreamLimitIsNeverSet(t *testing.T) {
	fset, files := token.NewFileSet(), 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		files++
		ast.Inspect(file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && strings.HasPrefix(id.Name, "StrictMaxConcurrent") {
				t.Errorf("%s: %s is named", fset.Position(id.Pos()), id.Name)
			}
			return true
		})
		return nil
	})
	if err != nil || files < 20 {
		t.Errorf("%d files read, %v", files, err)
	}
}
