package jetstream_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/jetstream"
	"sallyport/core/location"
)

// childEnv makes the test binary the core that gets killed: its value is the
// store's directory.
const childEnv = "SALLYPORT_TEST_KILLED_CORE"

func TestMain(m *testing.M) {
	for env, core := range map[string]func(dir string) error{childEnv: bindForever, pushEnv: pushForever, sessionsEnv: appendForever} {
		if dir := os.Getenv(env); dir != "" {
			if err := core(dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	goleak.VerifyTestMain(m)
}

// bindForever binds device after device and says on stdout which Bind returned.
func bindForever(dir string) error {
	s, err := jetstream.Open(context.Background(), jetstream.Config{Dir: dir}, nil)
	if err != nil {
		return err
	}
	l := location.New(location.Config{Core: "core1"}, s.Devices(), nil)
	for i := 0; ; i++ {
		b, tokens := registration(i)
		if err := l.Bind(b, tokens, "split"); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

func registration(i int) (location.Binding, []location.Token) {
	aor := fmt.Sprintf("sip:user%d@example.com", i)
	return location.Binding{
			AOR: aor, Instance: fmt.Sprintf("<urn:uuid:00000000-0000-4000-8000-%012d>", i), RegID: 1,
			Contact: fmt.Sprintf("<sip:%d@10.0.0.1:5060;transport=tls>;+sip.ice", i),
			URI:     fmt.Sprintf("sip:%d@10.0.0.1:5060;transport=tls", i),
			Token:   fmt.Sprintf("token%d", i), Flow: fmt.Sprintf("edge1/1/%d", i),
			Registered: time.Now(), Expires: time.Now().Add(time.Hour),
		}, []location.Token{
			{Provider: "apns", Kind: "voip", App: "org.example.phone", Value: fmt.Sprintf("voip%d", i)},
			{Provider: "apns", Kind: "alert", App: "org.example.phone", Value: fmt.Sprintf("alert%d", i)},
		}
}
