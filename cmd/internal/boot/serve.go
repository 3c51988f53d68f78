package boot

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// serve builds the server and runs it until it ends or signals end it.
func (p Program[C]) serve(ctx context.Context, proc Process, cfg C, load func() (C, error)) int {
	level := new(slog.LevelVar)
	log := p.logOf(&cfg).logger(proc.Stderr, level)
	deps := Deps{Log: log, Registry: newRegistry(p.Version), Version: p.Version}
	server, err := p.New(cfg, deps)
	if err != nil {
		log.Error("cannot start", "err", err)
		return exitFailed
	}
	l := &life[C]{program: p, server: server, load: load, log: log, level: level}

	// The admin listener outlives the server, so that /readyz says "no" while
	// it drains.
	adminCtx, stopAdmin := context.WithCancel(ctx)
	adminDone := make(chan error, 1)
	defer func() { <-adminDone }() //nolint:errcheck // what it ended with was logged
	defer stopAdmin()
	if p.Admin == nil || p.Admin(&cfg) == "" {
		adminDone <- nil
	} else {
		a, err := newAdmin(p.Admin(&cfg), deps.Registry, l.ready, log)
		if err != nil {
			adminDone <- nil
			log.Error("cannot start", "err", err)
			return exitFailed
		}
		go func() { adminDone <- a.run(adminCtx) }()
	}
	return l.run(ctx, proc.Signals)
}

// life is one run of a server, from its start to its last signal.
type life[C any] struct {
	// Static.
	program Program[C]
	server  Server
	load    func() (C, error)
	log     *slog.Logger
	level   *slog.LevelVar

	draining atomic.Bool
}

// run serves until the server ends by itself, by ctx, or by signals: the
// first SIGTERM or SIGINT drains, the second returns at once.
func (l *life[C]) run(ctx context.Context, signals <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.server.Run(ctx) }()
	for {
		select {
		case err := <-done:
			if err != nil && ctx.Err() == nil {
				l.log.Error("ended with an error", "err", err)
				return exitFailed
			}
			l.log.Info("ended")
			return exitOK
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				l.reload()
			case l.draining.CompareAndSwap(false, true):
				l.log.Info("draining; a second signal ends at once", "signal", sig.String())
				go l.server.Drain()
			default:
				l.log.Warn("ended at once by a second signal", "signal", sig.String())
				return exitFailed
			}
		}
	}
}

// reload reads the config again and gives it to the server. A config with
// faults is logged and changes nothing.
func (l *life[C]) reload() {
	cfg, err := l.load()
	if err == nil {
		err = l.program.logOf(&cfg).validate()
	}
	if err != nil {
		l.log.Error("config not reloaded, the old one stays", "err", err)
		return
	}
	l.program.logOf(&cfg).setLevel(l.level)
	switch s := l.server.(type) {
	case interface{ Reload(cfg C) error }:
		err = s.Reload(cfg)
	case interface{ Reload() error }:
		err = s.Reload()
	}
	if err != nil {
		l.log.Error("reloaded in part", "err", err)
		return
	}
	l.log.Info("reloaded")
}

// ready is what /readyz answers: never yes while draining.
func (l *life[C]) ready() (ok bool, notes []string) {
	if n, has := l.server.(interface{ Notes() []string }); has {
		notes = n.Notes()
	}
	if l.draining.Load() {
		return false, append([]string{"draining"}, notes...)
	}
	r, has := l.server.(interface{ Ready() bool })
	return !has || r.Ready(), notes
}

func newRegistry(version string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sallyport_build_info",
		Help: "Always 1; the label names the version that runs.",
	}, []string{"version"})
	info.WithLabelValues(version).Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}
