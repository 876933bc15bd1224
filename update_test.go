// Changes that depend on what others have saved.

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	redis "github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web/session"
)

func update(store session.Store, f func(session.Store) error) error {
	return store.(*redis.SessionStore).Update(ctx, f)
}

// add adds to a number of a session.
func add(key string, n int) func(session.Store) error {
	return func(store session.Store) error {
		was, _ := store.Get(ctx, key).(int)
		return store.Set(ctx, key, was+n)
	}
}

// by has another request change the session meanwhile.
func (s *site) by(id string, change func(session.Store)) {
	s.Helper()
	store := s.read(s, id)
	change(store)
	store.SessionRelease(ctx, nil)
}

func updated(s *site) {
	id := s.create("n", 1, "m", map[string]int{"n": 1}, "deleted", 1)
	store := s.read(s, id)
	held := store.Get(ctx, "m").(map[string]int)
	held["mine"] = 1
	set(s, store, "mine", 1)
	_ = store.Delete(ctx, "deleted")
	s.by(id, func(other session.Store) {
		set(s, other, "n", 2, "theirs", 1)
		other.Get(ctx, "m").(map[string]int)["theirs"] = 1
	})
	runs := 0
	err := update(store, func(view session.Store) error {
		runs++
		if got := view.SessionID(ctx); got != id {
			s.Errorf("SessionID = %s", got)
		}
		if got, want := view.Get(ctx, "m"), (map[string]int{"n": 1, "mine": 1, "theirs": 1}); !reflect.DeepEqual(got, want) {
			s.Errorf("run %d: the view has %v, want %v", runs, got, want)
		}
		if got, want := view.Get(ctx, "n"), 1+runs; got != want {
			s.Errorf("run %d: the view has %v, want %v", runs, got, want)
		}
		view.Get(ctx, "m").(map[string]int)["n"] += 10
		_ = add("n", 10)(view)
		view.SessionRelease(ctx, nil)
		releaseIfPresent(ctx, view)
		if _, ok := s.stored(id)["mine"]; ok {
			s.Error("a view was released")
		}
		if runs == 1 {
			s.by(id, func(other session.Store) { set(s, other, "n", 3) })
		}
		return nil
	})
	if err != nil || runs != 2 {
		s.Errorf("Update = %v after %d runs", err, runs)
	}
	want := []any{"n", 13, "m", map[string]int{"n": 11, "mine": 1, "theirs": 1}, "mine", 1, "theirs", 1}
	s.holds(id, want...)
	for i := 0; i < len(want); i += 2 {
		if got := store.Get(ctx, want[i]); !reflect.DeepEqual(got, want[i+1]) {
			s.Errorf("the store has %v under %v, want %v", got, want[i], want[i+1])
		}
	}
	if want := (map[string]int{"n": 1, "mine": 1}); !reflect.DeepEqual(held, want) {
		s.Errorf("the map of a handler was written to: %v", held)
	}

	// What is saved is not saved again, and what is changed after that is.
	before := s.raw.Get(id).Val()
	store.SessionRelease(ctx, nil)
	if s.raw.Get(id).Val() != before {
		s.Error("a release after an Update has saved")
	}
	if err := update(store, func(view session.Store) error { _ = view.Get(ctx, "m"); return nil }); err != nil || s.raw.Get(id).Val() != before {
		s.Errorf("an Update that changes nothing has saved, or %v", err)
	}
	store.Get(ctx, "m").(map[string]int)["n"] = 12
	store.SessionRelease(ctx, nil)
	if got := s.stored(id)["m"].(map[string]int)["n"]; got != 12 {
		s.Errorf("a change in place after an Update is not saved: %v", got)
	}

	// What was changed in place before is saved along, also where the function changes nothing.
	store.Get(ctx, "m").(map[string]int)["n"] = 13
	if err := update(store, func(session.Store) error { return nil }); err != nil || s.stored(id)["m"].(map[string]int)["n"] != 13 {
		s.Errorf("%v, stored is %v", err, s.stored(id)["m"])
	}

	// A new session is created, by whoever is first.
	id = newID()
	first, second := s.read(s, id), s.read(s, id)
	for _, store := range []session.Store{first, second, first} {
		if err := update(store, add("n", 1)); err != nil {
			s.Error(err)
		}
	}
	s.holds(id, "n", 3)
	if ttl := s.ttl(id); !near(ttl) {
		s.Errorf("it lives for %v", ttl)
	}
	first.SessionRelease(ctx, nil)
	second.SessionRelease(ctx, nil)
	s.holds(id, "n", 3)
	id = newID()
	if err := update(s.read(s.with(`"skip_empty":true`, life), id), func(session.Store) error { return nil }); err != nil {
		s.Error(err)
	}
	s.gone(id)
}

// editedMeanwhile shows that what is changed in a store during its Update stays to be released.
func editedMeanwhile(s *site) {
	for name, row := range map[string]struct {
		edit           func(store session.Store)
		stored, before []any
	}{
		"set":     {func(store session.Store) { set(s, store, "a", 2, "b", 2) }, []any{"n", 2, "a", 2, "b", 2, "new", 1}, []any{"n", 2, "a", 1, "new", 1}},
		"deleted": {func(store session.Store) { _ = store.Delete(ctx, "a") }, []any{"n", 2, "new", 1}, []any{"n", 2, "a", 1, "new", 1}},
		"flushed": {func(store session.Store) { _ = store.Flush(ctx); set(s, store, "b", 1) }, []any{"b", 1}, []any{"n", 2, "a", 1, "new", 1}},
		"released": {func(store session.Store) { set(s, store, "b", 3); store.SessionRelease(ctx, nil) }, []any{"n", 2, "a", 1, "b", 3, "new", 1},
			[]any{"n", 2, "a", 1, "b", 3, "new", 1}},
		"updated": {func(store session.Store) {
			if err := update(store, add("b", 4)); err != nil {
				s.Error(err)
			}
		}, []any{"n", 2, "a", 1, "b", 4, "new", 1}, []any{"n", 2, "a", 1, "b", 4, "new", 1}},
	} {
		id := s.create("n", 1)
		store := s.read(s, id)
		set(s, store, "a", 1)
		edited := false
		within(s, func() {
			if err := update(store, func(view session.Store) error {
				if !edited {
					edited = true
					row.edit(store)
				}
				set(s, view, "new", 1)
				return add("n", 1)(view)
			}); err != nil {
				s.Errorf("%s: %v", name, err)
			}
		})
		if s.holds(id, row.before...); s.Failed() {
			s.Fatal(name)
		}
		store.SessionRelease(ctx, nil)
		if s.holds(id, row.stored...); s.Failed() {
			s.Fatalf("%s, after a release", name)
		}
	}
}

func failedUpdates(s *site) {
	id := s.create("n", 1, "m", map[string]int{"n": 1})
	p := s.with(`"max_session_bytes":1000`, life)
	store := s.read(p, id)
	set(s, store, "mine", 1)
	before := s.raw.Get(id).Val()
	own := errors.New("own")
	refuses := func(name string, err error, f func(view session.Store) error) string {
		s.Helper()
		got := update(store, f)
		if got == nil || err != nil && got != err {
			s.Errorf("%s: Update = %v, want %v", name, got, err)
			return ""
		}
		if s.raw.Get(id).Val() != before {
			s.Fatalf("%s: it has saved", name)
		}
		if strings.Contains(got.Error(), id) {
			s.Errorf("%s: the error holds the session id: %v", name, got)
		}
		return got.Error()
	}
	refuses("its own error", own, func(view session.Store) error {
		set(s, view, "n", 2)
		view.Get(ctx, "m").(map[string]int)["n"] = 2
		return own
	})
	if text := refuses("what cannot be encoded", nil, func(view session.Store) error {
		set(s, view, "n", 2)
		return view.Set(ctx, "bad", map[string]any{"c": make(chan int)})
	}); !strings.Contains(text, `"bad"`) {
		s.Errorf("it does not say which key: %s", text)
	}
	if text := refuses("too large", nil, func(view session.Store) error {
		return view.Set(ctx, "large", strings.Repeat("x", 2000))
	}); !strings.Contains(text, "max_session_bytes") {
		s.Errorf("it does not say why: %s", text)
	}
	if text := refuses("an update of a view", nil, func(view session.Store) error { return update(view, add("n", 1)) }); !strings.Contains(text, "itself") {
		s.Errorf("it does not say why: %s", text)
	}
	func() {
		defer func() {
			if p := recover(); p != own {
				s.Errorf("the panic was %v", p)
			}
		}()
		_ = update(store, func(view session.Store) error { set(s, view, "n", 2); panic(own) })
	}()
	ended, cancel := context.WithCancel(ctx)
	if err := store.(*redis.SessionStore).Update(ended, func(view session.Store) error { cancel(); return add("n", 1)(view) }); !errors.Is(err, context.Canceled) {
		s.Errorf("with a context that ends: %v", err)
	}
	if s.raw.Get(id).Val() != before {
		s.Fatal("it has saved")
	}
	if n, m := store.Get(ctx, "n"), store.Get(ctx, "m"); n != 1 || !reflect.DeepEqual(m, map[string]int{"n": 1}) {
		s.Errorf("the store has what was not saved: %v, %v", n, m)
	}
	var none context.Context
	if err := store.(*redis.SessionStore).Update(none, add("n", 1)); err != nil {
		s.Error(err)
	}
	s.holds(id, "n", 2, "m", map[string]int{"n": 1}, "mine", 1)
}

func goneForUpdates(s *site) {
	other := s.with(`"skip_empty":false`, life)
	for name, remove := range map[string]func(id string) error{
		"evicted":             func(id string) error { return s.raw.Del(id).Err() },
		"destroyed here":      func(id string) error { return s.SessionDestroy(ctx, id) },
		"destroyed elsewhere": func(id string) error { return other.SessionDestroy(ctx, id) },
		"regenerated": func(id string) error {
			_, err := s.SessionRegenerate(ctx, id, newID())
			return err
		},
	} {
		id, lateID, newOne := s.create("n", 1), s.create("n", 1), newID()
		store, late, created := s.read(s, id), s.read(s, lateID), s.read(s, newOne)
		if err := remove(id); err != nil {
			s.Fatal(err)
		}
		for range 2 {
			if err := update(store, func(session.Store) error { s.Errorf("%s: the function is called", name); return nil }); !errors.Is(err, redis.ErrGone) {
				s.Errorf("%s: %v", name, err)
			}
		}
		if err := update(late, func(view session.Store) error { _ = remove(lateID); return add("n", 1)(view) }); !errors.Is(err, redis.ErrGone) {
			s.Errorf("%s meanwhile: %v", name, err)
		}
		store.SessionRelease(ctx, nil)
		late.SessionRelease(ctx, nil)
		s.gone(id, lateID)
		if name != "evicted" {
			if err := update(created, func(view session.Store) error { _ = remove(newOne); return add("n", 1)(view) }); !errors.Is(err, redis.ErrGone) {
				s.Errorf("%s before it was created: %v", name, err)
			}
			s.gone(newOne)
		}
	}
}

// updatesOfUsers shows that an Update by which a session becomes a user's enters it in the index.
func updatesOfUsers(s *site) {
	indexed, _ := s.withUsers()
	id := newID()
	store := indexed.read(indexed, id)
	user := "user of " + id
	if err := update(store, func(view session.Store) error { return view.Set(ctx, "uid", user) }); err != nil {
		s.Fatal(err)
	}
	if ids := idsOf(s, indexed.Provider, user); !slices.Equal(ids, []string{id}) {
		s.Errorf("the sessions of the user are %v", ids)
	}
}

func TestAnUpdateCountsLikeARelease(t *testing.T) {
	s, _ := onMiniredis(t, "")
	id := newID()
	store := s.read(s, id)
	if err := update(store, add("n", 1)); err != nil {
		t.Fatal(err)
	}
	first := true
	if err := update(store, func(view session.Store) error {
		if first {
			first = false
			s.by(id, func(other session.Store) { set(t, other, "theirs", 1) })
		}
		return add("n", 1)(view)
	}); err != nil {
		t.Fatal(err)
	}
	stats := s.Stats()
	if got := fmt.Sprint(stats.Saved, stats.Created, stats.Merged, stats.Size.Count()); got != "3 1 1 3" {
		t.Errorf("saved, created, merged and sizes are %s", got)
	}
}
