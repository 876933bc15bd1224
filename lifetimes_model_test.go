// Requests of one session in any order, on two processes with different life times, against a model of how long it lives.

package redis_test

import (
	"fmt"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego-session/redis/internal/redistest"
)

// lifeRequest is a request, and what the model knows of it.
type lifeRequest struct {
	store   *redis.SessionStore
	p       int
	id      string
	own     time.Duration // as it sees it
	sets    bool          // a life time
	resets  bool          // the age
	changes bool
	passive bool
}

func TestAnyOrderOfRequestsKeepsLifeTimes(t *testing.T) {
	t.Parallel()
	for _, topology := range topologies[:3] {
		t.Run(topology.name, func(t *testing.T) {
			t.Parallel()
			config, raw := topology.start(t)
			s := &site{T: t, config: config, raw: raw}
			usual := []time.Duration{1000 * time.Second, 3000 * time.Second}
			// Each release renews, so that each shows for how long.
			const policy = `"touch_interval":"0s","max_age":"1000h"`
			processes := []*redis.Provider{s.with(policy, 1000), s.with(policy, 3000)}
			s.Provider = processes[0]
			random := seed(t)

			id, own, old := s.create("n", 0), time.Duration(0), false
			var requests []*lifeRequest
			begin := func() {
				p := random.IntN(2)
				requests = append(requests, &lifeRequest{store: s.readStore(processes[p], id), p: p, id: id, own: own})
			}
			begin()
			for step := range redistest.Times(300, 1000) {
				if len(requests) == 0 || len(requests) < 5 && random.IntN(3) == 0 {
					begin()
				}
				at := random.IntN(len(requests))
				r := requests[at]
				last := ""
				switch random.IntN(9) {
				case 0:
					last = "set"
					set(t, r.store, fmt.Sprint(random.IntN(3)), step)
					r.changes = true
				case 1:
					d := time.Duration(random.IntN(4)) * 2000 * time.Second
					last = fmt.Sprint("life time ", d)
					s.ok(r.store.SetLifeTime(ctx, d))
					if d != r.own {
						r.own, r.sets = d, true
					}
				case 2:
					last = "new age"
					r.store.ResetAge(ctx)
					r.resets = true
				case 3:
					last = "no activity"
					r.store.NoActivity(ctx)
					r.passive = true
				case 4:
					last = "flush"
					s.ok(r.store.Flush(ctx))
					r.changes = true
				case 5:
					if random.IntN(4) != 0 {
						continue
					}
					last = "regenerate"
					next := newID()
					moved, err := processes[r.p].SessionRegenerate(ctx, id, next)
					if err != nil {
						t.Fatal(err)
					}
					id = next
					requests[at] = &lifeRequest{store: moved.(*redis.SessionStore), p: r.p, id: id, own: own}
					want := usual[r.p]
					if own != 0 {
						want = own
					}
					s.lives("moved", id, want)
				default:
					last = "release"
					if random.IntN(5) == 0 {
						s.grow(id, 100*time.Hour)
						old = true
					}
					left := 500 * time.Second
					s.raw.Expire(id, left)
					saves := r.sets || r.resets || r.changes
					if r.id == id { // else it has moved, and nothing is done
						if r.sets {
							own = r.own
						}
						if r.resets {
							old = false
						}
						if !r.passive || r.sets {
							left = usual[r.p]
							if own != 0 {
								left = own
							}
						}
						if saves {
							r.own = own
						}
						r.sets, r.resets, r.changes = false, false, false
					}
					r.store.SessionRelease(ctx, nil)
					s.lives("released", id, left)
					if random.IntN(2) == 0 {
						requests = append(requests[:at], requests[at+1:]...)
					}
				}
				value := record.Value(s.raw.Get(id).Val())
				if got := time.Duration(value.OwnLife()) * time.Second; got != own {
					t.Errorf("its own life time is %v, want %v", got, own)
				}
				if was := time.Since(value.Created()) > 50*time.Hour; was != old {
					t.Errorf("it is old: %v, want %v", was, old)
				}
				if t.Failed() {
					t.Fatalf("after step %d, %s by %+v", step, last, *r)
				}
			}
		})
	}
}
