// An id that a session has moved away from: for a while it is there, and is empty.

package redis_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
)

// graceful opens a provider whose grace does not end within the test.
func (s *site) graceful() *redis.Provider { return s.with(`"regenerate_grace":"1m"`, life) }

// passes checks that an id is there as a session that is empty and never saved.
func (s *site) passes(p *redis.Provider, id string) {
	s.Helper()
	if ok, err := p.SessionExist(ctx, id); !ok || err != nil {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	for _, store := range []session.Store{s.read(p, id), s.read(p, id)} { // one after SessionExist, and one without it
		if got := store.Get(ctx, "n"); got != nil || store.SessionID(ctx) != id {
			s.Errorf("n = %v, of the session %s", got, store.SessionID(ctx))
		}
		set(s, store, "n", "late", "map", map[string]any{"a": 1})
		if got := store.Get(ctx, "n"); got != "late" {
			s.Errorf("within the request n = %v", got)
		}
		store.Get(ctx, "map").(map[string]any)["a"] = 2
		if err := store.Delete(ctx, "n"); err != nil || store.Get(ctx, "n") != nil {
			s.Errorf("Delete = %v", err)
		}
		releaseIfPresent(ctx, store)
		if err := store.Flush(ctx); err != nil || store.Get(ctx, "map") != nil {
			s.Errorf("Flush = %v", err)
		}
		store.SessionRelease(ctx, nil)
	}
	if n := s.raw.Exists(id).Val(); n != 0 {
		s.Error("it was saved")
	}
}

func (s *site) loggedIn(p *redis.Provider, old string) (id string) {
	s.Helper()
	id = newID()
	store, err := p.SessionRegenerate(ctx, old, id)
	if err != nil {
		s.Fatal(err)
	}
	set(s, store, "user", "of "+id[:6])
	store.SessionRelease(ctx, nil)
	return id
}

func grace(s *site) {
	p := s.graceful()
	p.OnError(noteLoss)
	old := s.create("n", 1)
	id := s.loggedIn(p, old)
	s.passes(p, old)
	s.holds(id, "n", 1, "user", "of "+id[:6])
	if left := s.ttl("grace:{" + old + "}"); left <= time.Minute-30*time.Second || left > time.Minute {
		s.Errorf("the grace lasts for %v", left)
	}
	if loses(s.late(p, old)) {
		s.Error("a late request is said to have lost something")
	}
	s.gone(old) // for a process without a grace
	for sid, err := range p.Sessions(ctx) {
		if err != nil || sid == old || strings.Contains(sid, "grace") {
			s.Errorf("%q is listed: %v", sid, err)
		}
	}
	for _, sid := range []string{"grace:{" + old + "}", "grace:{"} {
		if ok, err := p.SessionExist(ctx, sid); ok || err != nil {
			s.Errorf("SessionExist of the key of a grace = %v, %v", ok, err)
		}
		if _, err := p.SessionRead(ctx, sid); err == nil {
			s.Error("SessionRead of the key of a grace succeeds")
		}
	}

	// A log-in form that was sent twice gets a session of its own, and the grace begins anew.
	s.raw.Expire("grace:{"+old+"}", 2*time.Second)
	again := s.loggedIn(p, old)
	s.holds(again, "user", "of "+again[:6])
	s.holds(id, "n", 1, "user", "of "+id[:6])
	if left := s.ttl("grace:{" + old + "}"); left < 30*time.Second {
		s.Errorf("the grace lasts for %v", left)
	}
	s.passes(p, old)

	if err := p.SessionDestroy(ctx, old); err != nil {
		s.Error(err)
	}
	if ok, err := p.SessionExist(ctx, old); ok || err != nil {
		s.Errorf("SessionExist after a destroy = %v, %v", ok, err)
	}
	s.holds(id, "n", 1, "user", "of "+id[:6])
}

// late is what a late request reads, with a change that it makes.
func (s *site) late(p *redis.Provider, id string) session.Store {
	s.Helper()
	store := s.read(p, id)
	set(s, store, "n", "late")
	return store
}

func graceOfNothing(s *site) {
	p, old := s.graceful(), newID()
	id := s.loggedIn(p, old)
	s.passes(p, old)
	s.raw.Del("gone:{" + old + "}") // which ends before a long grace
	s.passes(p, old)
	s.holds(id, "user", "of "+id[:6])
	if _, err := p.SessionRegenerate(ctx, id, id); err != nil {
		s.Error(err)
	}
	if n := s.raw.Exists("grace:{" + id + "}").Val(); n != 0 {
		s.Error("a session that has not moved has a grace")
	}
}

func graceEnds(s *site) {
	p, old := s.graceful(), s.create("n", 1)
	s.loggedIn(p, old)
	s.raw.Del("grace:{" + old + "}") // as the server does when it expires
	if ok, err := p.SessionExist(ctx, old); ok || err != nil {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	store := s.late(p, old)
	store.SessionRelease(ctx, nil)
	s.holds(old, "n", "late")

	// What SessionExist has said is there in its grace is not created after it.
	id := s.create("n", 1)
	s.loggedIn(p, id)
	if ok, err := p.SessionExist(ctx, id); !ok || err != nil {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	s.raw.Del("grace:{" + id + "}")
	time.Sleep(25 * time.Millisecond) // longer than a look serves the read that follows
	store = s.late(p, id)
	store.SessionRelease(ctx, nil)
	s.gone(id)
}

func graceAndPresent(s *site) {
	p, old := s.graceful(), s.create("n", 1)
	s.loggedIn(p, old)
	s.put(old, "") // by a process that knows of no grace
	store := s.read(p, old)
	set(s, store, "n", 2)
	store.SessionRelease(ctx, nil)
	s.holds(old, "n", 2)
	if store := s.read(p, old); store.Get(ctx, "n") != 2 {
		s.Errorf("n = %v", store.Get(ctx, "n"))
	}

	bad := newID()
	s.put(bad, strangers(s)[:40])
	next := newID()
	if _, err := p.SessionRegenerate(ctx, bad, next); err == nil {
		s.Error("SessionRegenerate of what does not decode succeeds")
	}
	if ok, err := p.SessionExist(ctx, bad); !ok || err != nil || s.raw.Exists(next).Val() != 0 {
		s.Errorf("SessionExist of what was given back = %v, %v", ok, err)
	}
	if _, err := p.SessionRead(ctx, bad); err == nil {
		s.Error("what does not decode is read as an empty session")
	}
}

// Whoever looks while a session moves finds it, or an empty one.
func graceFromTheMoveOn(s *site) {
	p, other := s.graceful(), s.graceful()
	for range redistest.Times(10, 100) {
		id := s.create("n", 1)
		var looks atomic.Int64
		var all sync.WaitGroup
		moved := make(chan struct{})
		for range 4 {
			all.Add(1)
			go func() {
				defer all.Done()
				for end := false; !end; {
					select {
					case <-moved:
						end = true
					default:
					}
					if ok, err := other.SessionExist(ctx, id); !ok || err != nil {
						s.Errorf("SessionExist = %v, %v", ok, err)
						return
					}
					if looks.Add(1)%2 == 0 {
						continue
					}
					for range 2 { // after SessionExist, and without it
						if store := s.read(other, id); store.Get(ctx, "n") == nil {
							set(s, store, "n", 2)
							store.SessionRelease(ctx, nil)
						}
					}
				}
			}()
		}
		await(s, "looks", func() bool { return looks.Load() > 8 || s.Failed() })
		next := s.loggedIn(p, id)
		close(moved)
		all.Wait()
		s.holds(next, "n", 1, "user", "of "+next[:6])
		if n := s.raw.Exists(id).Val(); n != 0 {
			s.Error("a session was created under the old id")
		}
	}
}
