package main

import (
	"context"
	_ "embed"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"sallyport/certs"
	"sallyport/certs/ca"
	"sallyport/test/load/loadgen"
)

var (
	//go:embed kamailio-edge.cfg
	kamailioEdge string
	//go:embed kamailio-core.cfg
	kamailioCore string
	//go:embed kamailio-tls.cfg
	kamailioTLS string
)

// kamailio is two Kamailios in a row.
type kamailio struct{ program, modules, dir, cert string }

func newKamailio(dir string) (system, error) {
	k := &kamailio{dir: filepath.Join(dir, "k")}
	for _, name := range []string{"kamailio", "/usr/sbin/kamailio"} {
		if path, err := exec.LookPath(name); err == nil {
			k.program = path
		}
	}
	if k.program == "" {
		return nil, missingError{"kamailio"}
	}
	if err := k.findModules(); err != nil {
		return nil, err
	}
	authority := filepath.Join(k.dir, "ca")
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		return nil, err
	}
	err := ca.Init(authority)
	if err == nil {
		k.cert, err = ca.Issue(authority, certs.RoleEdge, "127.0.0.1", 30)
	}
	return k, err
}

// findModules finds where the distribution keeps Kamailio's modules, and
// whether those are there that it packages apart.
func (k *kamailio) findModules() error {
	apart := map[string]string{
		"tls.so": "kamailio-tls-modules", "websocket.so": "kamailio-websocket-modules", "outbound.so": "kamailio-outbound-modules",
		"http_client.so": "kamailio-utils-modules", "tsilo.so": "kamailio-extra-modules",
	}
	found, _ := filepath.Glob("/usr/lib*/*/kamailio/modules/tm.so")
	if len(found) == 0 {
		return missingError{"kamailio's modules"}
	}
	k.modules = filepath.Dir(found[0])
	for file, pack := range apart {
		if _, err := os.Stat(filepath.Join(k.modules, file)); err != nil {
			return missingError{pack}
		}
	}
	return nil
}

func (*kamailio) name() string { return "kamailio" }

// set is what the config templates are filled with.
type set struct {
	Domain, Modules               string
	Dir, Cert, Key                string
	SIPS, HTTPS, Inner, Core, PBX string
	Push                          string
	HTTPSPort, InnerPort          string
}

func (k *kamailio) start(ctx context.Context, pbx string, pushed func(string, time.Time)) (*running, error) {
	addrs, err := freeAddrs(5)
	if err != nil {
		return nil, err
	}
	s := set{
		Domain: domain, Modules: k.modules + "/", Dir: k.dir, Cert: k.cert, Key: k.cert, PBX: pbx,
		SIPS: addrs[0], HTTPS: addrs[1], Inner: addrs[2], Core: addrs[3], Push: addrs[4],
	}
	_, s.HTTPSPort, _ = net.SplitHostPort(s.HTTPS)
	_, s.InnerPort, _ = net.SplitHostPort(s.Inner)
	for name, text := range map[string]string{"edge.cfg": kamailioEdge, "core.cfg": kamailioCore, "tls.cfg": kamailioTLS} {
		var b strings.Builder
		if err := template.Must(template.New(name).Parse(text)).Execute(&b, s); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(k.dir, name), []byte(b.String()), 0o600); err != nil {
			return nil, err
		}
	}
	// Nothing is known of a phone that sleeps, and it unregisters after the
	// call: what stays of its binding would be called instead of waited for.
	r := &running{sips: s.SIPS, https: s.HTTPS, core: s.Core, path: "/", sleep: loadgen.Sleep{Leave: true}}
	stop, err := pushSink(s.Push, pushed)
	if err != nil {
		return nil, err
	}
	r.stops = append(r.stops, stop)
	for _, one := range []struct{ name, memory, listens string }{{"core", "1024", s.Core}, {"edge", "3072", s.SIPS}} {
		// -DD: stay in the foreground, yet with workers.
		p, err := launch(one.name, k.dir, k.program, "-f", filepath.Join(k.dir, one.name+".cfg"), "-DD", "-E",
			"-Y", k.dir, "-w", k.dir, "-m", one.memory, "-M", "16")
		if err == nil {
			r.parts = append(r.parts, p)
			err = p.until(ctx, func() error { return accepts(one.listens) })
		}
		if err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// pushSink is the push service that Kamailio posts to.
func pushSink(addr string, pushed func(string, time.Time)) (stop func(), err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		now := time.Now()
		pushed(r.PostFormValue("ci"), now)
	})}
	go func() { _ = s.Serve(l) }()
	return func() { s.Close() }, nil
}
