package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

const (
	// fetchTimeout bounds one fetch. Each has a connection of its own: once an
	// hour there is none worth keeping.
	fetchTimeout = 10 * time.Second
	// aheadOf is how long before its end a token is replaced, or a sixth of its
	// life if that is less.
	aheadOf = 10 * time.Minute
	// slack is how long before its end a token is used no more: a push takes time.
	slack = 10 * time.Second
	// After a fetch that failed the next one waits: 1 s, and twice as long each
	// time, up to 4 s where there was no answer, so that all is well within 5 s of
	// the proxy's return, and up to 5 min where Google refused.
	firstWait   = time.Second
	maxSilent   = 4 * time.Second
	maxRefused  = 5 * time.Minute
	firstRefuse = 5 * time.Second
	// maxToken bounds an access token in bytes. Google's have about a thousand,
	// and may have 2048.
	maxToken = 8 << 10
)

// keeper keeps an access token at hand (RFC 7523). One fetch serves all that
// wait for it, and none of them can end it by leaving.
type keeper struct {
	// Static.
	transport http.RoundTripper
	told      func(fetched) // of each fetch that ended; must not call back

	wake chan struct{} // for run: something changed
	wg   sync.WaitGroup

	mu      sync.Mutex
	account *account      // guarded by mu
	token   string        // guarded by mu; secret
	issued  time.Time     // guarded by mu; when the token was
	expires time.Time     // guarded by mu
	renew   time.Time     // guarded by mu; when run replaces the token
	under   *fetch        // guarded by mu; nil: none is under way
	failure error         // guarded by mu; of the last fetch
	again   time.Time     // guarded by mu; no fetch before this
	wait    time.Duration // guarded by mu; the step between failures
	closed  bool          // guarded by mu
}

// fetch is one that is under way. err is set before done is closed.
type fetch struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// fetched is what became of a fetch.
type fetched struct {
	err  error
	date time.Time // by the server's clock; zero when it did not say
}

func newKeeper(a *account, transport http.RoundTripper, told func(fetched)) *keeper {
	return &keeper{account: a, transport: transport, told: told, wake: make(chan struct{}, 1)}
}

// get returns an access token, at once if there is one. Otherwise it waits for
// a fetch while ctx lives; where one has just failed, it fails as that did.
func (k *keeper) get(ctx context.Context) (string, error) {
	k.mu.Lock()
	f, err := k.fetchUnlessValid(time.Now())
	token := k.token
	k.mu.Unlock()
	if f == nil || err != nil {
		return token, err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return "", fmt.Errorf("%w: %w", errTokenless, context.Cause(ctx))
	}
	if f.err != nil {
		return "", f.err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.token == "" { // dropped meanwhile
		return "", errDropped
	}
	return k.token, nil
}

var (
	errTokenless = errors.New("no access token")
	errDropped   = fmt.Errorf("%w: it was refused", errTokenless)
)

// fetchUnlessValid returns nil where the token is valid. Guarded by mu.
func (k *keeper) fetchUnlessValid(now time.Time) (*fetch, error) {
	switch {
	case k.closed:
		return nil, errClosed
	case k.token != "" && now.Before(k.expires.Add(-slack)):
		return nil, nil
	case k.under == nil && now.Before(k.again):
		return nil, k.failure
	}
	return k.start(), nil
}

// start begins a fetch or returns the one under way. Guarded by mu.
func (k *keeper) start() *fetch {
	if k.under != nil {
		return k.under
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	f, a := &fetch{cancel: cancel, done: make(chan struct{})}, k.account
	k.under = f
	k.wg.Go(func() {
		defer cancel()
		t, date, err := retrieve(ctx, a, k.transport)
		k.end(f, a, t, err)
		k.told(fetched{err: f.err, date: date})
		close(f.done)
		k.poke()
	})
	return f
}

// end notes what became of f, for which a asked.
func (k *keeper) end(f *fetch, a *account, t *oauth2.Token, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if err == nil && t.Expiry.Sub(now) <= slack {
		err = fmt.Errorf("%w: Google gave one that is at its end: is this machine's clock right?", errTokenless)
	}
	k.under, f.err = nil, err
	switch {
	case k.closed:
		f.err = errClosed
	case k.account != a: // another account since: this says nothing of it
	case err != nil:
		k.failure, k.wait = err, nextWait(k.wait, err)
		k.again = now.Add(k.wait)
	default:
		life := t.Expiry.Sub(now)
		k.issued = now
		k.token, k.expires, k.renew = t.AccessToken, t.Expiry, t.Expiry.Add(-min(aheadOf, life/6))
		k.failure, k.again, k.wait = nil, time.Time{}, 0
	}
}

// nextWait is how long to wait after err, having waited for last before.
func nextWait(last time.Duration, err error) time.Duration {
	first, most := firstWait, maxSilent
	var r *refusal
	if errors.As(err, &r) {
		first, most = firstRefuse, maxRefused
	}
	return min(max(first, 2*last), most)
}

// run fetches each token before the last one ends, while ctx lives.
func (k *keeper) run(ctx context.Context) {
	for {
		t := time.NewTimer(k.due())
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-k.wake:
		case <-t.C:
			k.mu.Lock()
			if !k.closed {
				k.start()
			}
			k.mu.Unlock()
		}
		t.Stop()
	}
}

// due is how long run has to wait for the next fetch.
func (k *keeper) due() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.under != nil, k.closed:
		return fetchTimeout // the end of the fetch wakes run
	case k.token != "" && k.again.Before(k.renew):
		return time.Until(k.renew)
	default:
		return time.Until(k.again)
	}
}

func (k *keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// drop forgets token, which Google refused.
func (k *keeper) drop(token string) {
	k.mu.Lock()
	if k.token == token {
		k.token = ""
	}
	k.mu.Unlock()
	k.poke()
}

// use changes to another account, whose token is fetched anew.
func (k *keeper) use(a *account) {
	k.mu.Lock()
	k.account, k.token, k.failure, k.again, k.wait = a, "", nil, time.Time{}, 0
	if k.under != nil {
		k.under.cancel()
	}
	k.mu.Unlock()
	k.poke()
}

// state is when the access token at hand was issued, zero without one, and to
// whom.
func (k *keeper) state() (issued time.Time, email string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.token != "" {
		issued = k.issued
	}
	return issued, k.account.jwt.Email
}

// close ends the fetch under way and waits for it.
func (k *keeper) close() {
	k.mu.Lock()
	k.closed = true
	if k.under != nil {
		k.under.cancel()
	}
	k.mu.Unlock()
	k.wg.Wait()
}

// A refusal is an answer of the token endpoint that is not a token.
type refusal struct {
	status int
	code   string // such as invalid_grant (RFC 6749 §5.2), or ""
}

// Error names status and code, and nothing else of what was answered: a proxy
// or a broken server may repeat our assertion.
func (r *refusal) Error() string {
	if r.code == "" {
		return fmt.Sprintf("no access token: HTTP status %d from the token endpoint", r.status)
	}
	return fmt.Sprintf("no access token: %s (HTTP status %d from the token endpoint)", r.code, r.status)
}

// retrieve asks once for a token.
func retrieve(ctx context.Context, a *account, base http.RoundTripper) (*oauth2.Token, time.Time, error) {
	var x oauthExchange
	hc := &http.Client{
		Transport:     &x,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	x.ctx, x.base = ctx, base
	t, err := a.jwt.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, hc)).Token()
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused):
		return nil, x.date, &refusal{status: x.status, code: oauthCode(refused.Body)}
	case x.err != nil:
		return nil, x.date, fmt.Errorf("%w: %w", errTokenless, x.err)
	case err != nil || t.AccessToken == "" || len(t.AccessToken) > maxToken || !printable(t.AccessToken):
		return nil, x.date, &refusal{status: x.status, code: "an answer that holds no token"}
	case t.Expiry.IsZero():
		t.Expiry = time.Now().Add(time.Hour) // what Google's tokens have
	}
	return t, x.date, nil
}

// oauthCode is the error of RFC 6749 §5.2, if it can be one.
func oauthCode(body []byte) string {
	var e struct {
		Code string `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil || len(e.Code) > 64 || strings.Trim(e.Code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return e.Code
}

// oauthExchange carries the one request of a fetch: the library gives it
// neither a context nor a bound, and makes a text of its error.
type oauthExchange struct {
	// Static.
	ctx  context.Context
	base http.RoundTripper

	// Owned by the fetch.
	status int
	date   time.Time
	err    error
}

// RoundTrip implements [http.RoundTripper].
func (x *oauthExchange) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := x.base.RoundTrip(r.WithContext(x.ctx))
	if err != nil {
		x.err = err
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	_ = resp.Body.Close()
	if err != nil {
		x.err = err
		return nil, err
	}
	x.status, x.date = resp.StatusCode, dateOf(resp.Header)
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp, nil
}
