package deploy

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The image holds one static program: the very command that builds it there is
// run here, and what it made is looked at and started.
func TestImagesHoldOneStaticProgram(t *testing.T) {
	build := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*)$`)
	for _, name := range []string{"edge", "core"} {
		text := read(t, "Containerfile."+name)
		command := build.FindStringSubmatch(text)
		if command == nil {
			t.Errorf("Containerfile.%s builds nothing", name)
			continue
		}
		out := t.TempDir()
		sh := exec.Command("sh", "-c", strings.ReplaceAll(command[1], "-o /out/", "-o "+out+"/"))
		sh.Dir = filepath.Join("..", "..")
		sh.Env = append(os.Environ(), "VERSION=1.2.3", "GOOS=", "GOARCH=")
		if said, err := sh.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command[1], err, said)
		}
		program := filepath.Join(out, "sallyport-"+name)
		static(t, program)
		said, err := exec.Command(program, "-version").CombinedOutput()
		if want := "sallyport-" + name + " 1.2.3\n"; err != nil || string(said) != want {
			t.Errorf("it says %q, %v, want %q", said, err, want)
		}
		_, last, _ := strings.Cut(text, "\nFROM scratch\n")
		for _, line := range []string{
			"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
			"USER 65532:65532",
			`ENTRYPOINT ["/usr/bin/sallyport-` + name + `"]`,
			`CMD ["-config", "/etc/sallyport/` + name + `.toml"]`,
		} {
			if !strings.Contains(last, line+"\n") {
				t.Errorf("Containerfile.%s lacks, in its last stage: %s", name, line)
			}
		}
		if strings.Contains(last, "RUN ") {
			t.Errorf("Containerfile.%s runs something where there is no shell", name)
		}
	}
}

// static checks that a program needs neither loader nor library.
func static(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s asks for a loader", path)
		}
	}
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
		t.Errorf("%s needs %q", path, libs)
	}
}

// What must never be in an image's context.
func TestKeysStayOutOfTheBuild(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{".git", "**/*.pem", "deploy/compose/ca"} {
		if !strings.Contains("\n"+string(text), "\n"+line+"\n") {
			t.Errorf(".dockerignore lacks %s", line)
		}
	}
}
