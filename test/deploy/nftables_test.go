package deploy

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// prelude makes three hosts of network namespaces: `a` and `b` on either side,
// and the script's own between them. They end with the script.
const prelude = `set -e
unshare -n sleep 60 & a=$!
unshare -n sleep 60 & b=$!
trap 'kill $a $b' EXIT
here=$(readlink /proc/self/ns/net)
while [ "$(readlink /proc/$a/ns/net)" = "$here" ] || [ "$(readlink /proc/$b/ns/net)" = "$here" ]; do :; done
# wire HOST DEVICE MINE THEIRS: a cable from this host's DEVICE to HOST's eth0.
wire() {
	ip link add "$2" type veth peer name eth0 netns "$1"
	ip addr add "$3" dev "$2"
	ip link set "$2" up
	nsenter -t "$1" -n ip link set lo up
	nsenter -t "$1" -n ip link set eth0 up
	for addr in $4; do nsenter -t "$1" -n ip addr add "$addr" dev eth0; done
	nsenter -t "$1" -n ip route add default via "${3%/*}"
}
# probe NAME HOST FROM TO PORT: nobody listens, so that what comes through is refused
# at once, and what does not, times out.
probe() {
	nsenter ${2:+-t $2 -n} bash -c 'ip route replace '"$4"' via '"${6:-}"' src '"$3"' 2>/dev/null; timeout 1 bash -c "exec 3<>/dev/tcp/'"$4/$5"'" 2>/dev/null; echo '"$1"' $?'
}
`

// through runs a script in namespaces of its own and returns, by the name of
// each probe, whether it came through.
func through(t *testing.T, script string) map[string]bool {
	t.Helper()
	for _, program := range []string{"nsenter", "ip", "nft", "bash"} {
		need(t, program)
	}
	namespaces(t)
	cmd := exec.Command("unshare", "-r", "-n", "bash", "-c", prelude+script)
	cmd.Dir = file("nftables")
	var said, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &said, &complaints)
	}
	got := make(map[string]bool)
	for line := range strings.Lines(said.String()) {
		var name string
		var code int
		if _, err := fmt.Sscanf(line, "%s %d", &name, &code); err != nil || code != 1 && code != 124 {
			t.Fatalf("probe said %q\n%s", line, &complaints)
		}
		got[name] = code == 1
	}
	return got
}

// namespaces skips where the kernel or a sandbox gives none.
func namespaces(t *testing.T) {
	t.Helper()
	need(t, "unshare")
	if out, err := exec.Command("unshare", "-r", "-n", "true").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces to be had here: %v %s", err, out)
	}
}

func compare(t *testing.T, got, want map[string]bool) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if through, asked := got[name]; !asked || through != want[name] {
			t.Errorf("%s: came through %v (asked %v), want %v", name, through, asked, want[name])
		}
	}
}

func TestFirewallRulesLoadTwice(t *testing.T) {
	need(t, "nft")
	namespaces(t)
	files, err := filepath.Glob(file("nftables/*.nft"))
	if err != nil || len(files) != 3 {
		t.Fatalf("rules %q, %v", files, err)
	}
	for _, f := range files {
		out, err := exec.Command("unshare", "-r", "-n", "sh", "-ec", `nft -c -f "$1"; nft -f "$1"; nft -f "$1"; nft list tables`, "sh", f).CombinedOutput()
		if err != nil || strings.Count(string(out), "table inet sallyport") != 1 {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}

func TestInnerFirewallOpensOutwardsOnly(t *testing.T) {
	t.Parallel()
	got := through(t, `
wire $a lan0 10.0.0.1/24 "10.0.0.5/24 10.0.0.6/24"
wire $b dmz0 10.1.0.1/24 "10.1.0.4/24 10.1.0.8/24"
echo 1 > /proc/sys/net/ipv4/ip_forward
nft -f inner-firewall.nft
probe core-tunnel  $a 10.0.0.5 10.1.0.4 7443 10.0.0.1
probe core-proxy   $a 10.0.0.5 10.1.0.8 3128 10.0.0.1
probe core-ssh     $a 10.0.0.5 10.1.0.4 22   10.0.0.1
probe other-tunnel $a 10.0.0.6 10.1.0.4 7443 10.0.0.1
probe edge-sip     $b 10.1.0.4 10.0.0.5 5060 10.1.0.1
probe edge-back    $b 10.1.0.4 10.0.0.5 7443 10.1.0.1
probe edge-https   $b 10.1.0.4 10.0.0.5 443  10.1.0.1
`)
	compare(t, got, map[string]bool{
		"core-tunnel": true, "core-proxy": true,
		"core-ssh": false, "other-tunnel": false, "edge-sip": false, "edge-back": false, "edge-https": false,
	})
}

func TestOuterFirewallLeadsToThePublicPortsOnly(t *testing.T) {
	t.Parallel()
	got := through(t, `
wire $a wan0 198.51.100.1/24 "198.51.100.7/24"
wire $b dmz0 192.0.2.1/24 "192.0.2.4/24 192.0.2.5/24"
echo 1 > /proc/sys/net/ipv4/ip_forward
nft -f outer-firewall.nft
probe phone-https  $a 198.51.100.7 192.0.2.4 443  198.51.100.1
probe phone-sips   $a 198.51.100.7 192.0.2.4 5061 198.51.100.1
probe phone-tunnel $a 198.51.100.7 192.0.2.4 7443 198.51.100.1
probe phone-ssh    $a 198.51.100.7 192.0.2.4 22   198.51.100.1
probe phone-other  $a 198.51.100.7 192.0.2.5 443  198.51.100.1
probe edge-acme    $b 192.0.2.4 198.51.100.7 443 192.0.2.1
probe edge-mail    $b 192.0.2.4 198.51.100.7 25  192.0.2.1
`)
	compare(t, got, map[string]bool{
		"phone-https": true, "phone-sips": true, "edge-acme": true,
		"phone-tunnel": false, "phone-ssh": false, "phone-other": false, "edge-mail": false,
	})
}

// The edge's own host, between outside and inside.
func TestTheEdgesHostTakesClientsOutsideAndCoresInside(t *testing.T) {
	t.Parallel()
	got := through(t, `
wire $a eth0 192.0.2.4/24 "192.0.2.1/24"
wire $b eth1 10.1.0.4/24 "10.1.0.1/24 10.0.0.5/24 10.0.0.6/24 10.0.9.9/24"
ip route add 10.0.0.0/8 dev eth1
nft -f dmz-host.nft
probe phone-https   $a 192.0.2.1 192.0.2.4 443  192.0.2.4
probe phone-sips    $a 192.0.2.1 192.0.2.4 5061 192.0.2.4
probe phone-tunnel  $a 192.0.2.1 10.1.0.4  7443 192.0.2.4
probe phone-ssh     $a 192.0.2.1 192.0.2.4 22   192.0.2.4
probe phone-metrics $a 192.0.2.1 192.0.2.4 9461 192.0.2.4
probe core-tunnel   $b 10.0.0.5 10.1.0.4 7443 10.1.0.4
probe other-tunnel  $b 10.0.0.6 10.1.0.4 7443 10.1.0.4
probe core-ssh      $b 10.0.0.5 10.1.0.4 22   10.1.0.4
probe admin-ssh     $b 10.0.9.9 10.1.0.4 22   10.1.0.4
probe edge-core     "" 10.1.0.4 10.0.0.5 5060 10.0.0.5
probe edge-acme     "" 192.0.2.4 192.0.2.1 443 192.0.2.1
`)
	compare(t, got, map[string]bool{
		"phone-https": true, "phone-sips": true, "core-tunnel": true, "admin-ssh": true, "edge-acme": true,
		"phone-tunnel": false, "phone-ssh": false, "phone-metrics": false, "other-tunnel": false, "core-ssh": false, "edge-core": false,
	})
}
