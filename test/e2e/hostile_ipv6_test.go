package e2e

import "testing"

// ordeals5118 are the messages of RFC 5118. Those within a dialog (BYE) come
// from a client without a Route, which is refused, and from a PBX for nobody
// known, which is told so (B27: never 481).
var ordeals5118 = []ordeal{
	{name: "ipv6-good", section: "4.1 an IPv6 reference", client: "404", pbx: "403"},
	{name: "ipv6-bad", section: "4.2 one without its brackets", client: "400", pbx: "400"},
	{name: "port-ambiguous", section: "4.3 a port within the brackets is none", client: "404", pbx: "403"},
	{name: "port-unambiguous", section: "4.4 a port outside them", client: "404", pbx: "403"},
	{name: "via-received-param-with-delim", section: "4.5 received in brackets", client: "403", pbx: "480"},
	{name: "via-received-param-no-delim", section: "4.5 received without", client: "200", pbx: "200"},
	{name: "ipv6-in-sdp", section: "4.6 addresses in SDP", client: "403", pbx: "404"},
	{name: "mult-ip-in-header", section: "4.7 Vias of both families", client: "403", pbx: "480"},
	{name: "mult-ip-in-sdp", section: "4.8 SDP of both families", client: "403", pbx: "404"},
	{name: "ipv4-mapped-ipv6", section: "4.9 mapped addresses", client: "403", pbx: "480"},
	{name: "ipv6-bug-abnf-3-colons", section: "4.10 a colon too many is tolerated", client: "200", pbx: "404"},
	{name: "ipv6-correct-abnf-2-colons", section: "4.10 the same without it", client: "200", pbx: "404"},
}

func TestRFC5118_FromAClientEachMessageHasItsEnd(t *testing.T) { fromClients(t, ordeals5118) }

func TestRFC5118_FromThePBXEachMessageHasItsEnd(t *testing.T) { fromPBX(t, ordeals5118) }
