package jetstream_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"sallyport/core/jetstream"
	"sallyport/core/vault"
	"sallyport/core/xmppproxy/session"
)

// sessionsOf opens the store of sessions in dir.
func sessionsOf(t testing.TB, dir string, seal jetstream.Sealer) (*jetstream.Store, *jetstream.Sessions) {
	t.Helper()
	s, err := jetstream.Open(context.Background(), jetstream.Config{Dir: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.Sessions(context.Background(), seal)
	if err != nil {
		t.Fatal(err)
	}
	return s, k
}

// entries are a session's journal from a position on.
func entries(t testing.TB, k session.Store, id string, from uint64) (texts []string, at []uint64) {
	t.Helper()
	err := k.Read(context.Background(), id, from, func(pos uint64, entry []byte) bool {
		texts, at = append(texts, string(entry)), append(at, pos)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts, at
}

// records are what Load gives.
func records(t testing.TB, k session.Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := k.Load(context.Background(), func(id string, record []byte) bool {
		if _, twice := all[id]; twice {
			t.Errorf("%s came twice", id)
		}
		all[id] = string(record)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func put(t testing.TB, k session.Store, id, record string) {
	t.Helper()
	if err := k.Put(context.Background(), id, []byte(record)); err != nil {
		t.Fatal(err)
	}
}

func note(t testing.TB, k session.Store, id, entry string) uint64 {
	t.Helper()
	pos, err := k.Append(context.Background(), id, []byte(entry))
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

func TestSessionsAndTheirJournalsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s, k := sessionsOf(t, dir, nil)
	if got := records(t, k); len(got) != 0 {
		t.Errorf("a new store holds %v", got)
	}
	put(t, k, "a", "first")
	put(t, k, "a", "second")
	put(t, k, "b", "")
	var at []uint64
	for i := range 5 {
		at = append(at, note(t, k, "a", fmt.Sprint("a", i)))
		note(t, k, "b", fmt.Sprint("b", i))
	}
	for i, pos := range at {
		if pos == 0 || i > 0 && pos <= at[i-1] {
			t.Errorf("positions %v do not grow from 1", at)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s, k = sessionsOf(t, dir, nil)
	defer s.Close()
	if got := records(t, k); len(got) != 2 || got["a"] != "second" || got["b"] != "" {
		t.Errorf("records %q", got)
	}
	if got, pos := entries(t, k, "a", 0); fmt.Sprint(got, pos) != fmt.Sprint([]string{"a0", "a1", "a2", "a3", "a4"}, at) {
		t.Errorf("journal %v at %v, want it at %v", got, pos, at)
	}
	if got, _ := entries(t, k, "a", at[3]); fmt.Sprint(got) != "[a3 a4]" {
		t.Errorf("from the fourth: %v", got)
	}
	if next := note(t, k, "a", "a5"); next <= at[4] {
		t.Errorf("after a restart position %d follows %d", next, at[4])
	}
	first := 0
	if err := k.Read(t.Context(), "a", 1, func(uint64, []byte) bool { first++; return false }); err != nil || first != 1 {
		t.Errorf("read %d entries after it was told to stop, %v", first, err)
	}
}

func TestAJournalIsTrimmedAndASessionRemovedAlone(t *testing.T) {
	s, k := sessionsOf(t, t.TempDir(), nil)
	defer s.Close()
	var at []uint64
	for i := range 6 {
		at = append(at, note(t, k, "a", fmt.Sprint("a", i)))
		note(t, k, "b", fmt.Sprint("b", i))
	}
	put(t, k, "a", "record")
	put(t, k, "b", "record")
	if err := k.Trim(t.Context(), "a", at[3]); err != nil {
		t.Fatal(err)
	}
	if got, _ := entries(t, k, "a", 1); fmt.Sprint(got) != "[a4 a5]" {
		t.Errorf("after the trim: %v", got)
	}
	if err := k.Trim(t.Context(), "a", at[1]); err != nil { // what is gone already
		t.Fatal(err)
	}
	if err := k.Trim(t.Context(), "nobody", 7); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing
		if err := k.Remove(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := entries(t, k, "a", 1); len(got) != 0 {
		t.Errorf("after the removal: %v", got)
	}
	if got, _ := entries(t, k, "b", 1); len(got) != 6 {
		t.Errorf("the other journal has %v", got)
	}
	if got := records(t, k); len(got) != 1 || got["b"] != "record" {
		t.Errorf("records %v", got)
	}
	if note(t, k, "a", "again") <= at[5] {
		t.Error("positions of a session that was removed begin anew")
	}
}

func TestNothingOfASessionIsOnDiskInClear(t *testing.T) {
	dir := t.TempDir()
	v, err := vault.New(vault.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	s, k := sessionsOf(t, dir, v)
	put(t, k, "sekrit-id", "sekrit-record")
	pos := note(t, k, "sekrit-id", "sekrit-entry")
	if got, _ := entries(t, k, "sekrit-id", pos); fmt.Sprint(got) != "[sekrit-entry]" {
		t.Errorf("read %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("sekrit")) {
			t.Errorf("%s shows it", path)
		}
		if bytes.Contains(text, []byte("sallyport.xmpp.")) {
			files++
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files of the journal were read, %v", files, err)
	}

	other, err := vault.New(vault.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	s, k = sessionsOf(t, dir, other)
	if got := records(t, k); len(got) != 0 {
		t.Errorf("with another key: %v", got)
	}
	if err := k.Read(t.Context(), "sekrit-id", 1, func(uint64, []byte) bool { return true }); err == nil {
		t.Error("an entry is read with another key")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, k = sessionsOf(t, dir, v) // what could not be read was left
	defer s.Close()
	if got := records(t, k); got["sekrit-id"] != "sekrit-record" {
		t.Errorf("with the key again: %v", got)
	}
}

func TestWhatIsTooLongIsRefused(t *testing.T) {
	s, k := sessionsOf(t, t.TempDir(), nil)
	defer s.Close()
	if _, err := k.Append(t.Context(), "a", make([]byte, session.MaxEntry+1)); err == nil {
		t.Error("an entry too long is taken")
	}
	if err := k.Put(t.Context(), "a", make([]byte, session.MaxRecord+1)); err == nil {
		t.Error("a record too long is taken")
	}
	note(t, k, "a", string(make([]byte, session.MaxEntry)))
	put(t, k, "a", string(make([]byte, session.MaxRecord)))
}

func TestThousandsOfSessionsAreLoadedInSeconds(t *testing.T) {
	if testing.Short() {
		t.Skip("writes thousands of records")
	}
	dir := t.TempDir()
	s, k := sessionsOf(t, dir, nil)
	const many = 2000
	record := bytes.Repeat([]byte("r"), 500)
	var wg sync.WaitGroup
	for w := range 50 {
		wg.Go(func() {
			for i := w; i < many; i += 50 {
				if err := k.Put(context.Background(), fmt.Sprint("session", i), record); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	s, k = sessionsOf(t, dir, nil)
	defer s.Close()
	opened := time.Since(begun)
	n := 0
	if err := k.Load(t.Context(), func(string, []byte) bool { n++; return true }); err != nil || n != many {
		t.Errorf("%d sessions, %v", n, err)
	}
	took := time.Since(begun)
	t.Logf("opened in %v, loaded in %v", opened, took-opened)
	if took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// BenchmarkAppend is one entry of 500 bytes on disk, for as many sessions at a
// time; with what the disk and the memory hold after all was trimmed.
func BenchmarkAppend(b *testing.B) {
	for _, many := range []int{1, 100} {
		b.Run(fmt.Sprint(many, "-sessions"), func(b *testing.B) {
			dir := b.TempDir()
			s, k := sessionsOf(b, dir, nil)
			defer s.Close()
			entry := make([]byte, 500)
			var wg sync.WaitGroup
			last := make([]uint64, many)
			b.ResetTimer()
			for i := range many {
				wg.Go(func() {
					for n := i; n < b.N; n += many {
						pos, err := k.Append(context.Background(), fmt.Sprint("session", i), entry)
						if err != nil {
							b.Error(err)
							return
						}
						last[i] = pos
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(bytesIn(b, dir))/1e6, "MB-before")
			begun := time.Now()
			for i := range many {
				if err := k.Trim(context.Background(), fmt.Sprint("session", i), last[i]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(time.Since(begun).Microseconds())/float64(many), "µs/trim")
			b.ReportMetric(float64(bytesIn(b, dir))/1e6, "MB-after")
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapInuse)/1e6, "MB-heap")
		})
	}
}

// bytesIn is what the files below dir hold.
func bytesIn(b *testing.B, dir string) (sum int64) {
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return sum
}
