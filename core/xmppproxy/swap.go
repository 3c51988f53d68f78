package xmppproxy

import (
	"context"
	"errors"
	"strconv"
	"time"

	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/session"
)

// swap resumes the session on the login's own stream: the server says whether
// it may. The stream that there was is not read meanwhile. The line is acquired.
func (l *login) swap(ln *line, previd string, h uint32, sure bool) error {
	from, err := ln.beginSwap(l.ctx, previd, h)
	if err != nil {
		return err
	}
	// From here on the server may have taken the session to the new stream, with
	// or without the client.
	ctx, cancel := context.WithTimeout(l.c.p.life, retireWithin)
	defer cancel()
	answer, err := l.askOn(ctx, from)
	switch {
	case err != nil:
		ln.endSwap(func(now time.Time) { ln.s.SwapFailed(now) })
		return err
	case answer.Is(nsSM, "resumed"):
		serverH, err := strconv.ParseUint(string(answer.Attr("h")), 10, 32)
		if err != nil {
			ln.endSwap(func(now time.Time) { ln.s.SwapFailed(now) })
			return condition("internal-server-error")
		}
		up := l.up
		l.up = nil // the line's
		return ln.swapped(l.c, up, h, uint32(serverH))
	case !answer.Is(nsSM, "failed"): // a stream error, most likely
		ln.endSwap(func(now time.Time) { ln.s.SwapFailed(now) })
		return condition("remote-connection-failed")
	case sure && from.orphan:
		ln.endSwap(func(now time.Time) { ln.s.Refused(now) })
	default:
		ln.endSwap(func(now time.Time) { ln.s.SwapFailed(now) })
	}
	return session.ErrNoResume
}

// askOn sends <resume/> to the server.
func (l *login) askOn(ctx context.Context, from swapFrom) (*stanza.Element, error) {
	out := append([]byte("<resume xmlns='"+nsSM+"' h='"), strconv.FormatUint(uint64(from.h), 10)...)
	out = append(stanza.AppendEscaped(append(out, "' previd='"...), from.previd), "'/>"...)
	if err := l.up.Write(out); err != nil {
		return nil, err
	}
	return l.up.Next(ctx)
}

// beginSwap holds the stream that there is, and asks the session what to resume
// from.
func (l *line) beginSwap(ctx context.Context, previd string, h uint32) (swapFrom, error) {
	l.mu.Lock()
	if !l.resumable(previd) {
		l.mu.Unlock()
		return swapFrom{}, session.ErrNoResume
	}
	orphan := l.up == nil
	tell := make(chan swapFrom, 1)
	l.swap, l.pause = tell, make(chan struct{})
	err := l.s.PrepareSwap(time.Now(), h)
	l.unlock()
	if err == nil {
		select {
		case from := <-tell:
			from.orphan = orphan
			return from, nil
		case <-ctx.Done():
			err = ctx.Err()
		}
		l.endSwap(func(now time.Time) { l.s.SwapFailed(now) })
		return swapFrom{}, err
	}
	l.endSwap(func(time.Time) {})
	return swapFrom{}, err
}

// endSwap goes on with the stream that there is, after do.
func (l *line) endSwap(do func(now time.Time)) {
	l.mu.Lock()
	l.swap = nil
	if !l.gone {
		do(time.Now())
	}
	l.goOn()
	l.unlock()
}

// goOn takes again what the server sends. l.mu is held.
func (l *line) goOn() {
	if l.pause != nil {
		close(l.pause)
		l.pause = nil
	}
}

// swapped goes on with the fresh stream, on which the server has resumed.
func (l *line) swapped(c *conn, up Stream, clientH, serverH uint32) error {
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		up.Close(false)
		return context.Canceled
	}
	old, before := l.up, l.conn
	l.up, l.conn, l.swap = up, c, nil
	err := l.s.Swapped(time.Now(), clientH, serverH)
	if errors.Is(err, session.ErrNoResume) { // it ended, or began to, while the server was asked
		l.up, l.conn = old, before
		over := l.s.State() == session.Ended || l.s.State() == session.Retired
		l.goOn()
		l.unlock()
		up.Close(over)
		return context.Canceled
	}
	replaced(before)
	l.goOn()
	l.unlock()
	if old != nil {
		old.Close(false)
	}
	if err == nil {
		l.p.metrics.resumed("swap")
	}
	l.p.work.Go(func() { l.serve(up) })
	return err
}
