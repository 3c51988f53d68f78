package pushtest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/push/pushtest"
)

// onTCP runs a push service on loopback until the test ends, for a client of
// one version of HTTP.
func onTCP(t *testing.T, protocols string) (*pushtest.WebPush, *http.Client) {
	t.Helper()
	sim := pushtest.NewWebPush(pushtest.WebPushConfig{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := sim.Serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	<-sim.Ready()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(sim.CA())
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, NextProtos: []string{protocols}}, ForceAttemptHTTP2: protocols == "h2",
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		wg.Wait()
	})
	return sim, &http.Client{Transport: transport, Timeout: 5 * time.Second}
}

// Over HTTP/1.1 as over HTTP/2, connections are ended and fall silent when the
// simulator is told so, and the next ones work.
func TestWebConnectionsOfBothVersions(t *testing.T) {
	for proto, version := range map[string]string{"h2": "HTTP/2.0", "http/1.1": "HTTP/1.1"} {
		t.Run(version, func(t *testing.T) {
			sim, client := onTCP(t, proto)
			sub, err := sim.NewSubscription("")
			if err != nil {
				t.Fatal(err)
			}
			push := func() (string, error) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, sub.Endpoint, strings.NewReader(""))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("TTL", "0")
				resp, err := client.Do(req)
				if err != nil {
					return "", err
				}
				resp.Body.Close()
				return fmt.Sprint(resp.Proto, " ", resp.StatusCode), nil
			}
			accepted := func(when string, connections int) {
				t.Helper()
				got, err := push()
				for range 3 { // a connection that ended may be found out by a request
					if err == nil {
						break
					}
					got, err = push()
				}
				if opened, _ := sim.Connections(); got != version+" 201" || opened != connections {
					t.Errorf("%s: %q, %v, on connection %d, want %d", when, got, err, opened, connections)
				}
			}
			accepted("at first", 1)
			accepted("again", 1)
			sim.Disconnect()
			accepted("after a disconnect", 2)
			sim.GoAway()
			client.CloseIdleConnections() // the news may still be under way
			accepted("after GOAWAY", 3)
			if err := sim.RotateCertificate(); err != nil {
				t.Fatal(err)
			}
			client.CloseIdleConnections()
			accepted("with another certificate", 4)
			client.Timeout = 50 * time.Millisecond
			sim.BlackHole()
			if got, err := push(); err == nil {
				t.Errorf("through a black hole came %q", got)
			}
		})
	}
}
