package interop

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"sallyport/test/process"
)

var (
	//go:embed kamailio.cfg
	kamailioConfig string
	//go:embed kamailio_path.cfg
	kamailioPathConfig string
)

// KamailioConfig is what a test wants of its PBX.
type KamailioConfig struct {
	// Domain is the one it serves and the digest realm; empty means "example.com".
	Domain string
	// Users are the names and passwords it registers.
	Users map[string]string
	// MaxExpires bounds a grant, in seconds; 0 means no bound.
	MaxExpires int
	// Path makes it reach phones by their Path, and know outbound and GRUU.
	Path bool
	// Presence makes it a presence server too (RFC 3903, RFC 3856).
	Presence bool
}

// Kamailio is a running PBX.
type Kamailio struct {
	*process.Process
	Domain string
	// Addr is its HOST:PORT, for TCP and UDP.
	Addr string
	dir  string
}

// StartKamailio runs a PBX until t ends.
func StartKamailio(t testing.TB, cfg KamailioConfig) *Kamailio {
	t.Helper()
	path := process.Need(t, "kamailio")
	if cfg.Domain == "" {
		cfg.Domain = "example.com"
	}
	config := kamailioConfig
	if cfg.Path {
		needKamailio(t, "outbound")
		config = kamailioPathConfig
	}
	port := process.FreePort(t)
	k := &Kamailio{Domain: cfg.Domain, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), dir: process.TempDir(t)}
	var text strings.Builder
	if err := template.Must(template.New("kamailio.cfg").Parse(config)).Execute(&text, struct {
		KamailioConfig
		Port int
		Dir  string
	}{cfg, port, k.dir}); err != nil {
		t.Fatal(err)
	}
	if cfg.Presence {
		needKamailio(t, "presence_xml")
		copyTables(t, filepath.Join(k.dir, "dbtext"))
	}
	file := filepath.Join(k.dir, "kamailio.cfg")
	process.WriteFile(t, file, text.String())
	k.Process = process.Launch(t, process.Spec{
		Name: "kamailio", Path: path, Dir: k.dir,
		// -DD: stay in the foreground, yet with workers.
		Args: []string{"-f", file, "-DD", "-E", "-Y", k.dir, "-w", k.dir, "-m", "64", "-M", "8"},
	})
	k.Until(t, k.ping)
	return k
}

// copyTables gives Kamailio the empty tables of a presence server, as Debian ships
// them.
func copyTables(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"version", "presentity", "active_watchers", "watchers", "xcap"} {
		text, err := os.ReadFile(filepath.Join("/usr/share/kamailio/dbtext/kamailio", table))
		if err != nil {
			process.Lack(t, "Kamailio's tables for db_text are not installed: "+err.Error())
		}
		process.WriteFile(t, filepath.Join(dir, table), string(text))
	}
}

// needKamailio ends the test, as [Need] does, where Kamailio lacks a module.
func needKamailio(t testing.TB, name string) {
	t.Helper()
	for _, dir := range []string{"/usr/lib/*", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"} {
		if found, _ := filepath.Glob(dir + "/kamailio/modules/" + name + ".so"); len(found) > 0 {
			return
		}
	}
	process.Lack(t, "Kamailio's module "+name+" is not installed; test/interop/setup installs it")
}

// ping asks the PBX for its abilities over UDP.
func (k *Kamailio) ping() error {
	c, err := net.Dial("udp", k.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := fmt.Fprintf(c, "OPTIONS sip:%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKping%d;rport\r\nFrom: <sip:ping@test.invalid>;tag=1\r\nTo: <sip:%s>\r\nCall-ID: ping-%d\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 5\r\nContent-Length: 0\r\n\r\n",
		k.Domain, c.LocalAddr(), time.Now().UnixNano(), k.Domain, time.Now().UnixNano()); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	n, err := c.Read(buf)
	if err == nil && !strings.HasPrefix(string(buf[:n]), "SIP/2.0 200 ") {
		err = errors.New("answered " + strings.SplitN(string(buf[:n]), "\r\n", 2)[0])
	}
	return err
}

// Contacts returns what a user is registered with, as the PBX itself says.
func (k *Kamailio) Contacts(t testing.TB, user string) []string {
	t.Helper()
	var all []string
	for _, b := range k.Bindings(t, user) {
		all = append(all, b.Address)
	}
	return all
}

// Binding is one contact of a user in the PBX. Path is empty without one.
type Binding struct{ Address, Path string }

// Bindings returns a user's contacts with their Paths, in the order of addresses.
func (k *Kamailio) Bindings(t testing.TB, user string) []Binding {
	t.Helper()
	var dump struct {
		Result struct {
			Domains []struct {
				Domain struct {
					AoRs []struct {
						Info struct {
							AoR      string
							Contacts []struct{ Contact Binding }
						}
					}
				}
			}
		}
	}
	k.rpc(t, "ul.dump", &dump)
	var all []Binding
	for _, d := range dump.Result.Domains {
		for _, a := range d.Domain.AoRs {
			for _, c := range a.Info.Contacts {
				if c.Contact.Path == "[not set]" {
					c.Contact.Path = ""
				}
				if a.Info.AoR == user {
					all = append(all, c.Contact)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b Binding) int { return strings.Compare(a.Address, b.Address) })
	return all
}

// rpc calls the PBX over its control socket.
func (k *Kamailio) rpc(t testing.TB, method string, into any) {
	t.Helper()
	here := filepath.Join(k.dir, fmt.Sprintf("c%d", time.Now().UnixNano()))
	c, err := net.DialUnix("unixgram", &net.UnixAddr{Name: here, Net: "unixgram"}, &net.UnixAddr{Name: filepath.Join(k.dir, "rpc"), Net: "unixgram"})
	if err != nil {
		t.Fatalf("kamailio %s: %v", method, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 64<<10)
	if _, err = fmt.Fprintf(c, `{"jsonrpc":"2.0","method":%q,"id":1}`, method); err == nil {
		var n int
		if n, err = c.Read(buf); err == nil {
			err = json.Unmarshal(buf[:n], into)
		}
	}
	if err != nil {
		t.Fatalf("kamailio %s: %v", method, err)
	}
}
