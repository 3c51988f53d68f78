package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shellWords splits a line at spaces outside single quotes.
func shellWords(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// documented returns the lines of the sh blocks of a document.
func documented(t *testing.T, name string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(text), "```sh\n") {
		if code, _, ok := strings.Cut(block, "```"); i > 0 && ok {
			lines = append(lines, strings.Split(strings.TrimSpace(code), "\n")...)
		}
	}
	return lines
}

// Each command of docs/simulators.md runs, with a directory and ports of its
// own, and each request of the control API does what it says.
func TestEachCommandOfTheSimulatorsPageRuns(t *testing.T) {
	commands := map[string]func() simCommand{
		"apns-sim":    func() simCommand { return &apnsSimCmd{} },
		"fcm-sim":     func() simCommand { return &fcmSimCmd{} },
		"webpush-sim": func() simCommand { return &webpushSimCmd{} },
	}
	running := map[string]*runningSim{} // by the control address on the page
	requests := 0
	for _, line := range documented(t, "simulators.md") {
		words := shellWords(line)
		switch words[0] {
		case "sallyport":
			control, flags := "", []string{"--dir=" + t.TempDir()}
			for i := 2; i+1 < len(words); i += 2 {
				switch words[i] {
				case "--dir":
				case "--control":
					control = words[i+1]
				default:
					flags = append(flags, words[i]+"="+words[i+1])
				}
			}
			make, ok := commands[words[1]]
			if !ok || control == "" {
				t.Fatalf("%s: no simulator with a control API", line)
			}
			running[control] = startCommand(t, make(), flags...)
		case "curl":
			requests++
			documentedRequest(t, running, line, words)
		default:
			t.Errorf("%q is no command that this test knows", line)
		}
	}
	if len(running) != len(commands) || requests == 0 {
		t.Errorf("%d simulators and %d requests on the page", len(running), requests)
	}
}

// documentedRequest does what a line of curl does.
func documentedRequest(t *testing.T, running map[string]*runningSim, line string, words []string) {
	t.Helper()
	address := strings.TrimPrefix(words[len(words)-1], "http://")
	control, path, _ := strings.Cut(address, "/")
	sim := running[control]
	if sim == nil {
		t.Errorf("%s: no simulator has that control address", line)
		return
	}
	method, body := http.MethodGet, ""
	header := http.Header{}
	for i, w := range words {
		switch w {
		case "-d":
			method, body = http.MethodPost, words[i+1]
		case "-H":
			name, value, _ := strings.Cut(words[i+1], ": ")
			header.Set(name, value)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, sim.got["control"]+"/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Errorf("%s: %d %s", line, resp.StatusCode, text)
	}
}
