package main

import (
	"io"
	"net"
	"strings"
	"testing"

	"sallyport/core"
)

// xmppServer answers a stream with these features.
func xmppServer(features string) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			buf := make([]byte, 4096)
			for {
				n, err := theirs.Read(buf)
				if err != nil {
					return
				}
				if strings.Contains(string(buf[:n]), "<stream:stream") {
					_, _ = io.WriteString(theirs, "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"+
						"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"+features+"</mechanisms></stream:features>")
				}
				if strings.Contains(string(buf[:n]), "</stream:stream>") {
					_, _ = io.WriteString(theirs, "</stream:stream>")
					return
				}
			}
		}()
		return ours, nil
	}
}

func TestTXM17_CheckSaysWhatKeepsXMPPClientsOut(t *testing.T) {
	const addr = "192.0.2.1:5222"
	for name, c := range map[string]struct {
		dial map[string]func() (net.Conn, error)
		host string
		well bool
		want []string
	}{
		"well": {
			map[string]func() (net.Conn, error){addr: xmppServer("<mechanism>SCRAM-SHA-1</mechanism>")}, "xmpp.example.com", true,
			[]string{addr + " takes clients in plain", "SCRAM-SHA-1", "mod_stream_mgmt"},
		},
		"channel binding": {
			map[string]func() (net.Conn, error){addr: xmppServer("<mechanism>SCRAM-SHA-1-PLUS</mechanism>")}, "xmpp.example.com", false,
			[]string{"SCRAM-SHA-1-PLUS", "-> clients' TLS ends at the edge", "shared_cert"},
		},
		"nobody there": {nil, "xmpp.example.com", false, []string{"connection refused", "-> does the server listen there"}},
		"no such name": {nil, "xmpp.example.net", false, []string{"no such host", "-> correct the upstream's name"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := &fakeNet{hosts: map[string]bool{"xmpp.example.com": true}, dial: c.dial}
			out, well := checkOutput(t, n, func(k *checker) {
				k.xmppDomain(&core.XMPPDomainConfig{Name: "example.com", Upstream: "xmpp+plain://" + c.host})
			})
			if well != c.well {
				t.Errorf("well: %v", well)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}
