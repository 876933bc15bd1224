// What fifty users notice of a server that restarts: in a short outage nothing, in a long one an error at once.

package redis_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/redistest"
)

func TestFiftyUsersWhileTheServerRestarts(t *testing.T) {
	outages := []time.Duration{300 * time.Millisecond, time.Second, 10 * time.Second}
	for _, outage := range outages[:redistest.Times(1, 3)] {
		t.Run(outage.String(), func(t *testing.T) {
			s := redistest.Start(t, "--appendonly", "yes")
			config := s.Addr()
			if outage <= time.Second { // on a machine that is busy a start alone may take that long, and an outage over 2 s
				config = fmt.Sprintf(`{"save_path":%q,"outage_time":"10s"}`, s.Addr())
			}
			p := open(t, config, life)
			p.OnError(noteLoss)
			var requests, failed, longest, longestOK atomic.Int64
			request := func(id string) {
				start, lost := time.Now(), false
				store, err := p.SessionRead(ctx, id)
				if err == nil {
					set(t, store, "n", 1)
					set(t, store, "at", start)
					lost = loses(store)
				}
				took := int64(time.Since(start))
				requests.Add(1)
				worst := &longestOK
				if err != nil || lost {
					failed.Add(1)
					worst = &longest
				}
				for last := worst.Load(); took > last && !worst.CompareAndSwap(last, took); {
					last = worst.Load()
				}
			}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for range 50 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for id := newID(); ; {
						select {
						case <-stop:
							return
						case <-time.After(5 * time.Millisecond): // what a user does in between
							request(id)
						}
					}
				}()
			}
			more := func() func() bool {
				n := requests.Load() - failed.Load() + 2000
				return func() bool { return requests.Load()-failed.Load() > n }
			}
			await(t, "requests", more())
			s.Kill()
			time.Sleep(outage)
			s.Restart()
			await(t, "requests after it", more())
			close(stop)
			wg.Wait()
			t.Logf("%d of %d requests failed, after %v at the longest; of the others the slowest took %v", failed.Load(), requests.Load(),
				time.Duration(longest.Load()).Round(time.Millisecond), time.Duration(longestOK.Load()).Round(time.Millisecond))
			if outage <= time.Second && failed.Load() > 0 {
				t.Error("a short outage cost requests")
			}
		})
	}
}
