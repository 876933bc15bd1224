// How often a request goes to Redis, counted on the wire, and what SessionExist hands to SessionRead.

package redis_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

func TestRoundTripsOfARequest(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	manager, err := session.NewManager("redis", &session.ManagerConfig{
		CookieName: "id", Gclifetime: life, ProviderConfig: proxy.Addr(),
	})
	if err != nil {
		t.Fatal(err)
	}
	request, response := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	start := func() session.Store {
		store, err := manager.SessionStart(response, request)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	regenerate := func() {
		store, err := manager.SessionRegenerateID(response, request)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Del("Cookie")
		request.AddCookie(&http.Cookie{Name: "id", Value: store.SessionID(ctx)})
	}
	store := start() // a new session, for which the server parses the scripts
	set(t, store, "n", 0)
	store.SessionRelease(ctx, nil)
	regenerate()

	for _, row := range []struct {
		name string
		want int
		do   func()
	}{
		{"a request that reads its session", 1, func() {
			store := start()
			_ = store.Get(ctx, "n")
			store.SessionRelease(ctx, nil)
		}},
		{"a request that writes its session", 2, func() {
			store := start()
			set(t, store, "n", store.Get(ctx, "n").(int)+1)
			store.SessionRelease(ctx, nil)
		}},
		{"a regenerate", 1, regenerate},
	} {
		if got := leastRoundTrips(proxy, row.do); got != row.want {
			t.Errorf("%s: %d round trips, want %d", row.name, got, row.want)
		}
	}
	if n := start().Get(ctx, "n"); n != 20 {
		t.Errorf("n = %v, want 20", n)
	}
}

// leastRoundTrips returns how many round trips something takes that is done 20 times: on a machine that stalls for 20 ms within a
// request, that one request asks twice.
func leastRoundTrips(proxy *redistest.ProxyT, do func()) int {
	least := 100
	for range 20 {
		before := proxy.RoundTrips()
		do()
		least = min(least, proxy.RoundTrips()-before)
	}
	return least
}

func TestRoundTripsOfHashedAndEncryptedSessions(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.Proxy(t, server.Addr())
	s := &site{T: t, config: fmt.Sprintf(`{"save_path":%q}`, proxy.Addr()), raw: server.Client()}
	s.Provider = open(t, s.config, life)
	with := func(option string) *site { return s.on(s.with(option, life)) }
	accept, all := with(`"hash_ids":"accept"`), with(`"hash_ids":true`)
	encrypted := with(fmt.Sprintf(`"encryption_keys_file":%q`, keysFile(t, newKey())))
	for _, on := range []*site{s, accept, all, encrypted} { // for which the server parses the scripts
		on.regenerated(on.create("n", 0))
	}
	all.visit(s.create("n", 0))

	plain := s.create("n", 0)
	hash := all.create("n", 0)
	sealed := encrypted.create("n", 0)
	still := make(chan string, 20) // sessions that are yet to move
	for range cap(still) {
		still <- s.create("n", 0)
	}
	for _, row := range []struct {
		name string
		want int
		do   func()
	}{
		{"with accept, a request of a session under its id", 1, func() { accept.visit(plain) }},
		{"with accept, one of a session under its hash", 1, func() { accept.visit(hash) }},
		{"with true, a request of a session under its hash", 1, func() { all.visit(hash) }},
		{"with true, one whose session moves to its hash", 7, func() { all.visit(<-still) }},
		{"with true, one whose session has expired", 2, func() { _, _ = all.SessionExist(ctx, newID()) }},
		{"a regenerate under hashes", 3, func() { hash = all.regenerated(hash) }},
		{"a request of an encrypted session", 1, func() { encrypted.visit(sealed) }},
		{"one that writes it", 2, func() { encrypted.change(sealed, "n", newID()) }},
		{"a regenerate of it", 3, func() { sealed = encrypted.regenerated(sealed) }},
	} {
		if got := leastRoundTrips(proxy, row.do); got != row.want {
			t.Errorf("%s: %d round trips, want %d", row.name, got, row.want)
		}
	}
}

func TestWhatExistHandsToRead(t *testing.T) {
	s := redistest.Start(t)
	config := fmt.Sprintf(`{"save_path":%q}`, s.Addr())
	here, elsewhere := open(t, config, life), open(t, config, life)
	site := &site{T: t, config: config, raw: s.Client(), Provider: here}
	exist := func(id string) {
		t.Helper()
		if ok, err := here.SessionExist(ctx, id); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	save := func(p *redis.Provider, id string, n int) {
		store := site.read(p, id)
		set(t, store, "n", n)
		store.SessionRelease(ctx, nil)
	}
	n := func(id string) any { return site.read(here, id).Get(ctx, "n") }
	// handed returns what SessionRead finds when another has changed the session since SessionExist, and the next one. It
	// tries again when the machine has stalled for too long in between.
	handed := func(t *testing.T, change func(id string)) (first session.Store, second any) {
		await(t, "20 ms without a stall", func() bool {
			id := site.create("n", 1)
			start := time.Now()
			exist(id)
			change(id)
			first = site.read(here, id)
			inTime := time.Since(start) < 20*time.Millisecond
			second = n(id)
			return inTime
		})
		return first, second
	}

	t.Run("a session destroyed between the two is not an empty one", func(t *testing.T) {
		store, _ := handed(t, func(id string) { s.Client().Del(id) })
		if got := store.Get(ctx, "n"); got != 1 {
			t.Errorf("n = %v", got)
		}
		set(t, store, "n", 2)
		store.SessionRelease(ctx, nil)
		site.gone(store.SessionID(ctx))
	})
	t.Run("to one only", func(t *testing.T) {
		store, second := handed(t, func(id string) { save(elsewhere, id, 2) })
		if first := store.Get(ctx, "n"); first != 1 || second != 2 {
			t.Errorf("read %v, then %v", first, second)
		}
	})
	t.Run("for 20 ms only", func(t *testing.T) {
		id := site.create("n", 1)
		exist(id)
		save(elsewhere, id, 2)
		time.Sleep(25 * time.Millisecond) // the time itself is what is tested
		if got := n(id); got != 2 {
			t.Errorf("read %v", got)
		}
	})
	t.Run("not after this process saved or removed it", func(t *testing.T) {
		id := site.create("n", 1)
		store := site.read(here, id)
		exist(id)
		set(t, store, "n", 2)
		store.SessionRelease(ctx, nil)
		if got := n(id); got != 2 {
			t.Errorf("after a save: read %v", got)
		}
		exist(id)
		if err := here.SessionDestroy(ctx, id); err != nil {
			t.Fatal(err)
		}
		if got := n(id); got != nil {
			t.Errorf("after a destroy: read %v", got)
		}
		id = site.create("n", 1)
		exist(id)
		if _, err := here.SessionRegenerate(ctx, id, newID()); err != nil {
			t.Fatal(err)
		}
		if got := n(id); got != nil {
			t.Errorf("after a regenerate: read %v", got)
		}
	})
	t.Run("never to another session", func(t *testing.T) {
		ids := make([]string, 1000) // more than there are slots
		for i := range ids {
			ids[i] = site.create("n", i)
		}
		for i, id := range ids {
			exist(id)
			exist(ids[(i+1)%len(ids)])
			if got := n(id); got != i {
				t.Fatalf("session %d is %v", i, got)
			}
		}
	})
	t.Run("large values are read again", func(t *testing.T) {
		id := site.create("n", strings.Repeat("x", 100_000))
		exist(id)
		save(elsewhere, id, 2)
		if got := n(id); got != 2 {
			t.Errorf("read %.10v", got)
		}
	})
}

// slow is a hook that lets something happen while the reply to a look is on its way.
type slow struct {
	hook
	happens func()
}

func (h *slow) AfterProcessPipeline(context.Context, []goredis.Cmder) error {
	if happens := h.happens; happens != nil {
		h.happens = nil
		happens()
	}
	return nil
}

func TestALookNeverServesWhatIsOlderThanAnAnswer(t *testing.T) {
	s := redistest.Start(t)
	own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	defer func() { _ = own.Close() }()
	wire := new(slow)
	own.AddHook(wire)
	here, elsewhere := redis.NewProvider(own), open(t, s.Addr(), life)
	if err := here.SessionInit(ctx, life, ""); err != nil {
		t.Fatal(err)
	}
	site := &site{T: t, raw: s.Client(), Provider: here}
	exist := func(id string, want bool) {
		t.Helper()
		if ok, err := here.SessionExist(ctx, id); ok != want || err != nil {
			t.Errorf("SessionExist = %v, %v", ok, err)
		}
	}
	change := func(id string) {
		store := site.read(elsewhere, id)
		set(t, store, "n", 2)
		store.SessionRelease(ctx, nil)
	}
	n := func(id string) any { return site.read(here, id).Get(ctx, "n") }

	t.Run("destroyed after one look, and found so by the next", func(t *testing.T) {
		id := site.create("n", 1)
		exist(id, true)
		if err := elsewhere.SessionDestroy(ctx, id); err != nil {
			t.Error(err)
		}
		exist(id, false)
		if got := n(id); got != nil {
			t.Errorf("n = %v", got)
		}
	})
	t.Run("a look that answers after a later one", func(t *testing.T) {
		id := site.create("n", 1)
		wire.happens = func() {
			change(id)
			exist(id, true)
		}
		exist(id, true)
		if got := n(id); got != 2 {
			t.Errorf("n = %v", got)
		}
	})
	t.Run("a look that answers after a later read", func(t *testing.T) {
		id := site.create("n", 1)
		wire.happens = func() {
			change(id)
			if got := n(id); got != 2 {
				t.Errorf("n = %v", got)
			}
		}
		exist(id, true)
		if got := n(id); got != 2 {
			t.Errorf("n = %v", got)
		}
	})
	t.Run("a look that took longer than it may serve", func(t *testing.T) {
		id := site.create("n", 1)
		wire.happens = func() {
			change(id)
			time.Sleep(20 * time.Millisecond) // the time itself is what is tested
		}
		exist(id, true)
		if got := n(id); got != 2 {
			t.Errorf("n = %v", got)
		}
	})
}

func TestRequestsOutliveAConfiguration(t *testing.T) {
	s := redistest.Start(t)
	p := open(t, s.Addr(), life)
	site := &site{T: t, raw: s.Client(), Provider: p}
	reconfigure := func(config string) {
		if err := p.SessionInit(ctx, life, config); err != nil {
			t.Fatal(err)
		}
	}
	exist := func(id string) {
		t.Helper()
		if ok, err := p.SessionExist(ctx, id); !ok || err != nil {
			t.Errorf("SessionExist = %v, %v", ok, err)
		}
	}

	// A session that is destroyed after the change is not created by a request from before.
	id := newID()
	store := site.read(p, id)
	set(t, store, "n", 1)
	reconfigure(s.Addr() + ",7")
	if err := p.SessionDestroy(ctx, id); err != nil {
		t.Error(err)
	}
	store.SessionRelease(ctx, nil)
	site.gone(id)

	// What a request from before saves is what a look from after it serves.
	id = site.create("n", 1)
	store = site.read(p, id)
	reconfigure(s.Addr() + ",8")
	exist(id)
	set(t, store, "n", 2)
	store.SessionRelease(ctx, nil)
	if got := site.read(p, id).Get(ctx, "n"); got != 2 {
		t.Errorf("n = %v", got)
	}

	// What was looked up on one server is not served as if it were on another.
	exist(id)
	reconfigure(redistest.Start(t).Addr())
	if got := site.read(p, id).Get(ctx, "n"); got != nil {
		t.Errorf("n = %v", got)
	}
}
