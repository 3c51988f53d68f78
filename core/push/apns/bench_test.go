package apns_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

// BenchmarkCall is one call push end to end: choice of token, payload, HTTP/2
// and TLS to a simulator in the same process, which takes its part of the
// time.
func BenchmarkCall(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	sim := pushtest.NewAPNs(pushtest.APNsConfig{AnyToken: true})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = sim.Serve(ctx, l) })
	defer wg.Wait()
	defer cancel()
	<-sim.Ready()
	ca, key, kid, team, err := sim.WriteFiles(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	c, err := apns.New(apns.Config{
		BundleID: bundle, TeamID: team, KeyID: kid, KeyFile: key, Endpoint: sim.URL(), CAFile: ca,
	}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s := push.New(push.Config{Enabled: true}, []push.App{{ID: bundle, Provider: push.ProviderAPNs, TeamID: team, Sender: c}}, nil, nil)
	tokens := []push.Token{{
		Provider: push.ProviderAPNs, Kind: push.KindVoIP, Param: team + "." + bundle + ".voip", Value: pushtest.NewToken(),
	}}
	call := push.Call{CallID: "a84b4c76e66710", FromURI: "sip:carol@example.com", FromName: "Carol", To: "sip:bob@example.com"}
	b.ReportAllocs()
	for b.Loop() {
		if r := s.Call(ctx, push.Target{Tokens: tokens, Class: push.ClassSplit}, call); r.Outcome != push.Accepted {
			b.Fatalf("%+v", r)
		}
	}
}

// BenchmarkProviderToken is what a connection pays each half hour.
func BenchmarkProviderToken(b *testing.B) {
	dir := b.TempDir()
	p8, _, err := pushtest.GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, "k.p8")
	if err := os.WriteFile(path, p8, 0o600); err != nil {
		b.Fatal(err)
	}
	sign, err := apns.SignForBenchmark(path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		sign()
	}
}
