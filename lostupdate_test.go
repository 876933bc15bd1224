// What becomes of counters when replies are lost.

package redis_test

import (
	"fmt"
	"strings"
	"testing"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
)

// countedOnce shows that what is added to a number by Sum is added once.
func countedOnce(s *twoProcesses, save string) {
	for _, p := range []*redis.Provider{s.Provider, s.other} {
		p.MergeKey("n", redis.Sum)
	}
	adds := func(p *redis.Provider, id string) {
		store := s.read(p, id)
		set(s, store, "n", store.Get(ctx, "n").(int)+1)
		store.SessionRelease(ctx, nil)
	}
	// Its save is done and repeated; others have saved before, or do so after it.
	for _, times := range []int{1, 2} {
		id := s.create("n", 0)
		store := s.read(s, id)
		set(s, store, "n", 1)
		adds(s.other, id)
		s.network.lose(save, times, func() { adds(s.other, id) })
		store.SessionRelease(ctx, nil)
		s.network.heal()
		s.holds(id, "n", 3)
		s.network.late(s, s.raw)
		s.holds(id, "n", 3)
	}
	// Its save is done, and it does not learn of that before its next release.
	for others := range 3 {
		id := s.create("n", 0)
		store := s.read(s, id)
		set(s, store, "n", 1)
		s.network.lose("", always, nil)
		store.SessionRelease(ctx, nil)
		s.network.heal()
		for range others {
			adds(s.other, id)
		}
		set(s, store, "n", store.Get(ctx, "n").(int)+1)
		store.SessionRelease(ctx, nil)
		s.holds(id, "n", 2+others)
	}
	// It is not done.
	id := s.create("n", 0)
	store := s.read(s, id)
	set(s, store, "n", 1)
	s.network.lose("", always, nil)
	s.network.requests = true
	store.SessionRelease(ctx, nil)
	s.network.heal()
	adds(s.other, id)
	set(s, store, "n", store.Get(ctx, "n").(int)+1)
	store.SessionRelease(ctx, nil)
	s.network.late(s, s.raw)
	s.holds(id, "n", 3)
}

// lostUpdate is an Update that adds 1, and does what else it is given, and whose save, executed or not, nothing is heard of.
func (s *twoProcesses) lostUpdate(store session.Store, save string, executed bool, also ...func(view session.Store)) error {
	defer s.network.heal()
	return update(store, func(view session.Store) error {
		for _, f := range also {
			f(view)
		}
		s.network.lose(save, always, nil)
		lost, saves := false, s.network.loses
		s.network.loses = func(name string) bool {
			lost = saves(name) || lost
			return lost
		}
		s.network.requests = !executed
		return add("n", 1)(view)
	})
}

// updatedOnce shows that an Update is done once, and neither again nor undone by a release of its store.
func updatedOnce(s *twoProcesses, save string) {
	for _, times := range []int{1, 2} {
		id := s.create("n", 0, "pending", 0)
		store := s.read(s, id)
		set(s, store, "pending", 1)
		s.network.lose(save, times, func() {
			if err := update(s.read(s.other, id), add("n", 1)); err != nil {
				s.Error(err)
			}
		})
		if err := update(store, add("n", 1)); err != nil {
			s.Error(err)
		}
		if len(s.network.lost) == 0 {
			s.Error("no reply was lost")
		}
		s.network.heal()
		store.SessionRelease(ctx, nil)
		s.holds(id, "n", 2, "pending", 1)
		s.network.late(s, s.raw)
		s.holds(id, "n", 2, "pending", 1)
	}
	s.MergeKey("pending", redis.Sum) // which would count twice what is taken for another's
	for _, executed := range []bool{true, false} {
		for name, after := range map[string]func(store session.Store, id string) (n, other int){
			"a release": func(store session.Store, id string) (n, other int) {
				store.SessionRelease(ctx, nil)
				return 0, 0
			},
			"a change and a release": func(store session.Store, id string) (n, other int) {
				set(s, store, "other", 1)
				store.SessionRelease(ctx, nil)
				return 0, 1
			},
			"a release after others": func(store session.Store, id string) (n, other int) {
				if err := update(s.read(s.other, id), add("n", 1)); err != nil {
					s.Error(err)
				}
				store.SessionRelease(ctx, nil)
				return 1, 0
			},
			"an Update": func(store session.Store, id string) (n, other int) {
				if err := update(store, add("n", 1)); err != nil {
					s.Error(err)
				}
				return 1, 0
			},
			"an Update after others, and a release": func(store session.Store, id string) (n, other int) {
				if err := update(s.read(s.other, id), add("n", 1)); err != nil {
					s.Error(err)
				}
				set(s, store, "other", 1)
				if err := update(store, add("n", 1)); err != nil {
					s.Error(err)
				}
				store.SessionRelease(ctx, nil)
				return 2, 1
			},
			"another that is lost": func(store session.Store, id string) (n, other int) {
				set(s, store, "other", 1)
				if err := s.lostUpdate(store, save, true); err == nil {
					s.Error("no error")
				}
				executedToo := s.stored(id)["other"] == 1
				store.SessionRelease(ctx, nil)
				if executedToo {
					return 1, 1
				}
				return 0, 1
			},
		} {
			s.Run(fmt.Sprintf("%s, executed %v", name, executed), func(t *testing.T) {
				s := &twoProcesses{site: &site{T: t, raw: s.raw, config: s.config, Provider: s.Provider}, network: s.network, other: s.other, log: s.log}
				id := s.create("n", 0, "pending", 0, "other", 0)
				store := s.read(s, id)
				set(s, store, "pending", 1)
				err := s.lostUpdate(store, save, executed)
				if err == nil || !strings.Contains(err.Error(), "may have been saved") {
					s.Fatalf("Update = %v", err)
				}
				n, other := after(store, id)
				if executed {
					n++
				}
				s.holds(id, "n", n, "pending", 1, "other", other)
				store.SessionRelease(ctx, nil)
				s.network.late(s, s.raw)
				s.holds(id, "n", n, "pending", 1, "other", other)
			})
		}
	}
	// A release of the store is lost while the function runs.
	for _, executed := range []bool{true, false} {
		id := s.create("n", 0, "pending", 0)
		store := s.read(s, id)
		set(s, store, "pending", 1)
		runs := 0
		if err := update(store, func(view session.Store) error {
			if runs++; runs == 1 {
				set(s, store, "pending", 2)
				s.network.lose("", always, nil)
				s.network.requests = !executed
				store.SessionRelease(ctx, nil)
				s.network.heal()
				set(s, store, "pending", 3)
			}
			return add("n", 1)(view)
		}); err != nil {
			s.Error(err)
		}
		s.network.late(s, s.raw)
		store.SessionRelease(ctx, nil)
		s.holds(id, "n", 1, "pending", 3)
	}
}

// countedAfterMany shows that what is added is added once also where more saves of one store fail than are remembered, whichever of
// them was done; or that nobody can tell, and then nothing is added.
func countedAfterMany(s *twoProcesses, save string) {
	for _, p := range []*redis.Provider{s.Provider, s.other} {
		p.MergeKey("n", redis.Sum)
	}
	const releases = 12
	for _, done := range []int{1, 0, releases - 1, 2, 5}[:redistest.Times(1, 3)] {
		for others := range 2 {
			id := s.create("n", 0)
			store := s.read(s, id)
			for i := range releases {
				set(s, store, "n", i+1, fmt.Sprint(i), i)
				s.network.lose("", always, nil)
				s.network.requests = i != done
				store.SessionRelease(ctx, nil)
				s.network.heal()
			}
			for range others {
				other := s.read(s.other, id)
				set(s, other, "n", other.Get(ctx, "n").(int)+1)
				other.SessionRelease(ctx, nil)
			}
			s.log.take()
			store.SessionRelease(ctx, nil)
			want := releases + others
			if text := s.log.take(); strings.Contains(text, "nobody can tell") {
				if want = done + 1 + others; done == 0 || done == releases-1 {
					s.Errorf("save %d was done, and %d others: %s", done, others, text)
				}
			}
			if n := s.stored(id)["n"]; n != want {
				s.Fatalf("save %d was done, and %d others: n = %v, want %d", done, others, n, want)
			}
		}
	}
}
