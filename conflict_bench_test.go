package redis_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
)

// BenchmarkConflict is a release that meets what another request has saved meanwhile.
func BenchmarkConflict(b *testing.B) {
	s := redistest.Start(b)
	p := open(b, s.Addr(), life)
	cart := map[string]any{}
	for i := range 20 {
		cart[fmt.Sprint("item ", i)] = map[string]any{"price": 1.5, "count": i}
	}
	read := func(id string) session.Store {
		store, err := p.SessionRead(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		return store
	}
	for _, row := range []struct {
		name   string
		change func(mine, theirs session.Store, i int)
	}{
		{"in other keys", func(mine, theirs session.Store, i int) { set(b, mine, "a", i); set(b, theirs, "b", i) }},
		{"in one key", func(mine, theirs session.Store, i int) { set(b, mine, "a", i); set(b, theirs, "a", -i) }},
		{"in one map", func(mine, theirs session.Store, i int) {
			mine.Get(ctx, "cart").(map[string]any)["mine"] = i
			theirs.Get(ctx, "cart").(map[string]any)["theirs"] = i
		}},
	} {
		b.Run(row.name, func(b *testing.B) {
			id := newID()
			store := read(id)
			set(b, store, "a", 0, "b", 0, "cart", cart)
			for i := range 20 {
				set(b, store, fmt.Sprint("key ", i), "value")
			}
			store.SessionRelease(ctx, nil)
			b.ReportAllocs()
			for i := range b.N {
				b.StopTimer()
				mine, theirs := read(id), read(id)
				row.change(mine, theirs, i+1)
				theirs.SessionRelease(ctx, nil)
				b.StartTimer()
				mine.SessionRelease(ctx, nil)
			}
		})
	}
}

// BenchmarkUpdate is what an Update takes while others update the same session, over two providers.
func BenchmarkUpdate(b *testing.B) {
	s := redistest.Start(b)
	providers := []*redis.Provider{open(b, s.Addr(), life), open(b, s.Addr(), life)}
	for _, goroutines := range []int{1, 2, 16} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			id := newID()
			var left, runs atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			for i := range goroutines {
				all.Add(1)
				go func() {
					defer all.Done()
					for left.Add(-1) >= 0 {
						store, err := providers[i%2].SessionRead(ctx, id)
						if err == nil {
							err = update(store, func(view session.Store) error { runs.Add(1); return add("n", 1)(view) })
						}
						if err != nil {
							b.Error(err)
						}
					}
				}()
			}
			all.Wait()
			b.ReportMetric(float64(runs.Load())/float64(b.N), "runs/op")
			if store, err := providers[0].SessionRead(ctx, id); err != nil || store.Get(ctx, "n") != b.N {
				b.Errorf("%v of %d, %v", store.Get(ctx, "n"), b.N, err)
			}
		})
	}
}
