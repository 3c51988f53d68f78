package c2s

import "sync"

// bufferSize is what is read at a time.
const bufferSize = 16 << 10

// buffers are shared by all streams: one that waits has none.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, bufferSize)
	return &b
}}
