package arch

// module is the prefix of every room of ours.
const module = "sallyport/"

// anything stands for "may enter every room".
const anything = "*"

// mayImport lists every room and the rooms of ours it may enter. A new room is
// a decision: it gets a row here and in docs/architecture.md.
var mayImport = map[string][]string{
	"tunnel/frame":     {},
	"tunnel/unit":      {},
	"tunnel/sipstream": {},
	"tunnel":           {"tunnel/frame"},

	"certs":          {},
	"certs/ca":       {},
	"certs/acmetest": {},

	"edge/alarm":     {},
	"edge/wsframe":   {},
	"edge/transport": {"edge/alarm", "edge/wsframe", "tunnel/sipstream", "tunnel/unit"},
	"edge/admission": {"tunnel/unit"},
	"edge/flow":      {"edge/alarm", "edge/transport"},
	"edge/relay":     {"edge/flow", "edge/admission", "edge/transport", "tunnel"},
	"edge":           {"edge/*", "tunnel", "tunnel/unit", "certs"},

	"core/sipmsg":         {},
	"core/stanza":         {},
	"core/inorder":        {},
	"core/location":       {"core/inorder", "core/vault"},
	"core/vault":          {},
	"core/liveness":       {},
	"core/presence":       {"core/inorder"},
	"core/push":           {"core/inorder", "core/push/aes128gcm"},
	"core/push/aes128gcm": {},
	"core/push/apns":      {"core/inorder", "core/push"},
	"core/push/fcm":       {"core/inorder", "core/push"},
	"core/push/webpush":   {"core/push", "core/push/aes128gcm"},
	"core/push/pushtest":  {"core/push/aes128gcm"},
	"core/wake":           {"core/liveness", "core/push"},
	"core/downstream":     {"tunnel"},
	"core/upstream":       {"tunnel/sipstream", "core/sipmsg"},
	"core/upstream/c2s":   {"core/stanza"},
	"core/registrar":      {"core/location", "core/sipmsg"},
	"core/trace":          {},
	"core/im":             {"core/location", "core/wake"},
	"core/sipproxy": {
		"core/location", "core/liveness", "core/wake", "core/downstream", "core/upstream",
		"core/registrar", "core/im", "core/presence", "core/trace", "core/sipmsg", "tunnel",
	},
	"core/xmppproxy": {
		"core/location", "core/liveness", "core/wake", "core/downstream", "core/upstream", "core/upstream/c2s",
		"core/im", "core/stanza", "core/xmppproxy/session", "core/xmppproxy/classify", "core/xmppproxy/notify", "core/inorder", "tunnel",
	},
	"core/xmppproxy/session":  {"core/stanza"},
	"core/xmppproxy/classify": {"core/stanza"},
	"core/xmppproxy/notify":   {"core/inorder", "core/location", "core/wake", "core/stanza", "core/xmppproxy/session", "core/xmppproxy/classify"},

	"core/jetstream": {"core/location", "core/im", "core/push", "core/trace", "core/registrar", "core/xmppproxy/session"},
	"core/admin":     {"core/*", "tunnel"},
	"core":           {"core/*", "tunnel", "tunnel/unit", "certs"},

	"cmd/internal/boot":  {},
	"cmd/sallyport-edge": {"cmd/internal/boot", "edge"},
	"cmd/sallyport-core": {"cmd/internal/boot", "core"},
	"cmd/sallyport":      {anything},

	"test/arch":    {anything},
	"test/deploy":  {anything},
	"test/phone":   {anything},
	"test/e2e":     {anything},
	"test/interop": {anything},
	"test/load":    {anything},
	"test/process": {},
	"test/xmpp":    {"core/stanza", "test/process"},
	"test/lossy":   {},

	"test/load/loadgen": {},
	"test/load/peers":   {anything},
}

// neverReaches lists what a package must not contain, directly or through
// others, and why.
var neverReaches = []struct {
	room, forbidden, why string
}{
	{"edge", "github.com/emiago/sipgo", "the edge is blind: it cuts streams and passes bytes, and a SIP parser in the DMZ is attack surface"},
	{"edge", "github.com/nats-io", "the edge stores nothing: whoever takes the DMZ host gets passing traffic, no state"},
	{"edge", module + "core", "edge and core meet in tunnel alone"},
	{"core", module + "edge", "edge and core meet in tunnel alone"},
	{"tunnel", "github.com/emiago/sipgo", "the tunnel carries bytes; it knows no SIP"},
	{"cmd/sallyport-edge", module + "core", "the DMZ binary must not hold what handles users, keys and messages"},
	{"cmd/sallyport-edge", "github.com/emiago/sipgo", "the edge is blind"},
	{"cmd/sallyport-edge", module + "certs/acmetest", "a certificate authority is for tests"},
	{"cmd/sallyport-edge", module + "core/push/pushtest", "simulators are for tests and the demo"},
	{"cmd/sallyport-edge", module + "test", "test support is for tests and the demo"},
	{"cmd/sallyport-core", module + "edge", "edge and core meet in tunnel alone"},
	{"cmd/sallyport-core", module + "core/push/pushtest", "simulators are for tests and the demo"},
	{"cmd/sallyport-core", module + "test", "test support is for tests and the demo"},
	{"cmd/sallyport-core", module + "certs/ca", "the CA's key stays with the operator; a service only holds its own bundle"},
	{"cmd/sallyport-edge", module + "certs/ca", "the CA's key stays with the operator; a service only holds its own bundle"},
}
