// How long sessions live: by the life time of their own or the application's, by their age, and through requests that are no activity.

package redis_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego/beego/v2/server/web/session"
)

const month = 30 * 24 * time.Hour

// readStore is read, for the methods that beego's interface has not.
func (s *site) readStore(p session.Provider, id string) *redis.SessionStore {
	s.Helper()
	return s.read(p, id).(*redis.SessionStore)
}

// grow makes a session as old as it is said, as if another process had saved it so.
func (s *site) grow(key string, age time.Duration) {
	s.Helper()
	value := s.raw.Get(key).Val()
	entry := func(at time.Time) string {
		return string(binary.BigEndian.AppendUint64([]byte{0xe3}, uint64(at.Unix())))
	}
	was := entry(record.Value(value).Created())
	if strings.Count(value, was) != 1 {
		s.Fatal("the session has no age")
	}
	value = strings.Replace(value, was, entry(time.Now().Add(-age)), 1) + string(record.NewVersion())
	if err := s.raw.Set(key, value, max(s.ttl(key), 0)).Err(); err != nil {
		s.Fatal(err)
	}
}

// lives checks how long a key has to live. It may be up to a minute less, because a test takes its time.
func (s *site) lives(what, key string, want time.Duration) {
	s.Helper()
	if d := s.ttl(key); d > want+time.Second || d <= want-time.Minute {
		s.Errorf("%s: it has %v to live, want %v", what, d, want)
	}
}

func (s *site) ok(err error) {
	s.Helper()
	if err != nil {
		s.Error(err)
	}
}

// told collects the failures that a provider tells.
func told(p *redis.Provider) func() []redis.Failure {
	var mu sync.Mutex
	var all []redis.Failure
	p.OnError(func(_ context.Context, f redis.Failure) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, f)
	})
	return func() []redis.Failure {
		mu.Lock()
		defer mu.Unlock()
		last := all
		all = nil
		return last
	}
}

// use is a request that sets something.
func (s *site) use(p session.Provider, id, key string, value any) {
	s.Helper()
	store := s.read(p, id)
	set(s, store, key, value)
	store.SessionRelease(ctx, nil)
}

func maxAge(s *site) {
	p := s.with(`"max_age":"1h"`, 10*3600)
	failures := told(p)
	fresh := func(age time.Duration) (id string) {
		id = newID()
		s.use(p, id, "secret", "old")
		s.lives("a new session", id, time.Hour)
		s.raw.Expire(id, 5*time.Hour) // as a process without max_age left it
		s.grow(id, age)
		return id
	}

	id := fresh(50 * time.Minute)
	s.read(p, id).SessionRelease(ctx, nil)
	s.lives("one that was read", id, 10*time.Minute)
	s.raw.Expire(id, 5*time.Hour)
	s.use(p, id, "busy", true)
	s.lives("one that was saved", id, 10*time.Minute)
	s.raw.PExpire(id, 10*time.Minute+3*time.Second)
	s.read(p, id).SessionRelease(ctx, nil)
	if d := s.ttl(id); d <= 10*time.Minute+time.Second {
		s.Errorf("renewed, though it has what it should within a few seconds: %v", d)
	}
	next := newID()
	store, err := p.SessionRegenerate(ctx, id, next)
	if err != nil || store.Get(ctx, "secret") != "old" {
		s.Fatal(err)
	}
	s.lives("one that has moved", next, 10*time.Minute)

	// A request that is under way when the session reaches the age.
	id = fresh(time.Minute)
	late := s.read(p, id)
	unused := s.read(p, id)
	s.grow(id, time.Hour)
	before := s.raw.Get(id).Val()
	set(s, late, "late", true)
	late.SessionRelease(ctx, nil)
	unused.SessionRelease(ctx, nil)
	if s.raw.Get(id).Val() != before {
		s.Error("a session that has reached max_age was saved")
	}
	if f := failures(); len(f) != 1 || f[0].Kind != redis.KindVanished {
		s.Errorf("of a change of a session that has reached max_age was told %v", f)
	}
	late.SessionRelease(ctx, nil)
	if f := failures(); len(f) != 0 {
		s.Errorf("and again: %v", f)
	}

	// Nobody gets to see it.
	if ok, err := p.SessionExist(ctx, id); ok || err != nil {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	if ok, err := s.SessionExist(ctx, id); !ok || err != nil {
		s.Errorf("SessionExist of a process without max_age = %v, %v", ok, err)
	}
	store = s.read(p, id)
	if got := store.Get(ctx, "secret"); got != nil {
		s.Errorf("it shows %v", got)
	}
	s.gone(id)
	set(s, store, "new", 1)
	store.SessionRelease(ctx, nil)
	s.holds(id, "new", 1)
	if age := time.Since(record.Value(s.raw.Get(id).Val()).Created()); age > time.Minute {
		s.Errorf("a session of the same id is %v old", age)
	}
	if f := failures(); len(f) != 0 {
		s.Errorf("told %v", f)
	}

	for _, same := range []bool{false, true} {
		id = fresh(time.Hour)
		next = newID()
		if same {
			next = id
		}
		if store, err = p.SessionRegenerate(ctx, id, next); err != nil || store.Get(ctx, "secret") != nil {
			s.Fatalf("a session that has reached max_age gets a new id with %v, %v", store, err)
		}
		s.holds(next)
		s.lives("an empty one in its place", next, time.Hour)
		if !same {
			s.gone(id)
		}
		set(s, store, "new", 1)
		store.SessionRelease(ctx, nil)
		s.holds(next, "new", 1)
	}
}

func maxAgeOfUsers(s *site) {
	prefix := newID() + ":"
	config := fmt.Sprintf(`"key_prefix":%q,"user_key":"uid"`, prefix)
	plain, p := s.with(config, life), s.with(config+`,"max_age":"1h"`, life)
	young, old := newID(), newID()
	s.use(p, young, "uid", "ann")
	s.use(p, old, "uid", "ann")
	s.grow(prefix+young, 50*time.Minute)
	s.raw.Expire(prefix+young, 600*time.Second)
	s.grow(prefix+old, time.Hour)
	sessions, err := p.SessionsOf(ctx, "ann")
	if err != nil || len(sessions) != 1 || sessions[0].ID != young {
		s.Fatalf("the sessions are %v, %v", sessions, err)
	}
	if seen := time.Since(sessions[0].LastSeen); seen < 5*time.Minute || seen > 51*time.Minute {
		s.Errorf("last seen %v ago", seen)
	}
	if got := idsOf(s, plain, "ann"); len(got) != 2 {
		s.Errorf("a process without max_age finds %v", got)
	}
	if n, err := p.DestroyAll(ctx, "ann"); n != 2 || err != nil { // those without max_age would go on with it
		s.Errorf("DestroyAll = %v, %v", n, err)
	}
	s.gone(prefix+young, prefix+old)
}

func resetAge(s *site) {
	p := s.with(`"max_age":"1h"`, 10*3600)
	old := func() (id string) {
		id = newID()
		s.use(p, id, "a", 1)
		s.grow(id, 59*time.Minute)
		s.raw.Expire(id, time.Minute)
		return id
	}
	begun := func(id string) bool {
		return time.Since(record.Value(s.raw.Get(id).Val()).Created()) < 30*time.Minute
	}

	id := old()
	store := s.readStore(p, id)
	store.ResetAge(ctx)
	store.SessionRelease(ctx, nil)
	s.holds(id, "a", 1)
	s.lives("the age alone began anew", id, time.Hour)
	before := s.raw.Get(id).Val()
	store.SessionRelease(ctx, nil)
	if s.raw.Get(id).Val() != before {
		s.Error("it is saved again")
	}

	// At a log-in.
	id = old()
	next := newID()
	moved, err := p.SessionRegenerate(ctx, id, next)
	s.ok(err)
	s.lives("with a new id", next, time.Minute)
	moved.(*redis.SessionStore).ResetAge(ctx)
	set(s, moved, "user", "ann")
	moved.SessionRelease(ctx, nil)
	s.lives("after a log-in", next, time.Hour)

	// With another request at the same time, before and after it.
	id = old()
	mine, theirs, third := s.readStore(p, id), s.read(p, id), s.read(p, id)
	touches := s.read(p, id)
	mine.ResetAge(ctx)
	set(s, theirs, "b", 2)
	set(s, third, "c", 3)
	theirs.SessionRelease(ctx, nil)
	mine.SessionRelease(ctx, nil)
	third.SessionRelease(ctx, nil)
	s.holds(id, "a", 1, "b", 2, "c", 3)
	if !begun(id) {
		s.Error("a concurrent request takes the new age away")
	}
	s.lives("after a merge", id, time.Hour)
	touches.SessionRelease(ctx, nil)
	s.lives("after a request that has read the session before", id, time.Hour)

	// With a Flush after it, and in a session that others have flushed.
	id = old()
	store = s.readStore(p, id)
	store.ResetAge(ctx)
	s.ok(store.Flush(ctx))
	store.SessionRelease(ctx, nil)
	if s.holds(id); !begun(id) {
		s.Error("a Flush takes the new age away")
	}
}

func ageOfBeegos(s *site) {
	p := s.with(`"max_age":"500s"`, life)
	id := newID()
	data, err := session.EncodeGob(map[any]any{"a": 1})
	s.ok(err)
	s.put(id, string(data))
	s.read(p, id).SessionRelease(ctx, nil)
	if created := record.Value(s.raw.Get(id).Val()).Created(); time.Since(created) > time.Minute {
		s.Errorf("created %v", created)
	}
	s.holds(id, "a", 1)
	s.lives("one that beego's provider has made", id, 500*time.Second)
	before := s.raw.Get(id).Val()
	s.read(p, id).SessionRelease(ctx, nil)
	if s.raw.Get(id).Val() != before {
		s.Error("it is saved each time")
	}

	// Also when another request, or beego's provider, saves it meanwhile.
	s.put(id, string(data))
	store := s.read(p, id)
	s.put(id, strings.Replace(string(data), "a", "b", 1))
	store.SessionRelease(ctx, nil)
	s.holds(id, "b", 1)
	if record.Value(s.raw.Get(id).Val()).Created().IsZero() {
		s.Error("it has no age")
	}

	// And under a new id.
	s.put(id, string(data))
	next := newID()
	moved, err := p.SessionRegenerate(ctx, id, next)
	s.ok(err)
	s.lives("one of beego's under a new id", next, 500*time.Second)
	moved.SessionRelease(ctx, nil)
	s.holds(next, "a", 1)
	if record.Value(s.raw.Get(next).Val()).Created().IsZero() {
		s.Error("it has no age")
	}
}

func ownLifeTime(s *site) {
	id := newID()
	store := s.readStore(s, id)
	for d, want := range map[time.Duration]bool{-1: false, -month: false, math.MaxInt64: false, math.MaxInt64 - math.MaxInt64%time.Second: true, 0: true} {
		if err := store.SetLifeTime(ctx, d); (err == nil) != want || err != nil && !strings.HasPrefix(err.Error(), "session/redis: ") {
			s.Errorf("SetLifeTime(%v) = %v", d, err)
		}
	}
	s.ok(store.SetLifeTime(ctx, month))
	store.SessionRelease(ctx, nil)
	s.holds(id)
	s.lives("a new session", id, month)

	// It is kept by a save, a renewal and a move.
	s.use(s.with(`"max_session_bytes":100000`, 2*life), id, "a", 1)
	s.lives("after a save of another process", id, month)
	s.raw.Expire(id, 20*24*time.Hour)
	s.read(s, id).SessionRelease(ctx, nil)
	s.lives("after a request that only read", id, month)
	s.raw.Expire(id, month-time.Hour) // less than a hundredth has passed
	s.read(s, id).SessionRelease(ctx, nil)
	s.lives("when no renewal is due", id, month-time.Hour)
	next := newID()
	moved, err := s.SessionRegenerate(ctx, id, next)
	s.ok(err)
	s.lives("under a new id", next, month)
	set(s, moved, "b", strings.Repeat("x", 10_000))
	moved.SessionRelease(ctx, nil)
	s.lives("after a save that follows", next, month)
	if _, err = s.SessionRegenerate(ctx, next, next); err != nil {
		s.Error(err)
	}
	s.lives("under the same id", next, month)
	id = next

	// What is as it was is no change.
	before := s.raw.Get(id).Val()
	store = s.readStore(s, id)
	s.ok(store.SetLifeTime(ctx, month))
	store.SessionRelease(ctx, nil)
	if s.raw.Get(id).Val() != before {
		s.Error("setting what is set is a change")
	}

	// max_age ends it all the same.
	aging := s.with(`"max_age":"1h"`, life)
	s.read(aging, id).SessionRelease(ctx, nil)
	s.lives("with max_age", id, time.Hour)

	// Of two requests that set it, the later release wins; who does not set it, leaves it.
	mine, theirs, third := s.readStore(s, id), s.readStore(s, id), s.readStore(s, id)
	s.ok(mine.SetLifeTime(ctx, 5000*time.Second))
	s.ok(theirs.SetLifeTime(ctx, 4000*time.Second))
	set(s, third, "third", 3)
	touches := s.read(s, id)
	theirs.SessionRelease(ctx, nil)
	mine.SessionRelease(ctx, nil)
	s.lives("the later release", id, 5000*time.Second)
	third.SessionRelease(ctx, nil)
	s.lives("a release that does not set it", id, 5000*time.Second)
	touches.SessionRelease(ctx, nil)
	s.lives("a request that has read the session before", id, 5000*time.Second)

	// Fractions are rounded up, Flush leaves it, and 0 takes it back.
	store = s.readStore(s, id)
	s.ok(store.SetLifeTime(ctx, 2999*time.Second+1))
	s.ok(store.Flush(ctx))
	store.SessionRelease(ctx, nil)
	if got := record.Value(s.raw.Get(id).Val()).OwnLife(); got != 3000 {
		s.Errorf("a life time of %d s", got)
	}
	s.lives("flushed", id, 3000*time.Second)
	s.ok(store.SetLifeTime(ctx, 0))
	store.SessionRelease(ctx, nil)
	s.lives("taken back", id, life*time.Second)
	s.use(s, id, "a", 1)
	s.lives("and saved", id, life*time.Second)

	// One shorter than touch_interval is renewed.
	lazy := s.with(`"touch_interval":"10m"`, life)
	store = s.readStore(lazy, id)
	s.ok(store.SetLifeTime(ctx, 300*time.Second))
	store.SessionRelease(ctx, nil)
	s.raw.Expire(id, 200*time.Second)
	s.read(lazy, id).SessionRelease(ctx, nil)
	s.lives("shorter than touch_interval", id, 300*time.Second)

	// Also where the provider's is for ever.
	store = s.readStore(s.with(`"skip_empty":false`, 0), id)
	s.ok(store.SetLifeTime(ctx, 2000*time.Second))
	store.SessionRelease(ctx, nil)
	s.lives("of one that would live for ever", id, 2000*time.Second)
	store = s.readStore(s.with(`"skip_empty":false`, 0), id)
	s.ok(store.SetLifeTime(ctx, 0))
	store.SessionRelease(ctx, nil)
	if d := s.ttl(id); d >= 0 {
		s.Errorf("it has %v to live, and should for ever", d)
	}
}

func ownLifeTimeOfUsers(s *site) {
	s, prefix := s.withUsers()
	id := s.create("uid", "ann")
	outlived := func(what, id string, want time.Duration) {
		s.Helper()
		s.lives(what, prefix+id, want)
		if index := s.ttl(prefix + "user:{ann}"); index < want {
			s.Errorf("%s: the index has %v to live, and the session %v", what, index, want)
		}
		sessions, err := s.SessionsOf(ctx, "ann")
		if err != nil || len(sessions) != 1 || sessions[0].LifeTime != want || time.Since(sessions[0].LastSeen) > time.Minute {
			s.Errorf("%s: %+v, %v", what, sessions, err)
		}
	}
	store := s.readStore(s, id)
	s.ok(store.SetLifeTime(ctx, 3*time.Hour))
	store.SessionRelease(ctx, nil)
	outlived("set", id, 3*time.Hour)

	s.raw.Expire(prefix+"user:{ann}", life*time.Second)
	s.raw.Expire(prefix+id, time.Hour)
	s.read(s, id).SessionRelease(ctx, nil)
	outlived("renewed", id, 3*time.Hour)

	s.raw.Expire(prefix+"user:{ann}", life*time.Second)
	next := newID()
	_, err := s.SessionRegenerate(ctx, id, next)
	s.ok(err)
	outlived("with a new id", next, 3*time.Hour)
}

func lifeTimeAsked(s *site) {
	p := s.with(`"skip_empty":false`, life)
	failures := told(p)
	type tenant struct{}
	asked := 0
	answer := 2 * time.Hour
	p.LifeTime(func(ctx context.Context) time.Duration {
		if asked++; ctx.Value(tenant{}) != "a" || ctx.Err() != nil {
			s.Errorf("asked with %v", ctx)
		}
		return answer
	})
	cancelled, cancel := context.WithCancel(context.WithValue(ctx, tenant{}, "a"))
	cancel()
	once := func(what string) {
		s.Helper()
		if asked != 1 {
			s.Errorf("%s: asked %d times", what, asked)
		}
		asked = 0
	}
	request := func(id string, keysAndValues ...any) {
		s.Helper()
		store := s.read(p, id)
		set(s, store, keysAndValues...)
		store.SessionRelease(cancelled, nil)
		once("a release")
	}
	id := newID()
	request(id, "a", 1)
	s.lives("a new session", id, 2*time.Hour)
	request(id, "a", 2)
	s.lives("saved", id, 2*time.Hour)
	answer = 500 * time.Second
	request(id)
	s.lives("a shorter one", id, 500*time.Second)
	answer = 3*time.Hour - 1
	request(id)
	s.lives("a longer one", id, 3*time.Hour)
	next := newID()
	answer = 4 * time.Hour
	_, err := p.SessionRegenerate(cancelled, id, next)
	s.ok(err)
	once("a regenerate")
	s.lives("moved", next, 4*time.Hour)

	// What cannot be is told, once.
	for i, wrong := range []time.Duration{-time.Hour, time.Second - 1, math.MaxInt64, -1} {
		answer = wrong
		request(next, "a", i)
		s.lives("a life time that cannot be", next, life*time.Second)
		if f := failures(); (len(f) == 1) != (i == 0) {
			s.Errorf("%v: told %v", wrong, f)
		} else if i == 0 && (!strings.Contains(f[0].Err.Error(), "LifeTime gave -1h0m0s") || strings.Contains(f[0].Err.Error(), next)) {
			s.Error(f[0].Err)
		}
	}
	answer = 0
	request(next, "a", 10)
	s.lives("0", next, life*time.Second)

	// A life time of the session's own is meant for it; that the function is asked stays over a SessionInit, until it is removed.
	answer = time.Hour
	store := s.readStore(p, next)
	s.ok(store.SetLifeTime(ctx, month))
	store.SessionRelease(cancelled, nil)
	s.lives("of its own", next, month)
	s.ok(store.SetLifeTime(ctx, 0))
	s.ok(p.SessionInit(ctx, life, s.config))
	asked = 0
	store.SessionRelease(cancelled, nil)
	once("a release after a SessionInit")
	s.lives("after a SessionInit", next, time.Hour)
	p.LifeTime(nil)
	request2 := s.read(p, next)
	set(s, request2, "a", 11)
	request2.SessionRelease(ctx, nil)
	s.lives("asked no more", next, life*time.Second)
	if asked != 0 {
		s.Error("asked all the same")
	}

	// It may use what it is asked for, and end the provider.
	p.LifeTime(func(context.Context) time.Duration {
		_ = request2.Get(ctx, "a")
		s.ok(p.Close(ctx))
		return 0
	})
	if _, err := p.SessionRegenerate(ctx, next, newID()); !errors.Is(err, redis.ErrClosed) {
		s.Errorf("SessionRegenerate = %v", err)
	}
	request2.SessionRelease(ctx, nil)
	p.LifeTime(nil)
}

func noActivity(s *site) {
	for _, size := range []int{1, 10_000} {
		large := strings.Repeat("x", size)
		id := s.create("a", large)
		poll := func(keysAndValues ...any) *redis.SessionStore {
			s.Helper()
			store := s.readStore(s, id)
			store.NoActivity(ctx)
			set(s, store, keysAndValues...)
			store.SessionRelease(ctx, nil)
			return store
		}
		s.raw.Expire(id, 400*time.Second)
		poll()
		s.lives("polled", id, 400*time.Second)
		store := poll("b", large+"1")
		s.lives("polled and saved", id, 400*time.Second)
		set(s, store, "b", large+"2")
		store.SessionRelease(ctx, nil)
		s.lives("and again", id, 400*time.Second)
		s.holds(id, "a", large, "b", large+"2")

		// Of a conflict with another request, which renews.
		store = s.readStore(s, id)
		store.NoActivity(ctx)
		set(s, store, "b", large+"3")
		s.use(s, id, "c", 1)
		s.lives("in use", id, life*time.Second)
		s.raw.Expire(id, 700*time.Second)
		store.SessionRelease(ctx, nil)
		s.holds(id, "a", large, "b", large+"3", "c", 1)
		s.lives("merged", id, 700*time.Second)

		// What was read before another renewed it does not take that back.
		s.raw.Expire(id, 100*time.Second)
		store = s.readStore(s, id)
		store.NoActivity(ctx)
		set(s, store, "b", large+"4")
		s.read(s, id).SessionRelease(ctx, nil)
		store.SessionRelease(ctx, nil)
		s.lives("renewed by another", id, life*time.Second)

		// A life time that was set before is no more than any other.
		store = s.readStore(s, id)
		s.ok(store.SetLifeTime(ctx, month))
		store.SessionRelease(ctx, nil)
		s.lives("remembered", id, month)
		s.raw.Expire(id, 100*time.Second)
		store.NoActivity(ctx)
		set(s, store, "b", large+"5")
		store.SessionRelease(ctx, nil)
		s.lives("remembered and polled", id, 100*time.Second)
		s.ok(store.SetLifeTime(ctx, 0))
		store.SessionRelease(ctx, nil)

		// No life time is none, and what is ended in Redis stays so.
		s.raw.Persist(id)
		poll("b", large+"5")
		if d := s.ttl(id); d >= 0 {
			s.Errorf("of one that lives for ever is left %v", d)
		}
		s.raw.Expire(id, 400*time.Second)
		store = s.readStore(s, id)
		store.NoActivity(ctx)
		s.raw.Del(id)
		set(s, store, "b", 6)
		store.SessionRelease(ctx, nil)
		s.gone(id)

		// A new session has all of its life time, and what is said of it counts.
		id = newID()
		store = poll("a", large)
		s.lives("new", id, life*time.Second)
		s.raw.Expire(id, 400*time.Second)
		s.ok(store.SetLifeTime(ctx, 2*life*time.Second))
		store.SessionRelease(ctx, nil)
		s.lives("with a life time of its own", id, 2*life*time.Second)
	}

	// After it the store knows how long the session has: a use of it renews.
	p := s.with(`"max_age":"1h"`, life)
	id := newID()
	s.use(p, id, "a", 1)
	s.raw.Expire(id, 400*time.Second)
	store := s.readStore(p, id)
	store.NoActivity(ctx)
	store.ResetAge(ctx)
	store.SessionRelease(ctx, nil)
	s.lives("with a new age", id, 400*time.Second)
	s.read(p, id).SessionRelease(ctx, nil)
	s.lives("used", id, life*time.Second)
	store = s.readStore(p, id)
	s.ok(store.SetLifeTime(ctx, month))
	store.SessionRelease(ctx, nil)
	s.lives("for a month, but for max_age", id, time.Hour)
	s.raw.Expire(id, 400*time.Second)
	s.read(p, id).SessionRelease(ctx, nil)
	s.lives("used again", id, time.Hour)
}
