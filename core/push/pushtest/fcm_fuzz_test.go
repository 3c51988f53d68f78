package pushtest_test

import (
	"encoding/json"
	"testing"
	"time"

	"sallyport/core/push/pushtest"
)

func FuzzFCMAssertion(f *testing.F) {
	sim := pushtest.NewFCM(pushtest.FCMConfig{})
	f.Add("e30.e30.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, assertion string) {
		if pushtest.GrantsAccess(sim, assertion, "https://localhost/token", time.Now()) {
			t.Errorf("%q was taken, and nobody signed it", assertion)
		}
	})
}

func FuzzFCMShape(f *testing.F) {
	f.Add([]byte(call("token")))
	f.Add([]byte(`{"message":{"android":{"ttl":"99999999999s","notification":{"proxy":"DENY"}}}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if pushtest.ShapeFault(body) == "" && !json.Valid(body) {
			t.Errorf("%q fits the schema and is no JSON", body)
		}
	})
}
