package redis_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/redistest"
)

// Requests are cancelled at about the time when their replies come, alone and in lanes. What is used again, as batches and
// connections are, must not be what a call that was left still touches.
func TestCancelledRequestsMixNothingUp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	p := open(t, proxy.Addr(), life)
	site := &site{T: t, raw: s.Client(), Provider: p}
	for _, goroutines := range []int{3, 40} {
		t.Run(fmt.Sprint(goroutines), func(t *testing.T) {
			ids := make([]string, goroutines)
			for g := range ids {
				ids[g] = site.create("n", g)
			}
			var all sync.WaitGroup
			for g, id := range ids {
				random := rand.New(rand.NewPCG(seed, uint64(g)))
				all.Add(1)
				go func() {
					defer all.Done()
					for i := range 40 {
						proxy.SetDelay(time.Duration(random.IntN(8)) * time.Millisecond)
						cancellable, cancel := context.WithCancel(ctx)
						if random.IntN(2) == 0 {
							time.AfterFunc(time.Duration(random.IntN(20_000))*time.Microsecond, cancel)
						}
						store, err := p.SessionRead(cancellable, id)
						switch {
						case err == nil && store.Get(ctx, "n") != g:
							t.Errorf("n = %v, want %d", store.Get(ctx, "n"), g)
						case err == nil:
							if err := store.Set(ctx, "i", i); err != nil {
								t.Error(err)
							}
							store.SessionRelease(cancellable, nil)
							site.holds(id, "n", g, "i", i)
						case !errors.Is(err, context.Canceled) || cancellable.Err() == nil:
							t.Errorf("SessionRead = %v, and the context %v", err, cancellable.Err())
						}
						cancel()
					}
				}()
			}
			all.Wait()
		})
	}
}
