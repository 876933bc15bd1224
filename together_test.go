// Merge functions, Updates, life times of their own, hashed ids and what does not decode, where they meet.

package redis_test

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego/beego/v2/server/web/session"
)

// setOnce shows that a life time that was set is no matter to the saves after that which saved it.
func setOnce(s *site) {
	for name, save := range map[string]func(store *redis.SessionStore){
		"a release": func(store *redis.SessionStore) { store.SessionRelease(ctx, nil) },
		"an Update": func(store *redis.SessionStore) { s.ok(update(store, add("n", 1))) },
		"an Update that changes nothing": func(store *redis.SessionStore) {
			s.ok(update(store, func(session.Store) error { return nil }))
		},
		"an Update after a conflict": func(store *redis.SessionStore) {
			s.by(store.SessionID(ctx), func(other session.Store) {
				other.(*redis.SessionStore).NoActivity(ctx)
				set(s, other, "theirs", store.Get(ctx, "n"))
			})
			s.ok(update(store, add("n", 1)))
		},
	} {
		id := s.create("n", 0)
		store := s.readStore(s, id)
		s.ok(store.SetLifeTime(ctx, 3*time.Hour))
		save(store)
		s.lives(name, id, 3*time.Hour)
		s.raw.Expire(id, 5*time.Minute)
		store.NoActivity(ctx)
		set(s, store, "later", 1)
		save(store)
		s.lives(name+", and another that is no activity", id, 5*time.Minute)
		set(s, store, "later", 2)
		s.ok(store.SetLifeTime(ctx, 2*time.Hour))
		save(store)
		s.lives(name+", and a third that sets it again", id, 2*time.Hour)
	}
}

// setInAnUpdate shows what becomes of a life time that is set in the view of an Update, or in its store meanwhile.
func setInAnUpdate(s *site) {
	own := func(id string) time.Duration {
		return time.Duration(record.Value(s.raw.Get(id).Val()).OwnLife()) * time.Second
	}
	for _, conflicts := range []bool{false, true} {
		id := s.create("n", 0)
		store := s.readStore(s, id)
		runs := 0
		s.ok(update(store, func(view session.Store) error {
			s.ok(view.(*redis.SessionStore).SetLifeTime(ctx, 2*time.Hour))
			if runs++; runs == 1 {
				s.ok(store.SetLifeTime(ctx, 3*time.Hour))
				if conflicts {
					s.by(id, func(other session.Store) { set(s, other, "theirs", 1) })
				}
			}
			return add("n", 1)(view)
		}))
		s.lives("as the function has set it", id, 2*time.Hour)
		store.SessionRelease(ctx, nil)
		want := 3 * time.Hour
		if conflicts { // then the function has seen it, and set another
			want = 2 * time.Hour
		}
		if s.lives("after a release", id, want); own(id) != want {
			s.Errorf("conflicts %v: its own life time is %v, want %v", conflicts, own(id), want)
		}
	}
}

// agedInAnUpdate shows that a session which has reached max_age is saved by no Update but one that begins its age anew.
func agedInAnUpdate(s *site) {
	p := s.with(`"max_age":"1h"`, life)
	aged := func() *redis.SessionStore {
		id := newID()
		s.use(p, id, "n", 0)
		store := s.readStore(p, id)
		s.grow(id, 2*time.Hour)
		return store
	}
	store := aged()
	id := store.SessionID(ctx)
	before := s.raw.Get(id).Val()
	if err := update(store, add("n", 1)); !errors.Is(err, redis.ErrGone) || s.raw.Get(id).Val() != before {
		s.Errorf("Update = %v", err)
	}
	for name, row := range map[string]struct{ before, in func(*redis.SessionStore) }{
		"before":        {func(store *redis.SessionStore) { store.ResetAge(ctx) }, func(*redis.SessionStore) {}},
		"by a function": {func(*redis.SessionStore) {}, func(view *redis.SessionStore) { view.ResetAge(ctx) }},
	} {
		store := aged()
		row.before(store)
		s.ok(update(store, func(view session.Store) error {
			row.in(view.(*redis.SessionStore))
			return add("n", 1)(view)
		}))
		id := store.SessionID(ctx)
		if age := time.Since(record.Value(s.raw.Get(id).Val()).Created()); age > time.Hour {
			s.Errorf("%s: it is %v old", name, age)
		}
		s.grow(id, 30*time.Minute)
		set(s, store, "later", 1)
		store.SessionRelease(ctx, nil)
		if age := time.Since(record.Value(s.raw.Get(id).Val()).Created()); age < 30*time.Minute {
			s.Errorf("%s: its age has begun anew once more: %v", name, age)
		}
		s.holds(id, "n", 1, "later", 1)
	}
}

// carriedInAnUpdate shows that what does not decode is seen by neither a function of an Update nor a merge function, and stays.
func carriedInAnUpdate(s *site) {
	ann := user{Name: "ann"}
	p := s.with(`"skip_empty":false`, life)
	p.MergeKey("u", func(original, mine, theirs any) any {
		if original != nil || mine != "mine" || theirs != "theirs" {
			s.Errorf("the merge function gets %v, %v and %v", original, mine, theirs)
		}
		return "both"
	})
	id := newID()
	s.put(id, strangers(s))
	store := s.read(p, id)
	runs := 0
	s.ok(update(store, func(view session.Store) error {
		if got := view.Get(ctx, "u"); got != nil {
			s.Errorf("the function sees %v", got)
		}
		if runs++; runs == 1 {
			s.theirsSet(id, "theirs", user{Name: "eve"})
		}
		return add("n", 1)(view)
	}))
	s.knows(id, map[any]any{"u": ann, "n": 2, "theirs": user{Name: "eve"}})
	set(s, store, "later", 1)
	store.SessionRelease(ctx, nil)
	s.knows(id, map[any]any{"u": ann, "n": 2, "theirs": user{Name: "eve"}, "later": 1})

	// Both replace it.
	s.by(id, func(other session.Store) { set(s, other, "u", "theirs") })
	set(s, store, "u", "mine")
	store.SessionRelease(ctx, nil)
	s.knows(id, map[any]any{"u": "both", "n": 2, "theirs": user{Name: "eve"}, "later": 1})

	// I replace it while they change it.
	s.put(id, strangers(s))
	store = s.read(p, id)
	set(s, store, "u", "mine")
	s.theirsSet(id, "u", user{Name: "eve"})
	store.SessionRelease(ctx, nil)
	s.knows(id, map[any]any{"u": "mine", "n": 1})
}

// releasedInAMerge shows that an Update takes nothing back that its store has saved while its merge functions ran.
func releasedInAMerge(s *site) {
	p := s.with(`"skip_empty":false`, life)
	id := s.create("n", 1)
	store := s.read(p, id)
	calls := 0
	p.MergeKey("n", func(original, mine, theirs any) any {
		if calls++; calls == 1 {
			store.SessionRelease(ctx, nil)
			set(s, store, "unsaved", 1)
		}
		return redis.Sum(original, mine, theirs)
	})
	within(s, func() {
		s.ok(update(store, func(view session.Store) error {
			set(s, store, "n", 3, "mine", 1)
			return add("n", 10)(view)
		}))
	})
	s.holds(id, "n", 13, "mine", 1)
	for key, want := range map[string]any{"n": 13, "mine": 1, "unsaved": 1} {
		if got := store.Get(ctx, key); got != want {
			s.Errorf("the store has %v under %s, want %v", got, key, want)
		}
	}
	store.SessionRelease(ctx, nil)
	s.holds(id, "n", 13, "mine", 1, "unsaved", 1)
}

// endedInAFunction shows that a function which ends its goroutine leaves nothing behind that others would wait for.
func endedInAFunction(s *site) {
	p := s.with(`"skip_empty":false`, life)
	id := s.create("n", 1)
	for name, ends := range map[string]func(){
		"a panic": func() { panic("oh") },
		"Goexit":  runtime.Goexit,
	} {
		store := s.read(p, id)
		alone := func(f func()) {
			var ended sync.WaitGroup
			ended.Add(1)
			go func() {
				defer ended.Done()
				defer func() { _ = recover() }()
				f()
			}()
			ended.Wait()
		}
		alone(func() { _ = update(store, func(session.Store) error { ends(); return nil }) })
		s.by(id, func(other session.Store) { set(s, other, "n", 2) })
		set(s, store, "n", 3, name, 1)
		p.MergeKey("n", func(_, _, _ any) any { ends(); return nil })
		alone(func() { store.SessionRelease(ctx, nil) })
		p.MergeKey("n", redis.Larger)
		begun := time.Now()
		s.ok(update(store, add("n", 1)))
		store.SessionRelease(ctx, nil)
		if took := time.Since(begun); took > time.Minute {
			s.Errorf("%s: those after it took %v", name, took)
		}
		if got := s.stored(id); got["n"] != 4 || got[name] != 1 {
			s.Errorf("%s: stored is %v", name, got)
		}
		s.by(id, func(other session.Store) { set(s, other, "n", 1) })
	}
	s.ok(p.Close(ctx))
}

// closedInAnUpdate shows that Close waits for the function of an Update and for its save.
func closedInAnUpdate(s *site) {
	p := s.with(`"skip_empty":false`, life)
	id := s.create("n", 1)
	store := s.read(p, id)
	closed := make(chan error, 1)
	s.ok(update(store, func(view session.Store) error {
		go func() { closed <- p.Close(ctx) }()
		await(s, "Close to begin", func() bool {
			_, err := p.SessionExist(ctx, id)
			return errors.Is(err, redis.ErrClosed)
		})
		return add("n", 1)(view)
	}))
	s.ok(<-closed)
	s.holds(id, "n", 2)
}

// movedInAnUpdate shows that an Update finds a session that has moved to its hash, before or meanwhile.
func movedInAnUpdate(s *site) {
	for _, keys := range []string{"", fmt.Sprintf(`,"encryption_keys_file":%q`, keysFile(s, newKey()))} {
		_, accept, all, prefix := s.inModes()
		if keys != "" {
			accept.Provider = s.with(fmt.Sprintf(`"key_prefix":%q,"user_key":"uid","hash_ids":"accept"`, prefix)+keys, life)
			all.Provider = s.with(fmt.Sprintf(`"key_prefix":%q,"user_key":"uid","hash_ids":true`, prefix)+keys, life)
		}
		accept.MergeKey("sum", redis.Sum)
		move := func(id string) {
			if ok, err := all.SessionExist(ctx, id); !ok || err != nil {
				s.Fatal(ok, err)
			}
			all.read(all, id) // takes what was found
		}
		for _, when := range []string{"before", "meanwhile", "by a release of the store"} {
			id := newID()
			s.use(accept.Provider, id, "n", 1)
			store := accept.read(accept, id)
			if set(s, store, "mine", 1); when == "before" {
				move(id)
			}
			runs := 0
			if err := update(store, func(view session.Store) error {
				runs++
				switch {
				case runs > 1 || when == "before":
				case when == "meanwhile":
					move(id)
				default:
					move(id)
					store.SessionRelease(ctx, nil)
				}
				set(s, view, "uid", "user of "+id)
				return add("n", 1)(view)
			}); err != nil {
				s.Errorf("moved %s: %v", when, err)
				continue
			}
			set(s, store, "later", 1)
			store.SessionRelease(ctx, nil)
			got := all.read(all, id)
			for key, want := range map[string]any{"n": 2, "mine": 1, "later": 1} {
				if got := got.Get(ctx, key); got != want {
					s.Errorf("moved %s: %s is %v, want %v", when, key, got, want)
				}
			}
			if ids := idsOf(s, all.Provider, "user of "+id); !reflect.DeepEqual(ids, []string{hashed(id)}) {
				s.Errorf("moved %s: the sessions of the user are %v", when, ids)
			}
		}
	}
}

// manyOnOneStore shows that Updates and releases of one store at once, and of another, lose nothing and do nothing twice.
func manyOnOneStore(s *site) {
	p := s.with(`"skip_empty":false`, life)
	p.MergeKey("sum", redis.Sum)
	const n = 6
	id := s.create("n", 0, "sum", 0, "m", map[string]any{})
	store, other := s.readStore(p, id), s.readStore(p, id)
	set(s, store, "sum", 1)
	var all sync.WaitGroup
	for i := range n {
		for _, f := range []func(key string){
			func(string) { s.ok(update(store, add("n", 1))) },
			func(string) { s.ok(update(other, add("n", 1))) },
			func(key string) { set(s, store, key, i); store.SessionRelease(ctx, nil) },
			func(key string) {
				s.ok(update(store, func(view session.Store) error {
					view.Get(ctx, "m").(map[string]any)[key] = i
					set(s, store, "of "+key, i)
					return nil
				}))
			},
			func(string) { s.ok(store.SetLifeTime(ctx, time.Duration(i)*time.Hour)); store.ResetAge(ctx) },
			func(string) { store.NoActivity(ctx); _ = store.Get(ctx, "n"); store.SessionRelease(ctx, nil) },
			func(string) { s.use(p, id, fmt.Sprint("by ", i), i) },
		} {
			all.Add(1)
			go func() {
				defer all.Done()
				f(fmt.Sprint(i))
			}()
		}
	}
	all.Wait()
	store.SessionRelease(ctx, nil)
	other.SessionRelease(ctx, nil)
	values, m := s.stored(id), map[string]any{}
	for i := range n {
		m[fmt.Sprint(i)] = i
		for _, key := range []string{fmt.Sprint(i), fmt.Sprint("of ", i), fmt.Sprint("by ", i)} {
			if values[key] != i {
				s.Errorf("%s is %v", key, values[key])
			}
		}
	}
	if values["n"] != 2*n || values["sum"] != 1 || !reflect.DeepEqual(values["m"], m) {
		s.Errorf("n = %v, sum = %v and m = %v", values["n"], values["sum"], values["m"])
	}
}
