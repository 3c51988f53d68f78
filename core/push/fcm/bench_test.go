package fcm_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/fcm"
	"sallyport/core/push/pushtest"
)

// served names the environment variable that makes TestServe a server, in a
// process whose CPU time is not the client's.
const served = "SALLYPORT_TEST_FCM"

func TestServe(t *testing.T) {
	dir := os.Getenv(served)
	if dir == "" {
		t.Skip("it is the other process of the benchmark")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sim := pushtest.NewFCM(pushtest.FCMConfig{AnyToken: true, PerMinute: 1 << 30})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = sim.Serve(ctx, l) })
	<-sim.Ready()
	if _, _, err := sim.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	fmt.Println("serving " + sim.URL())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark ends
	cancel()
	wg.Wait()
}

// serveElsewhere starts TestServe in another process, and returns its URL and
// where its files are.
func serveElsewhere(b *testing.B) (url, dir string) {
	b.Helper()
	dir = b.TempDir()
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run=^TestServe$")
	cmd.Env = append(os.Environ(), served+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "serving "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return url, dir
		}
	}
	b.Fatal("the server did not start")
	return "", ""
}

// crowd runs do n times, 32 at a time, and returns the CPU time that it took.
func crowd(b *testing.B, n int, do func(i int) error) time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	work := make(chan int)
	failed := make(chan error, 1)
	before := cpu(b)
	for range 32 {
		wg.Go(func() {
			for i := range work {
				if err := do(i); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	took := cpu(b) - before
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
	return took
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bare posts what the client sends, over net/http and nothing else.
func bare(b *testing.B, url, dir, access string) func(token string) error {
	b.Helper()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	b.Cleanup(tr.CloseIdleConnections)
	hc := &http.Client{Transport: tr}
	type object = map[string]any
	return func(token string) error {
		body, err := json.Marshal(object{"message": object{
			"token": token, "data": ring(push.Token{}).Data, "android": object{"priority": "high", "ttl": "0s"},
		}})
		if err != nil {
			return err
		}
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost,
			url+"/v1/projects/"+pushtest.DefaultProject+"/messages:send", bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+access)
		resp, err := hc.Do(r)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("HTTP status %d", resp.StatusCode)
		}
		return err
	}
}

// BenchmarkCPU sends 10,000 calls by a bare client and by ours, in turns, to a
// server in another process. -benchtime=9x gives medians of nine.
func BenchmarkCPU(b *testing.B) {
	const n = 10_000
	url, dir := serveElsewhere(b)
	cfg := fcm.Config{
		Package: pkg, ServiceAccount: filepath.Join(dir, "service-account.json"), Endpoint: url, CAFile: filepath.Join(dir, "ca.pem"),
	}
	c, err := fcm.New(cfg, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ours := func(token string) error {
		n := ring(push.Token{Value: token})
		n.Until = time.Now().Add(time.Minute)
		if r := c.Send(b.Context(), n); r.Outcome != push.Accepted {
			return fmt.Errorf("%+v", r)
		}
		return nil
	}
	if err := ours(pushtest.NewFCMToken()); err != nil {
		b.Fatal(err)
	}
	theirs := bare(b, url, dir, fcm.AccessToken(c))
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = pushtest.NewFCMToken()
	}
	var floor, used, ratio []float64
	for b.Loop() {
		a := crowd(b, n, func(i int) error { return theirs(tokens[i]) }).Seconds()
		o := crowd(b, n, func(i int) error { return ours(tokens[i]) }).Seconds()
		floor, used, ratio = append(floor, a), append(used, o), append(ratio, o/a)
	}
	b.ReportMetric(median(floor), "bare-cpu-s/10k")
	b.ReportMetric(median(used), "fcm-cpu-s/10k")
	b.ReportMetric(median(ratio), "ratio")
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}
