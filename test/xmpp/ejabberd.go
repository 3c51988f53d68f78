package xmpp

import (
	_ "embed"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sallyport/test/process"
)

//go:embed ejabberd.yml
var ejabberdConfig string

// StartEjabberd runs an ejabberd until t ends. Its Erlang is not distributed, so
// that no epmd is needed, which would stay behind.
func StartEjabberd(t testing.TB, cfg ServerConfig) *Server {
	t.Helper()
	process.Need(t, "ejabberdctl")
	path := process.Need(t, "erl")
	libs := ejabberdLibs(t)
	s := newServer(t, "ejabberd", "/ws", cfg)
	config := s.write(t, "ejabberd.yml", ejabberdConfig)
	s.spec = process.Spec{
		Name: "ejabberd", Path: path, Dir: s.dir,
		// Two schedulers that sleep when they have nothing to do: what is
		// measured beside it needs the rest.
		Args: []string{"+K", "true", "+S", "2:2", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none", "-noinput", "-mnesia", "dir", `"` + s.file("db") + `"`, "-s", "ejabberd"},
		Env: []string{
			"EJABBERD_CONFIG_PATH=" + config, "EJABBERD_LOG_PATH=" + s.file("ejabberd.log"), "ERL_LIBS=" + libs,
			"ERL_CRASH_DUMP=/dev/null", "HOME=" + s.dir, "CONTRIB_MODULES_PATH=" + s.file("modules"),
		},
	}
	api := "http://127.0.0.1:" + portOf(s.WS) + "/api/"
	s.ready = func() error {
		return errors.Join(listens(s.Plain), listens(s.TLS), listens("127.0.0.1:"+portOf(s.WSS)), post(api+"status", "{}"))
	}
	s.Start(t)
	s.register(t, api)
	return s
}

// register makes accounts and rosters through ejabberd's HTTP interface.
func (s *Server) register(t testing.TB, api string) {
	t.Helper()
	call := func(command string, args map[string]string) {
		body, err := json.Marshal(args)
		if err == nil {
			err = post(api+command, string(body))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for user, password := range s.cfg.Users {
		call("register", map[string]string{"user": user, "host": s.Domain, "password": password})
	}
	for user, friends := range friendsOf(s.cfg.Friends) {
		for _, friend := range friends {
			call("add_rosteritem", map[string]string{
				"localuser": user, "localhost": s.Domain, "user": friend, "host": s.Domain,
				"nick": friend, "group": "", "subs": "both",
			})
		}
	}
}

// ejabberdLibs is where Debian keeps ejabberd's own Erlang.
func ejabberdLibs(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/ejabberd-*/ebin/ejabberd.app")
	for _, app := range found {
		if _, err := os.Stat(app); err == nil {
			return filepath.Dir(filepath.Dir(filepath.Dir(app)))
		}
	}
	process.Lack(t, "ejabberd's Erlang library is not where Debian has it; test/interop/setup installs it")
	return ""
}
