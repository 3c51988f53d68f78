package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says where the stores are.
type Config struct {
	// Dir is the directory of the embedded server, made if it is missing.
	// Not used with NATS.
	Dir string
	// NATS are the URLs of an external cluster; empty for the embedded server.
	NATS []string
	// Replicas of every bucket in a cluster, 1 to 5. Default 1.
	Replicas int
	// Name is what the connection and the embedded server call themselves.
	Name string
	// Timeout bounds every exchange with the server. Default 5 s.
	Timeout time.Duration
}

// maxPending bounds the writes that wait for an acknowledgement. One more waits
// for room, up to the timeout.
const maxPending = 4096

// Store is an open store. All methods are safe for concurrent use.
type Store struct {
	// Static after Open.
	cfg       Config
	log       *slog.Logger
	embedded  *embedded // nil with a cluster
	synced    *embedded // a server of its own for what must be on disk; nil with a cluster
	conn      *nats.Conn
	js        jetstream.JetStream
	durable   wire // to where an acknowledgement means: on disk
	devices   *Bucket
	traces    *Bucket
	dnd       *Bucket
	published *Bucket
	keys      jetstream.KeyValue
	outbox    *Outbox
	messages  *Messages
}

// Open starts the embedded server, or connects to the cluster, and makes the
// buckets that are missing. The Store must be closed. Errors name what is
// configured wrongly and what to do about it. log may be nil.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Replicas <= 0 {
		cfg.Replicas = 1
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Name == "" {
		cfg.Name = "sallyport-core"
	}
	s := &Store{cfg: cfg, log: log.With("room", "jetstream")}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.connect(); err != nil {
		return err
	}
	var err error
	if s.js, err = s.context(s.conn); err != nil {
		return err
	}
	if s.devices, err = s.bucket(ctx, "sallyport_devices", 0, true); err != nil {
		return err
	}
	if s.traces, err = s.bucket(ctx, "sallyport_traces", traceKeep, false); err != nil {
		return err
	}
	if s.dnd, err = s.bucket(ctx, "sallyport_dnd", 0, true); err != nil {
		return err
	}
	if s.published, err = s.bucket(ctx, "sallyport_presence", 0, true); err != nil {
		return err
	}
	keys, err := s.bucket(ctx, "sallyport_keys", 0, true)
	if err != nil {
		return err
	}
	s.keys = keys.kv
	if s.outbox, err = s.newOutbox(ctx); err != nil {
		return err
	}
	if s.durable, err = s.durably(); err != nil {
		return err
	}
	s.messages, err = s.newMessages(ctx)
	return err
}

// wire is a way to a server.
type wire struct {
	conn *nats.Conn
	js   jetstream.JetStream
}

// durably connects to the synced server; in a cluster, where each server is as
// durable as it is told to be, it is the way that there is.
func (s *Store) durably() (w wire, err error) {
	if s.synced == nil {
		return wire{s.conn, s.js}, nil
	}
	w.conn, err = nats.Connect("", nats.Name(s.cfg.Name), nats.Timeout(s.cfg.Timeout), nats.InProcessServer(s.synced.server))
	if err != nil {
		return wire{}, fmt.Errorf("store.dir %s: %w", s.cfg.Dir, err)
	}
	if w.js, err = s.context(w.conn); err != nil {
		w.conn.Close()
		return wire{}, err
	}
	return w, nil
}

func (s *Store) context(conn *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(conn,
		jetstream.WithDefaultTimeout(s.cfg.Timeout),
		jetstream.WithPublishAsyncMaxPending(maxPending),
		jetstream.WithPublishAsyncTimeout(s.cfg.Timeout))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return js, nil
}

func (s *Store) connect() error {
	options := []nats.Option{
		nats.Name(s.cfg.Name),
		nats.Timeout(s.cfg.Timeout),
		nats.MaxReconnects(-1),
		nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				s.log.Warn("store disconnected", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { s.log.Info("store connected again") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.log.Warn("store connection in trouble", "err", err)
		}),
	}
	urls := strings.Join(s.cfg.NATS, ",")
	if len(s.cfg.NATS) == 0 {
		var err error
		if s.embedded, err = startEmbedded(s.cfg, s.cfg.Dir, false, s.log); err != nil {
			return err
		}
		if s.synced, err = startEmbedded(s.cfg, filepath.Join(s.cfg.Dir, "messages"), true, s.log); err != nil {
			return err
		}
		urls = ""
		options = append(options, nats.InProcessServer(s.embedded.server))
	}
	conn, err := nats.Connect(urls, options...)
	if err != nil {
		if s.embedded != nil {
			return fmt.Errorf("store.dir %s: %w", s.cfg.Dir, err)
		}
		return fmt.Errorf("store.nats %s: %w: is the cluster up, and does this machine reach it?", redacted(s.cfg.NATS), err)
	}
	s.conn = conn
	return nil
}

// redacted shows URLs without their passwords.
func redacted(urls []string) string {
	shown := make([]string, 0, len(urls))
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			shown = append(shown, "(not a URL)")
			continue
		}
		if u.User != nil {
			u.User = url.User("…")
		}
		shown = append(shown, u.Redacted())
	}
	return strings.Join(shown, ",")
}

// Devices is the bucket of bindings and devices. Its Put returns when the write
// will survive the death of this process.
func (s *Store) Devices() *Bucket { return s.devices }

// Traces is the bucket of call traces. Its Put does not wait, and what it holds
// ends by itself after 30 days.
func (s *Store) Traces() *Bucket { return s.traces }

// DND is the bucket of who is not to be disturbed. Its Put waits as that of
// Devices does.
func (s *Store) DND() *Bucket { return s.dnd }

// Published is the bucket of what clients published of themselves. Its Put waits
// as that of Devices does.
func (s *Store) Published() *Bucket { return s.published }

// Outbox is the queue of pushes that wait.
func (s *Store) Outbox() *Outbox { return s.outbox }

// Messages is the store of messages that wait for their readers.
func (s *Store) Messages() *Messages { return s.messages }

// Ready reports whether the store can be written to, as far as the connection
// tells.
func (s *Store) Ready() bool { return s.conn.IsConnected() }

// Flush waits until every write begun so far is acknowledged or has failed.
func (s *Store) Flush(ctx context.Context) error {
	select {
	case <-s.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("store: %d writes not acknowledged: %w", s.js.PublishAsyncPending(), context.Cause(ctx))
	}
}

// Close waits for the writes under way, at most for the timeout, and ends the
// connection and the embedded server.
func (s *Store) Close() error {
	var err error
	if s.js != nil {
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeout)
		err = s.Flush(ctx)
		cancel()
		s.js.CleanupPublisher()
	}
	if s.durable.conn != nil && s.durable.conn != s.conn {
		s.durable.js.CleanupPublisher()
		s.durable.conn.Close()
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if s.synced != nil {
		err = errors.Join(err, s.synced.stop())
	}
	if s.embedded != nil {
		err = errors.Join(err, s.embedded.stop())
	}
	return err
}
