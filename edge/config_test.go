package edge_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"sallyport/edge"
)

// contract is edge.toml as it is promised to operators. Its values are the
// defaults, except for names and addresses.
const contract = `
[public]
hostname = "edge.example.com"
https = ":443"
sips  = ":5061"
http  = ""
xmpps = ":5223"
advertise_sips = ""
advertise_https = ""
origins = ["*"]
ws_ping = "25s"
pong_timeout = "10s"
flow_timer = "120s"
tcp_user_timeout = "20s"
[tls]
acme = true
acme_email = "ops@example.com"
acme_directory = ""
acme_dir = "/var/lib/sallyport/acme"
cert = ""
key = ""
[tunnel]
listen = "10.1.0.4:7443"
allow = []
identity = "/etc/sallyport/edge1.pem"
[limits]
max_flows = 100000
flows_per_ip = 1000
new_flows_per_second = 500
new_flows_per_ip_per_second = 20
handshake_timeout = "10s"
first_message_timeout = "10s"
max_message = "64KiB"
xmpp_rate = "1MiB"
[admin]
listen = "127.0.0.1:9461"
[log]
level = "info"
format = "json"
`

func decode(t *testing.T, text string, into edge.Config) edge.Config {
	t.Helper()
	d := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(&into); err != nil {
		t.Fatal(err)
	}
	return into
}

func TestContractIsValidAndHoldsTheDefaults(t *testing.T) {
	want := edge.DefaultConfig()
	want.Public.Hostname = "edge.example.com"
	want.TLS.ACMEEmail = "ops@example.com"
	want.Tunnel = edge.Tunnel{Listen: "10.1.0.4:7443", Allow: []string{}, Identity: "/etc/sallyport/edge1.pem"}
	got := decode(t, contract, edge.Config{})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the contract and DefaultConfig differ (-default +contract):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestMoreCertificatesAreChosenBySNI(t *testing.T) {
	c := decode(t, contract+`
[[tls.certificate]]
cert = "/etc/a.pem"
key = "/etc/a.key"
names = ["xmpp.example.com", "*.example.org"]
`, edge.Config{})
	if err := c.Validate(); err != nil || len(c.TLS.Certificates) != 1 || c.TLS.Certificates[0].Names[1] != "*.example.org" {
		t.Errorf("%+v, %v", c.TLS.Certificates, err)
	}
}

func TestEveryFaultIsToldUnderItsKey(t *testing.T) {
	cases := map[string]string{
		`public.hostname: is empty`:                               `hostname = "edge.example.com"=>hostname = ""`,
		`public.hostname: "sip:x" is no DNS name`:                 `hostname = "edge.example.com"=>hostname = "sip:x"`,
		`public.https: "443" is no address`:                       `https = ":443"=>https = "443"`,
		`public.sips: ":99999" is no address`:                     `sips  = ":5061"=>sips = ":99999"`,
		`public.advertise_sips: "x" is no host:port`:              `advertise_sips = ""=>advertise_sips = "x"`,
		`public.origins: "app.example.com" is no origin`:          `origins = ["*"]=>origins = ["app.example.com"]`,
		`public.ws_ping: must be from 1s to 1h (got 0s)`:          `ws_ping = "25s"=>ws_ping = "0s"`,
		`public.flow_timer: must be from`:                         `flow_timer = "120s"=>flow_timer = "-1s"`,
		`tls.cert: is empty and tls.acme is false`:                `acme = true=>acme = false`,
		`tls.key: is empty, but tls.cert is set`:                  `cert = ""=>cert = "a.pem"`,
		`tls.acme_email: "mailto:a@b" is no mail address`:         `acme_email = "ops@example.com"=>acme_email = "mailto:a@b"`,
		`tls.acme: no authority is asked to certify "192.0.2.1"`:  `hostname = "edge.example.com"=>hostname = "192.0.2.1"`,
		`tls.acme: no authority is asked to certify "edge"`:       `hostname = "edge.example.com"=>hostname = "edge"`,
		`tls.acme: the certificate authority calls on public.htt`: `https = ":443"=>https = ""`,
		`tls.acme_directory: "http://x" is no https URL`:          `acme_directory = ""=>acme_directory = "http://x"`,
		`tunnel.listen: is empty`:                                 `listen = "10.1.0.4:7443"=>listen = ""`,
		`tunnel.allow: "ten" is no CIDR`:                          `allow = []=>allow = ["10.0.0.0/8", "ten"]`,
		`tunnel.identity: is empty`:                               `identity = "/etc/sallyport/edge1.pem"=>identity = ""`,
		`limits.max_flows: must be positive (got 0)`:              `max_flows = 100000=>max_flows = 0`,
		`limits.new_flows_per_ip_per_second: must be positive`:    `new_flows_per_ip_per_second = 20=>new_flows_per_ip_per_second = -5`,
		`limits.handshake_timeout: must be from`:                  `handshake_timeout = "10s"=>handshake_timeout = "0s"`,
		`limits.max_message: must be from 1KiB to 64KiB`:          `max_message = "64KiB"=>max_message = "1MiB"`,
		`limits.xmpp_rate: must be from 16KiB to 1GiB, or 0B fo`:  `xmpp_rate = "1MiB"=>xmpp_rate = "1KiB"`,
		`log.level: "loud" is none of debug, info, warn, error`:   `level = "info"=>level = "loud"`,
		`log.format: "xml" is none of json, text`:                 `format = "json"=>format = "xml"`,
		`admin.listen: "localhost" is no address to listen on`:    `listen = "127.0.0.1:9461"=>listen = "localhost"`,
		`public.https: public.sips and public.xmpps are all off`:  "https = \":443\"\nsips  = \":5061\"\nhttp  = \"\"\nxmpps = \":5223\"=>https = \"\"\nsips = \"\"\nxmpps = \"\"",
		`public.http: redirects to public.https, which is off`:    "https = \":443\"\nsips  = \":5061\"\nhttp  = \"\"=>https = \"\"\nsips = \":5061\"\nhttp = \":80\"",
		`public.pong_timeout: must be from 100ms to 1h (got 99h)`: `pong_timeout = "10s"=>pong_timeout = "99h"`,
	}
	for want, change := range cases {
		from, to, _ := strings.Cut(change, "=>")
		if !strings.Contains(contract, from) {
			t.Fatalf("%q is not in the contract", from)
		}
		err := decode(t, strings.Replace(contract, from, to, 1), edge.Config{}).Validate()
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want only %q", to, err, want)
		}
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	err := edge.Config{}.Validate()
	for _, key := range []string{"public.hostname", "tls.cert", "tunnel.listen", "limits.max_flows", "log.level"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s is not in: %v", key, err)
		}
	}
}
