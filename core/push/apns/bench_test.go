package apns_test

import (
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
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

// childEnv makes the test binary a simulator: its latency. It serves until its
// standard input ends.
const childEnv = "SALLYPORT_TEST_APNS_LATENCY"

// remote is a simulator in a process of its own, as it tells of itself.
type remote struct {
	URL, CA, Key, KeyID, TeamID, Control string
}

// serveRemote is the child.
func serveRemote() error {
	latency, err := time.ParseDuration(os.Getenv(childEnv))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sim := pushtest.NewAPNs(pushtest.APNsConfig{AnyToken: true, ConnRate: -1})
	sim.SetLatency(latency)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: sim.Control(), ReadHeaderTimeout: time.Second}
	defer srv.Close()
	go func() { _ = srv.Serve(control) }()
	served := make(chan error, 1)
	go func() { served <- sim.Serve(ctx, l) }()
	<-sim.Ready()
	r := remote{URL: sim.URL(), Control: "http://" + control.Addr().String()}
	if r.CA, r.Key, r.KeyID, r.TeamID, err = sim.WriteFiles(os.Args[1]); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	return <-served
}

// startRemote runs the child until the benchmark ends.
func startRemote(b *testing.B, latency time.Duration) (r remote) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0], b.TempDir())
	cmd.Env = append(os.Environ(), childEnv+"="+latency.String())
	cmd.Stderr = os.Stderr
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
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		b.Fatal(err)
	}
	return r
}

// stats are the simulator's.
func (r *remote) stats(b *testing.B) (s pushtest.Stats) {
	b.Helper()
	resp, err := http.Get(r.Control + "/stats")
	if err != nil {
		b.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		b.Fatal(err)
	}
	return s
}

// lane is the whole way of a call's push: choice of token, payload, gate,
// HTTP/2.
func (r *remote) lane(b *testing.B) *push.Service {
	b.Helper()
	c, err := apns.New(apns.Config{
		BundleID: bundle, TeamID: r.TeamID, KeyID: r.KeyID, KeyFile: r.Key, Endpoint: r.URL, CAFile: r.CA,
	}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return push.New(push.Config{Enabled: true}, []push.App{{ID: bundle, Provider: push.ProviderAPNs, TeamID: r.TeamID, Sender: c}}, nil, nil)
}

// phones are devices with two tokens each.
func (r *remote) phones(n int) []push.Target {
	all := make([]push.Target, n)
	for i := range all {
		token := func(kind, suffix string) push.Token {
			return push.Token{
				Provider: push.ProviderAPNs, Kind: kind, Param: r.TeamID + "." + bundle + suffix, Value: pushtest.NewToken(),
				Registered: time.Now(),
			}
		}
		all[i] = push.Target{
			Device: "sip:bob@example.com " + strconv.Itoa(i), Class: push.ClassSplit,
			Tokens: []push.Token{token(push.KindVoIP, ".voip"), token(push.KindAlert, "")},
		}
	}
	return all
}

func callOf(i int) push.Call {
	now := time.Now()
	return push.Call{
		CallID: "a84b4c76e66710-" + strconv.Itoa(i), FromURI: "sip:carol@example.com", FromName: "Carol", Number: "carol",
		To: "sip:bob@example.com", Sent: now, RingUntil: now.Add(13 * time.Second),
	}
}

// bare is net/http with one connection, a token that is ready, and a payload
// that is ready: what a push costs at least in Go.
func (r *remote) bare(b *testing.B, token string) func(path, id string, payload []byte) {
	b.Helper()
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(r.CA)
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		b.Fatal("no CA", err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableCompression: true}
	b.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr}
	return func(path, id string, payload []byte) {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, r.URL+path, bytes.NewReader(payload))
		if err != nil {
			b.Error(err)
			return
		}
		req.Header = http.Header{
			"Authorization": {"bearer " + token}, "Apns-Topic": {bundle + ".voip"}, "Apns-Push-Type": {"voip"},
			"Apns-Priority": {"10"}, "Apns-Expiration": {"0"}, "Apns-Id": {id}, "Content-Type": {"application/json"},
		}
		resp, err := client.Do(req)
		if err != nil {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Errorf("status %d", resp.StatusCode)
		}
	}
}

// cpu is what this process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// inParallel does f for each number below n with 32 workers, and returns the
// processor time.
func inParallel(n int, f func(i int)) time.Duration {
	const workers = 32
	start := cpu()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
	return cpu() - start
}

// BenchmarkTenThousandCalls compares 10,000 call pushes through the whole lane
// with as many through net/http alone, in turn, against one simulator in another
// process. Run it with -benchtime=1x; it takes its rounds itself.
func BenchmarkTenThousandCalls(b *testing.B) {
	const n, rounds = 10_000, 7
	r := startRemote(b, 0)
	s, phones := r.lane(b), r.phones(n)
	key, err := os.ReadFile(r.Key)
	if err != nil {
		b.Fatal(err)
	}
	token, err := apns.SignForBenchmark(key, r.KeyID, r.TeamID)
	if err != nil {
		b.Fatal(err)
	}
	bare := r.bare(b, token)
	payload := []byte(`{"aps":{},"v":1,"channel":"voip","event":"call","call_id":"a84b4c76e66710-1234","uuid":"5d3ba1ec-2ee7-5e8e-8b0b-3e1f0d2f4c11",` +
		`"from_uri":"sip:carol@example.com","from_name":"Carol","number":"carol","to":"sip:bob@example.com","video":false,"sent_at":1764000000000,"ring_until":1764000013000}`)
	calls := 0
	ours := func(i int) {
		if res := s.Call(b.Context(), phones[i], callOf(calls+i)); res.Outcome != push.Accepted {
			b.Errorf("%+v", res)
		}
	}
	floor := func(i int) {
		bare("/3/device/"+phones[i].Tokens[0].Value, fmt.Sprintf("00000000-0000-4000-8000-%012x", i), payload)
	}
	ours(0) // both connections warm
	floor(0)
	var a, f, ratios []float64
	for range rounds {
		calls += n
		us := inParallel(n, ours).Seconds()
		them := inParallel(n, floor).Seconds()
		a, f, ratios = append(a, us), append(f, them), append(ratios, us/them)
	}
	b.ReportMetric(median(a), "lane-cpu-s/10k")
	b.ReportMetric(median(f), "bare-cpu-s/10k")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(float64(r.stats(b).Connections), "connections")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// BenchmarkColdCalls is a burst of calls to an APNs that is 50 ms away and to
// which there is no connection yet.
func BenchmarkColdCalls(b *testing.B) {
	for _, n := range []int{20, 200, 500} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			r := startRemote(b, 50*time.Millisecond)
			var took []float64
			runs := 0
			for b.Loop() {
				s, phones := r.lane(b), r.phones(n)
				runs++
				var wg sync.WaitGroup
				start := time.Now()
				for i := range n {
					wg.Go(func() {
						if res := s.Call(b.Context(), phones[i], callOf(i)); res.Outcome != push.Accepted {
							b.Errorf("%+v", res)
						}
					})
				}
				wg.Wait()
				took = append(took, float64(time.Since(start).Milliseconds()))
			}
			st := r.stats(b)
			b.ReportMetric(median(took), "ms/burst")
			b.ReportMetric(slices.Max(took), "worst-ms")
			b.ReportMetric(float64(st.Connections)/float64(runs), "connections/burst")
			b.ReportMetric(float64(st.Refused), "refused")
		})
	}
}

// BenchmarkProviderToken is what a connection pays each half hour.
func BenchmarkProviderToken(b *testing.B) {
	p8, _, err := pushtest.GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := apns.SignForBenchmark(p8, "K", "T"); err != nil {
			b.Fatal(err)
		}
	}
}
