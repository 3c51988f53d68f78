package jetstream

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

// embedded is a NATS server inside this process: no port, no signals, no
// output but through our logger.
type embedded struct {
	server *server.Server
	lock   *os.File
}

// startTimeout is generous: recovering a million devices after a crash takes
// seconds.
const startTimeout = time.Minute

// startEmbedded starts a server on a directory; sync has it sync each write to
// the disk before it acknowledges it.
func startEmbedded(cfg Config, dir string, sync bool, log *slog.Logger) (*embedded, error) {
	lock, err := claim(dir)
	if err != nil {
		return nil, err
	}
	fatal := &logger{log: log}
	e := &embedded{lock: lock}
	e.server, err = server.NewServer(&server.Options{
		ServerName:             cfg.Name,
		DontListen:             true,
		JetStream:              true,
		StoreDir:               dir,
		SyncAlways:             sync,
		NoSigs:                 true,
		NoLog:                  true,
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store.dir %s: %w", dir, err), lock.Close())
	}
	e.server.SetLoggerV2(fatal, false, false, false)
	e.server.Start() // returns when JetStream has its files, or gave up
	why := fatal.said()
	if why == "" {
		if e.server.ReadyForConnections(startTimeout) && e.server.JetStreamEnabled() {
			return e, nil
		}
		why = fmt.Sprintf("not ready after %v", startTimeout)
	}
	return nil, errors.Join(
		fmt.Errorf("store.dir %s: %s: check that the disk has room and that every file in the directory belongs to this user", dir, why),
		e.stop())
}

// stop ends the server and gives the directory free.
func (e *embedded) stop() error {
	e.server.Shutdown()
	e.server.WaitForShutdown()
	return e.lock.Close()
}

// claim makes dir and takes its lock, which the operating system gives free
// when the process ends, however it ends. Two servers on one directory would
// destroy each other's files.
func claim(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("store.dir is empty: name a directory that this core may write to, or the URLs of a cluster in store.nats")
	}
	remedy := fmt.Sprintf("create it for the user that runs the core (uid %d), or set store.dir to a directory it may write to", os.Getuid())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store.dir %s: %w: %s", dir, cause(err), remedy)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store.dir %s: cannot write there: %w: %s", dir, cause(err), remedy)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("store.dir %s: in use by another process (%w): stop it, or give each core a directory of its own", dir, err)
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// cause drops the path from a file error: the message names it already.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// logger passes the server's words on, and keeps those after which the server
// would have ended the process.
type logger struct {
	log *slog.Logger

	mu    sync.Mutex
	fatal string // guarded by mu
}

func (l *logger) said() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

// Fatalf implements server.Logger; unlike the server's own, it ends nothing.
func (l *logger) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.mu.Lock()
	if l.fatal == "" {
		l.fatal = strings.TrimSpace(text)
	}
	l.mu.Unlock()
	l.log.Error("store failed", "text", text)
}

// Errorf implements server.Logger.
func (l *logger) Errorf(format string, v ...any) {
	l.log.Error("store reports an error", "text", fmt.Sprintf(format, v...))
}

// Warnf implements server.Logger.
func (l *logger) Warnf(format string, v ...any) {
	l.log.Warn("store warns", "text", fmt.Sprintf(format, v...))
}

// Noticef implements server.Logger.
func (l *logger) Noticef(format string, v ...any) {
	l.log.Debug("store says", "text", fmt.Sprintf(format, v...))
}

// Debugf implements server.Logger.
func (l *logger) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (l *logger) Tracef(string, ...any) {}
