package alarm_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/edge/alarm"
)

// sleeper notes when it was rung.
type sleeper struct {
	alarm alarm.Alarm
	start time.Time
	mu    sync.Mutex
	rung  []time.Duration
	again func()
}

func (s *sleeper) Alarm() *alarm.Alarm { return &s.alarm }
func (s *sleeper) Ring() {
	s.mu.Lock()
	s.rung = append(s.rung, time.Since(s.start))
	s.mu.Unlock()
	if s.again != nil {
		s.again()
	}
}

func (s *sleeper) expect(t *testing.T, want ...time.Duration) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.rung, want) {
		t.Errorf("rung at %v, want %v", s.rung, want)
	}
}

func TestEverySleeperIsRungOnceAndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, start := alarm.New(), time.Now()
		random := rand.New(rand.NewPCG(1, 2))
		all := make([]*sleeper, 1000)
		due := make([]time.Duration, len(all))
		for i := range all {
			all[i] = &sleeper{start: start}
			for range 1 + i%3 { // the last time set counts
				due[i] = time.Duration(random.IntN(int(time.Hour)))
				c.Set(all[i], start.Add(due[i]))
			}
			if i%4 == 0 {
				c.Stop(all[i])
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for i, s := range all {
			if i%4 == 0 {
				s.expect(t)
			} else {
				s.expect(t, due[i])
			}
		}
	})
}

func TestAnAlarmMayBeMovedBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, start := alarm.New(), time.Now()
		early, late := &sleeper{start: start}, &sleeper{start: start}
		c.Set(early, start.Add(time.Hour))
		c.Set(late, start.Add(time.Minute))
		c.Set(early, start.Add(time.Second))
		c.Set(late, start.Add(2*time.Hour))
		time.Sleep(3 * time.Hour)
		early.expect(t, time.Second)
		late.expect(t, 2*time.Hour)
	})
}

func TestATimeThatIsPastRingsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := alarm.New()
		s := &sleeper{start: time.Now()}
		c.Set(s, time.Now().Add(-time.Hour))
		time.Sleep(time.Nanosecond) // the bubble's clock has to move for timers to go off
		synctest.Wait()
		s.expect(t, time.Nanosecond)
	})
}

func TestWhoIsRungMaySetTheNextAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := alarm.New()
		s := &sleeper{start: time.Now()}
		s.again = func() {
			if len(s.rung) < 3 {
				c.Set(s, time.Now().Add(time.Second))
			}
		}
		c.Set(s, time.Now().Add(time.Second))
		time.Sleep(time.Minute)
		s.expect(t, time.Second, 2*time.Second, 3*time.Second)
	})
}

func TestAStoppedClockRunsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := alarm.New()
		s := &sleeper{start: time.Now()}
		c.Stop(s) // was never set
		c.Set(s, time.Now().Add(time.Hour))
		c.Stop(s)
		c.Stop(s)
		time.Sleep(2 * time.Hour)
		s.expect(t)
	})
}

func BenchmarkSetAgain(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := alarm.New()
			all := make([]sleeper, n)
			start := time.Now()
			for i := range all {
				c.Set(&all[i], start.Add(time.Hour))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				c.Set(&all[i%n], start.Add(time.Hour+time.Duration(i)))
			}
			b.StopTimer()
			for i := range all {
				c.Stop(&all[i])
			}
		})
	}
}
