package registrar

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

// Times of a nonce: how long it is good for, and how far another core's clock
// may be ahead.
const (
	nonceLife = 5 * time.Minute
	clockSkew = 30 * time.Second
)

// A nonce is 8 bytes of time (ms), 8 random ones and 16 of an HMAC-SHA256 over
// these and the domain: any core with the key can check it, none keeps it.
const (
	nonceHead = 16
	nonceSize = nonceHead + 16
)

func newNonce(key []byte, domain string, now time.Time) string {
	var b [nonceSize]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli()))
	_, _ = rand.Read(b[8:nonceHead])
	copy(b[nonceHead:], nonceMAC(key, domain, b[:nonceHead]))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func nonceMAC(key []byte, domain string, head []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("nonce\x00" + domain + "\x00"))
	m.Write(head)
	return m.Sum(nil)[:nonceSize-nonceHead]
}

// nonceTime is when one of keys made the nonce; ok is false for a nonce made
// by none of them.
func nonceTime(keys [][]byte, domain, nonce string) (made time.Time, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != nonceSize {
		return time.Time{}, false
	}
	for _, key := range keys {
		if hmac.Equal(nonceMAC(key, domain, b[:nonceHead]), b[nonceHead:]) {
			return time.UnixMilli(int64(binary.BigEndian.Uint64(b))), true
		}
	}
	return time.Time{}, false
}

// maxNonces bounds the nonces whose counts are remembered, some 2 MiB.
const maxNonces = 16384

// counts remembers the highest nc used with each nonce, so that captured
// credentials cannot be used again (RFC 7616 §5.12). When it is full, the
// nonce longest unused is forgotten, and with it every nonce made before that
// one and not remembered counts as used up.
//
// Nonces of the future, which there are when the clock was set back, are
// refused for their time and raise no floor: nobody could register until the
// clock is there again.
type counts struct {
	// Guarded by mu.
	mu    sync.Mutex
	byKey map[string]*list.Element
	order list.List // of *count, newest use first
	floor time.Time
}

type count struct {
	nonce string
	made  time.Time
	nc    uint64
}

// use notes nc for a nonce and reports whether it is higher than any before.
func (c *counts) use(nonce string, made time.Time, nc uint64, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.floor.After(now.Add(clockSkew)) {
		c.floor = now
	}
	if e := c.byKey[nonce]; e != nil {
		n := e.Value.(*count)
		if nc <= n.nc {
			return false
		}
		n.nc = nc
		c.order.MoveToFront(e)
		return true
	}
	if !made.After(c.floor) {
		return false
	}
	if c.byKey == nil {
		c.byKey = make(map[string]*list.Element)
	}
	if len(c.byKey) >= maxNonces {
		last := c.order.Back()
		old := c.order.Remove(last).(*count)
		delete(c.byKey, old.nonce)
		if old.made.After(c.floor) && !old.made.After(now.Add(clockSkew)) {
			c.floor = old.made
		}
		if !made.After(c.floor) {
			return false
		}
	}
	c.byKey[nonce] = c.order.PushFront(&count{nonce, made, nc})
	return true
}
