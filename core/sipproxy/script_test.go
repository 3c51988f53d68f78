package sipproxy

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"sallyport/tunnel"
)

// A script is one end of SIP that says what the story tells it to, and keeps
// what it hears in order.
type script struct {
	t    testing.TB
	name string
	send func(string) error

	mu    sync.Mutex
	heard []string
	flow  *tunnel.Flow // of a client
	conn  net.Conn     // of the PBX
	ended string

	answer func(string) // instead of keeping what is heard
}

func newScript(t testing.TB, name string, send func(string) error) *script {
	return &script{t: t, name: name, send: send}
}

// connected gives the PBX a new connection to speak on.
func (s *script) connected(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.send = c, func(m string) error {
		_, err := c.Write([]byte(m))
		return err
	}
}

func (s *script) hear(m string) {
	if s.answer != nil {
		s.answer(m)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, m)
}

// sleeps ends the client's flow, as iOS does when the app is suspended.
func (s *script) sleeps() {
	s.flow.Close(tunnel.CloseClient, "")
	synctest.Wait()
}

// say sends a message and lets everybody come to rest.
func (s *script) say(lines ...string) {
	s.t.Helper()
	s.write(message(lines...))
}

// write sends whole messages, one right after the other.
func (s *script) write(messages ...string) {
	s.t.Helper()
	for _, m := range messages {
		if err := s.send(m); err != nil {
			s.t.Fatalf("%s cannot send: %v", s.name, err)
		}
	}
	synctest.Wait()
}

// message joins lines to a message; the line "" begins the body.
func message(lines ...string) string {
	body := ""
	for i, l := range lines {
		if l == "" {
			body = strings.Join(lines[i+1:], "\r\n")
			lines = lines[:i]
			break
		}
	}
	return strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// hears takes the oldest message not yet taken, whose first line must begin as
// told.
func (s *script) hears(start string) string {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heard) == 0 {
		s.t.Fatalf("%s heard nothing, want %q", s.name, start)
	}
	m := s.heard[0]
	s.heard = s.heard[1:]
	if !strings.HasPrefix(m, start) {
		s.t.Fatalf("%s heard %q, want %q", s.name, firstLine(m), start)
	}
	return m
}

// hearsOf is hears among the messages of one call.
func (s *script) hearsOf(callID, start string) string {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.heard, func(m string) bool { return first(m, "Call-ID") == callID })
	if i < 0 {
		s.t.Fatalf("%s heard nothing of %s, want %q", s.name, callID, start)
	}
	m := s.heard[i]
	s.heard = slices.Delete(s.heard, i, i+1)
	if !strings.HasPrefix(m, start) {
		s.t.Fatalf("%s heard %q of %s, want %q", s.name, firstLine(m), callID, start)
	}
	return m
}

// silence fails if there is anything not taken.
func (s *script) silence() {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.heard {
		s.t.Errorf("%s heard %q, want nothing", s.name, firstLine(m))
	}
}

func firstLine(m string) string { l, _, _ := strings.Cut(m, "\r\n"); return l }

// header returns the values of a header, in order.
func header(m, name string) (values []string) {
	head, _, _ := strings.Cut(m, "\r\n\r\n")
	for _, l := range strings.Split(head, "\r\n")[1:] {
		if n, v, ok := strings.Cut(l, ":"); ok && strings.EqualFold(strings.TrimSpace(n), name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

func first(m, name string) string {
	if v := header(m, name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// without returns the lines but those of the named headers.
func without(lines []string, names ...string) (out []string) {
	for _, l := range lines {
		name, _, _ := strings.Cut(l, ":")
		if !slices.Contains(names, name) {
			out = append(out, l)
		}
	}
	return out
}

// with returns the lines with one header's value replaced.
func with(lines []string, name, value string) (out []string) {
	for _, l := range lines {
		if strings.HasPrefix(l, name+":") {
			l = name + ": " + value
		}
		out = append(out, l)
	}
	return out
}
