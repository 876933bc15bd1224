//go:build unix

// What whole requests cost the client: heap and processor time.

package redis_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
)

// BenchmarkRequest reports the processor time of this process, which other programs disturb less than they do rates.
func BenchmarkRequest(b *testing.B) {
	s := redistest.Start(b)
	p := open(b, s.Addr(), life)
	ids := visited(b, p)
	for _, change := range []bool{false, true} {
		for _, goroutines := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("%s/%d", kindOfRequest[change], goroutines), func(b *testing.B) {
				b.ReportAllocs()
				runtime.GC()
				before := processorTime(b)
				b.ResetTimer()
				requests(b, p, ids, change, goroutines, b.N)
				b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1000, "cpu-µs/op")
			})
		}
	}
}

var kindOfRequest = map[bool]string{false: "reading", true: "writing"}

// visited stores sessions of 0.2 KB.
func visited(b *testing.B, p *redis.Provider) (ids []string) {
	ids = make([]string, 1024)
	for i := range ids {
		ids[i] = newID()
		store, err := p.SessionRead(ctx, ids[i])
		if err != nil {
			b.Fatal(err)
		}
		for key, value := range map[string]any{
			"user_id": int64(4711), "name": "Augusta Ada King", "email": "ada.king@example.org", "visits": 0,
			"csrf": "8d3f1c0f7a6b4e5d9c2b1a0f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a392817",
		} {
			if err := store.Set(ctx, key, value); err != nil {
				b.Fatal(err)
			}
		}
		store.SessionRelease(ctx, nil)
	}
	return ids
}

// requests makes n requests, so many at a time.
func requests(b *testing.B, p *redis.Provider, ids []string, change bool, goroutines, n int) {
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for worker := range goroutines {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := worker; left.Add(-1) >= 0; i += goroutines {
				if err := request(p, ids[i%len(ids)], change); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	all.Wait()
}

// request makes the calls that beego makes of a request, with a context of its own that can be cancelled and is not.
func request(p *redis.Provider, id string, change bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if found, err := p.SessionExist(ctx, id); !found || err != nil {
		return fmt.Errorf("SessionExist = %v, %w", found, err)
	}
	return oneRequest(ctx, p, id, change)
}

// oneRequest is request without the look before it.
func oneRequest(ctx context.Context, p *redis.Provider, id string, change bool) error {
	store, err := p.SessionRead(ctx, id)
	if err != nil {
		return err
	}
	visits, ok := store.Get(ctx, "visits").(int)
	if !ok {
		return fmt.Errorf("visits = %v", store.Get(ctx, "visits"))
	}
	if change {
		if err := store.Set(ctx, "visits", visits+1); err != nil {
			return err
		}
	}
	store.SessionRelease(ctx, nil)
	return nil
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
