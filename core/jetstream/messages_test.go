package jetstream_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"sallyport/core/im"
	"sallyport/core/jetstream"
)

// BenchmarkHoldAMessage is one message of 500 bytes on disk, for as many
// senders at a time.
func BenchmarkHoldAMessage(b *testing.B) {
	for _, senders := range []int{1, 16} {
		b.Run(fmt.Sprint(senders, "-senders"), func(b *testing.B) {
			s, err := jetstream.Open(context.Background(), jetstream.Config{Dir: b.TempDir()}, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var wg sync.WaitGroup
			for i := range senders {
				wg.Go(func() {
					for n := i; n < b.N; n += senders {
						e := im.Entry{Device: fmt.Sprint("device", n%100), Key: fmt.Sprintf("%022d", n), Added: time.Now(), Expires: time.Now().Add(time.Hour)}
						if _, _, err := s.Messages().Add(context.Background(), e, make([]byte, 500)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapInuse)/1e6, "MB-heap")
		})
	}
}
