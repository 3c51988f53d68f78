package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// The tool knows every command that docs/push.md tells to type.
func TestTheCommandsInTheDocumentOfPushesExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/push.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			args := strings.Fields(line)
			if len(args) < 2 || args[0] != "sallyport" {
				t.Errorf("no command: %q", line)
				continue
			}
			found++
			if args[len(args)-1] == "--help" {
				if code, out, errs := sallyport(t, "", args[1:]...); code != 0 || !strings.HasPrefix(out, "Usage: ") {
					t.Errorf("%s: %d %s", line, code, errs)
				}
				continue
			}
			var commands cli
			parser, err := kong.New(&commands, kong.Vars{"version": version})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(args[1:]); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	if found < 8 {
		t.Errorf("%d commands", found)
	}
}
