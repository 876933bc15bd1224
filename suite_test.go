// The behaviour of a session, which is the same on every kind of server: each behaviour is a row of the table below, and
// provider_test.go runs the whole table on each topology.

package redis_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	session "github.com/beego/beego/v2/server/web/session"

	redis "github.com/beego-session/redis"
	goredis "github.com/go-redis/redis/v7"
)

// life is the life time of sessions in the suite, in seconds.
const life = 1000

var ctx = context.Background()

// site is a provider on some server, and a plain client for looking behind its back.
type site struct {
	*testing.T
	config string // JSON
	raw    goredis.UniversalClient
	own    func() *redis.Provider // on a client of the application; nil: providers connect by themselves

	*redis.Provider
}

// on is the site with another provider.
func (s *site) on(p *redis.Provider) *site {
	other := *s
	other.Provider = p
	return &other
}

var suite = []struct {
	behaviour string
	shown     func(*site)
}{
	{"values come back after a release", valuesComeBack},
	{"beego's bytes are read and written", beegosBytes},
	{"an empty value is an empty session", emptyValue},
	{"what is no session does not exist", noSession},
	{"what is no session is an error and stays", undecodable},
	{"an entry that does not decode is carried along", carriedAlong},
	{"what is carried along is merged", carriedMerged},
	{"a session whose user does not decode stays its user's", carriedUser},
	{"on_undecodable new replaces what is no session", undecodableNew},
	{"a nil context is the background", nilContext},
	{"saves do not heed cancellation and reads do", cancellation},
	{"Set refuses what cannot be saved", setRefuses},
	{"a value that fails to encode does not take the others along", badEntry},
	{"a saved session lives for the full life time", lifeTime},
	{"life time 0 is for ever", lifeTimeZero},
	{"reading renews the life time only when due", touching},
	{"reading writes nothing", readingWritesNothing},
	{"a value changed in place is saved", changedInPlace},
	{"what reads back the same is no change", noChange},
	{"a value stays the handler's after a merge", stillHeld},
	{"updates of concurrent requests are merged", merged},
	{"the later release wins a key", laterWins},
	{"maps are merged entry by entry", mapsMerged},
	{"a map whose entries cannot be told apart is the later one", theLaterMap},
	{"many additions at once are all there", manyAtOnce},
	{"a key is merged by its function", mergeFunctions},
	{"a merge function is asked where both have changed its key", whenItIsAsked},
	{"a merge function that fails costs its key", badMergeFunctions},
	{"a merge function may do anything", freeMergeFunctions},
	{"an Update is saved when it returns", updated},
	{"what is changed during an Update stays to be released", editedMeanwhile},
	{"an Update that fails saves nothing", failedUpdates},
	{"an Update does not bring back what is gone", goneForUpdates},
	{"an Update enters the session in the index of its user", updatesOfUsers},
	{"a life time that a store has set is saved once", setOnce},
	{"a life time may be set during an Update", setInAnUpdate},
	{"an Update may begin the age of a session anew", agedInAnUpdate},
	{"an Update sees nothing of what does not decode", carriedInAnUpdate},
	{"an Update takes back no release of its store", releasedInAMerge},
	{"a function that ends its goroutine leaves nothing behind", endedInAFunction},
	{"Close waits for an Update", closedInAnUpdate},
	{"many at once on one store lose nothing", manyOnOneStore},
	{"an Update follows a session to its hash", movedInAnUpdate},
	{"flush wins over what others add", flushWins},
	{"what is gone stays gone", goneStaysGone},
	{"a new session destroyed in its own request is not created", newAndDestroyed},
	{"what SessionExist found and SessionRead does not is gone", foundAndRemoved},
	{"a session that vanished is said once", vanished},
	{"a store can be released several times", releasedTwice},
	{"release if present never creates", ifPresent},
	{"a store is safe for concurrent use", concurrentUse},
	{"regenerate moves the session", regenerate},
	{"regenerate of nothing is an empty session", regenerateNothing},
	{"one of many regenerates carries the data on", regenerateRace},
	{"regenerate leaves what is no session", regenerateUndecodable},
	{"regenerate takes along what does not decode", regenerateCarried},
	{"destroy is final and idempotent", destroy},
	{"a regenerate onto an id that exists does not hand it out", regenerateOnto},
	{"sessions are listed by prefix", listing},
	{"only sessions are listed", listingOnlySessions},
	{"the sessions of a user are found", usersSessions},
	{"all sessions of a user are destroyed", destroyAll},
	{"a session lives no longer than its entry in the index of its user", indexOutlives},
	{"the index forgets what is no session of its user", indexForgets},
	{"sessions from before there was an index are found when they are next used", indexLearns},
	{"max_age ends a session however busy it is", maxAge},
	{"a user's sessions are none that have reached max_age", maxAgeOfUsers},
	{"a log-in begins the age anew", resetAge},
	{"a session that beego's provider has made gets an age", ageOfBeegos},
	{"a session has a life time of its own", ownLifeTime},
	{"the index of a user outlives a life time of a session's own", ownLifeTimeOfUsers},
	{"the application is asked for the life time", lifeTimeAsked},
	{"a request that is no activity renews nothing", noActivity},
	{"encrypted sessions show nothing of what they hold", showsNothing},
	{"an encrypted value is that of its own session alone", valuesSwapped},
	{"what cannot be decrypted is an error and stays", undecryptable},
	{"keys are changed without losing a session", keysChanged},
	{"skip_empty does not store an empty new session", skipEmpty},
	{"an id that was regenerated is empty for a while", grace},
	{"so is one under which there was nothing", graceOfNothing},
	{"the grace of an id ends", graceEnds},
	{"a session that is there is no id in its grace", graceAndPresent},
	{"the grace of an id begins before its session moves", graceFromTheMoveOn},
	{"ids from the network are checked", hostileIDs},
	{"a new configuration replaces the old under load", reinit},
	{"no id is in Redis", hashedAtRest},
	{"a changeover to hashed ids loses nothing", changeover},
	{"who is logged out in a changeover to hashed ids stays so", loggedOutInAChangeover},
}

func newID() string { return fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) }

// with opens another provider on the same server, whose configuration is changed.
func (s *site) with(extra string, life int64) *redis.Provider {
	s.Helper()
	config := map[string]any{}
	for _, text := range []string{s.config, "{" + extra + "}"} {
		if err := json.Unmarshal([]byte(text), &config); err != nil {
			s.Fatal(err)
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		s.Fatal(err)
	}
	p := new(redis.Provider)
	if s.own != nil {
		p = s.own()
	}
	return configure(s, p, string(text), life)
}

func open(t testing.TB, config string, life int64) *redis.Provider {
	t.Helper()
	return configure(t, new(redis.Provider), config, life)
}

func configure(t testing.TB, p *redis.Provider, config string, life int64) *redis.Provider {
	t.Helper()
	if err := p.SessionInit(ctx, life, config); err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *site) read(p session.Provider, id string) session.Store {
	s.Helper()
	store, err := p.SessionRead(ctx, id)
	if err != nil {
		s.Fatal(err)
	}
	return store
}

// create stores a session of the given keys and values.
func (s *site) create(keysAndValues ...any) (id string) {
	s.Helper()
	id = newID()
	store := s.read(s, id)
	set(s, store, keysAndValues...)
	store.SessionRelease(ctx, nil)
	return id
}

func set(t testing.TB, store session.Store, keysAndValues ...any) {
	t.Helper()
	for i := 0; i < len(keysAndValues); i += 2 {
		if err := store.Set(ctx, keysAndValues[i], keysAndValues[i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

// releaseIfPresent calls what beego's session.Store has since v2.3.0.
func releaseIfPresent(ctx context.Context, store session.Store) {
	store.(*redis.SessionStore).SessionReleaseIfPresent(ctx, nil)
}

// holds checks that a session is just these keys and values, for this provider and for beego's decoder.
func (s *site) holds(id string, keysAndValues ...any) {
	s.Helper()
	want := map[any]any{}
	for i := 0; i < len(keysAndValues); i += 2 {
		want[keysAndValues[i]] = keysAndValues[i+1]
	}
	if got := s.stored(id); !reflect.DeepEqual(got, want) {
		s.Errorf("stored is %v, want %v", got, want)
	}
	store := s.read(s, id)
	for key, value := range want {
		if got := store.Get(ctx, key); !reflect.DeepEqual(got, value) {
			s.Errorf("Get(%v) = %v, want %v", key, got, value)
		}
	}
}

// bytes is what Redis holds, decrypted by the provider whose it is.
func (s *site) bytes(p *redis.Provider, key string) string {
	s.Helper()
	data, err := s.raw.Get(key).Result()
	if err != nil {
		s.Fatalf("the session is not there: %v", err)
	}
	if data, err = redis.Opened(p, key, data); err != nil {
		s.Fatal(err)
	}
	return data
}

// stored decodes what Redis holds, as beego does, but for its encryption.
func (s *site) stored(id string) map[any]any {
	s.Helper()
	data := s.bytes(s.Provider, id)
	if data == "" {
		return map[any]any{}
	}
	values, err := session.DecodeGob([]byte(data))
	if err != nil {
		s.Fatal(err)
	}
	return values
}

func (s *site) gone(ids ...string) {
	s.Helper()
	for _, id := range ids {
		if n, err := s.raw.Exists(id).Result(); n != 0 || err != nil {
			s.Errorf("the session is there: %v, %v", n, err)
		}
		if ok, err := s.SessionExist(ctx, id); ok || err != nil {
			s.Errorf("SessionExist = %v, %v", ok, err)
		}
	}
}

func (s *site) ttl(id string) time.Duration {
	s.Helper()
	d, err := s.raw.PTTL(id).Result()
	if err != nil {
		s.Fatal(err)
	}
	return d
}

func (s *site) put(id, value string) {
	s.Helper()
	if err := s.raw.Set(id, value, life*time.Second).Err(); err != nil {
		s.Fatal(err)
	}
}

func valuesComeBack(s *site) {
	id := newID()
	store := s.read(s, id)
	set(s, store, "name", "astaxie", "age", 7, 3, "three", "gone", true)
	if err := store.Delete(ctx, "gone"); err != nil {
		s.Error(err)
	}
	if got := store.SessionID(ctx); got != id {
		s.Errorf("SessionID = %q, want %q", got, id)
	}
	if got := store.Get(ctx, "gone"); got != nil {
		s.Errorf("Get of a deleted key = %v", got)
	}
	store.SessionRelease(ctx, nil)
	s.holds(id, "name", "astaxie", "age", 7, 3, "three")

	store = s.read(s, id)
	if err := store.Flush(ctx); err != nil {
		s.Error(err)
	}
	if got := store.Get(ctx, "name"); got != nil {
		s.Errorf("Get after Flush = %v", got)
	}
	store.SessionRelease(ctx, nil)
	s.holds(id)
}

type user struct {
	Name  string
	Roles []string
}

// account is saved by pointer; gob cannot register a type and a pointer to it at once.
type account struct{ Name string }

func init() {
	gob.Register(user{})
	gob.Register(&account{})
}

func beegosBytes(s *site) {
	want := map[any]any{
		"user": user{"ann", []string{"admin"}}, "ptr": &account{Name: "bob"}, "when": time.Unix(1e9, 5).UTC(),
		1: []byte("x"), true: map[string]any{"a": []any{1, "b"}},
	}
	data, err := session.EncodeGob(want)
	if err != nil {
		s.Fatal(err)
	}
	id := newID()
	s.put(id, string(data))
	store := s.read(s, id)
	for key, value := range want {
		if got := store.Get(ctx, key); !reflect.DeepEqual(got, value) {
			s.Errorf("Get(%v) = %#v, want %#v", key, got, value)
		}
	}
	set(s, store, "new", 1)
	store.SessionRelease(ctx, nil)
	want["new"] = 1
	if got := s.stored(id); !reflect.DeepEqual(got, want) {
		s.Errorf("beego reads %v, want %v", got, want)
	}
}

func emptyValue(s *site) {
	id := newID()
	s.put(id, "")
	if ok, err := s.SessionExist(ctx, id); !ok || err != nil {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	store := s.read(s, id)
	set(s, store, "a", 1)
	store.SessionRelease(ctx, nil)
	s.holds(id, "a", 1)
}

func noSession(s *site) {
	s.gone(newID())
	id := newID()
	if err := s.raw.RPush(id, "a list").Err(); err != nil {
		s.Fatal(err)
	}
	if ok, err := s.SessionExist(ctx, id); ok || err != nil {
		s.Errorf("SessionExist of a list = %v, %v", ok, err)
	}
	if store, err := s.SessionRead(ctx, id); store != nil || err == nil {
		s.Errorf("SessionRead of a list = %v, %v", store, err)
	}
	if n := s.raw.LLen(id).Val(); n != 1 {
		s.Error("the list was touched")
	}
}

func nilContext(s *site) {
	var none context.Context
	id, next := newID(), newID()
	store, err := s.SessionRead(none, id)
	if err != nil {
		s.Fatal(err)
	}
	if err := errors.Join(store.Set(none, "a", 1), store.Delete(none, "b")); err != nil {
		s.Error(err)
	}
	store.SessionRelease(none, nil)
	releaseIfPresent(none, store)
	if ok, err := s.SessionExist(none, id); !ok || err != nil || store.Get(none, "a") != 1 || store.SessionID(none) != id {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	if _, err := s.SessionRegenerate(none, id, next); err != nil {
		s.Error(err)
	}
	if s.SessionAll(none) < 1 {
		s.Error("SessionAll counts nothing")
	}
	s.SessionGC(none)
	if err := errors.Join(store.Flush(none), s.SessionDestroy(none, next)); err != nil {
		s.Error(err)
	}
	s.gone(id, next)
}

func cancellation(s *site) {
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	id, next := newID(), newID()
	store := s.read(s, id)
	set(s, store, "a", 1)
	store.SessionRelease(cancelled, nil)
	s.holds(id, "a", 1)
	if _, err := s.SessionRegenerate(cancelled, id, next); err != nil {
		s.Error(err)
	}
	s.holds(next, "a", 1)
	if ok, err := s.SessionExist(cancelled, next); ok || !errors.Is(err, context.Canceled) {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	if store, err := s.SessionRead(cancelled, next); store != nil || !errors.Is(err, context.Canceled) {
		s.Errorf("SessionRead = %v, %v", store, err)
	}
	if err := s.SessionDestroy(cancelled, next); err != nil {
		s.Error(err)
	}
	s.gone(id, next)
}

func setRefuses(s *site) {
	id := s.create("kept", 1, "deleted", 2)
	store := s.read(s, id)
	for name, err := range map[string]error{
		"unhashable key":     store.Set(ctx, []int{1}, 1),
		"key with a slice":   store.Set(ctx, [1]any{[]int{1}}, 1),
		"NaN key":            store.Set(ctx, math.NaN(), 1),
		"chan key":           store.Set(ctx, make(chan int), 1),
		"chan":               store.Set(ctx, "k", make(chan int)),
		"func":               store.Set(ctx, "k", func() {}),
		"slice of func":      store.Set(ctx, "k", []func(){}),
		"struct without any": store.Set(ctx, "k", struct{ hidden int }{1}),
		"nil pointer":        store.Set(ctx, "k", (*account)(nil)),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "session/redis: ") {
			s.Errorf("%s: Set = %v, want an error", name, err)
		}
	}
	if got := store.Get(ctx, []int{1}); got != nil {
		s.Errorf("Get of an unhashable key = %v", got)
	}
	if err := store.Delete(ctx, []int{1}); err != nil {
		s.Errorf("Delete of an unhashable key = %v", err)
	}
	set(s, store, "deleted", nil)
	store.SessionRelease(ctx, nil)
	s.holds(id, "kept", 1)
}

func badEntry(s *site) {
	type unregistered struct{ A int }
	id := s.create("bad", "old", "good", "old")
	log := captureLog(s)
	store := s.read(s, id)
	set(s, store, "good", "new", "bad", []any{unregistered{1}}, "worse", []any{unregistered{2}})
	store.SessionRelease(ctx, nil)
	s.holds(id, "bad", "old", "good", "new")
	for _, want := range []string{`"bad"`, `"worse"`, "is lost"} {
		if !strings.Contains(log.String(), want) {
			s.Errorf("the log does not say %s:\n%s", want, log)
		}
	}
	if strings.Contains(log.String(), id) {
		s.Errorf("the log holds the session id:\n%s", log)
	}
}

// captureLog collects what is logged until the test ends.
func captureLog(t testing.TB) *lockedBuffer {
	var log lockedBuffer
	logTo(t, &log)
	return &log
}

func logTo(t testing.TB, w io.Writer) {
	old := session.SLogger
	session.SLogger = session.NewSessionLog(w)
	t.Cleanup(func() { session.SLogger = old })
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// take empties the buffer.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buf.Reset()
	return b.buf.String()
}

// near tells whether a life time is the full one, but for the time that a test takes.
func near(d time.Duration) bool { return d <= life*time.Second && d > (life-60)*time.Second }

func lifeTime(s *site) {
	id := s.create("a", 1)
	if d := s.ttl(id); !near(d) {
		s.Errorf("a new session lives for %v", d)
	}
	s.raw.Expire(id, time.Minute)
	store := s.read(s, id)
	set(s, store, "a", 2)
	store.SessionRelease(ctx, nil)
	if d := s.ttl(id); !near(d) {
		s.Errorf("a changed session lives for %v", d)
	}
}

func lifeTimeZero(s *site) {
	p := s.with(`"touch_interval":"1h"`, 0)
	id := newID()
	store := s.read(p, id)
	set(s, store, "a", 1)
	store.SessionRelease(ctx, nil)
	if d := s.ttl(id); d >= 0 {
		s.Errorf("the session expires in %v", d)
	}
	s.raw.Expire(id, time.Minute) // as a provider with a life time left it
	s.read(p, id).SessionRelease(ctx, nil)
	if d := s.ttl(id); d >= 0 {
		s.Errorf("after a release the session expires in %v", d)
	}
	next := newID()
	if _, err := p.SessionRegenerate(ctx, id, next); err != nil {
		s.Error(err)
	}
	if d := s.ttl(next); d >= 0 {
		s.Errorf("after a regenerate the session expires in %v", d)
	}
	s.holds(next, "a", 1)
}

func touching(s *site) {
	id := s.create("a", 1)
	release := func(p session.Provider, left time.Duration) time.Duration {
		s.raw.PExpire(id, left)
		s.read(p, id).SessionRelease(ctx, nil)
		return s.ttl(id)
	}
	if d := release(s, 995*time.Second); d > 995*time.Second {
		s.Errorf("with half a hundredth passed the life time is renewed to %v", d)
	}
	if d := release(s, 985*time.Second); d <= 985*time.Second {
		s.Errorf("with more than a hundredth passed the life time stays %v", d)
	}
	if d := release(s.with(`"touch_interval":"0s"`, life), 995*time.Second); d <= 995*time.Second { // a real server's clock runs
		s.Errorf("with touch_interval 0s the life time stays %v", d)
	}
	if d := release(s.with(`"touch_interval":"5m"`, life), 800*time.Second); d > 800*time.Second {
		s.Errorf("with touch_interval 5m the life time is renewed to %v", d)
	}
	s.raw.Persist(id) // as a provider with life time 0 left it
	s.read(s, id).SessionRelease(ctx, nil)
	if d := s.ttl(id); !near(d) {
		s.Errorf("a session without an expiry lives for %v", d)
	}
	if d := release(s, 30*24*time.Hour); !near(d) {
		s.Errorf("after the life time was lowered a session lives for %v", d)
	}
}

// readingWritesNothing shows it by the bytes: a value written by this test holds its keys in an order, and a second
// time, that no encoder repeats.
func readingWritesNothing(s *site) {
	data, err := session.EncodeGob(map[any]any{"m": map[string]any{"a": 1}, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7})
	if err != nil {
		s.Fatal(err)
	}
	for range 10 {
		id := newID()
		s.put(id, string(data)+"trailing")
		store := s.read(s, id)
		_ = store.Get(ctx, "m")
		_ = store.Delete(ctx, "not there")
		store.SessionRelease(ctx, nil)
		if got := s.raw.Get(id).Val(); got != string(data)+"trailing" {
			s.Fatal("a session that was only read was written")
		}
	}
}

func changedInPlace(s *site) {
	id := s.create("map", map[string]any{"n": 1}, "ptr", &account{Name: "ann"}, "slice", []any{1, 2}, "other", 1)
	store := s.read(s, id)
	store.Get(ctx, "map").(map[string]any)["n"] = 2
	store.SessionRelease(ctx, nil)
	s.holds(id, "map", map[string]any{"n": 2}, "ptr", &account{Name: "ann"}, "slice", []any{1, 2}, "other", 1)

	// Also what was Set and released before, and beside the change of another request.
	mine := map[string]any{"n": 3}
	set(s, store, "map", mine)
	store.SessionRelease(ctx, nil)
	other := s.read(s, id)
	set(s, other, "other", 2)
	other.SessionRelease(ctx, nil)
	mine["n"] = 4
	store.Get(ctx, "slice").([]any)[0] = "one"
	store.SessionRelease(ctx, nil)
	s.holds(id, "map", map[string]any{"n": 4}, "ptr", &account{Name: "ann"}, "slice", []any{"one", 2}, "other", 2)
}

// cached fills its cache when it is used.
type cached struct {
	Name  string
	Tags  []string
	Sizes map[string]int
	cache map[string]string
}

func (c *cached) greeting() string {
	if c.cache == nil {
		c.cache = map[string]string{c.Name: "hello " + c.Name}
	}
	return c.cache[c.Name]
}

func init() { gob.Register(&cached{}) }

// noChange shows that a request which only read does not overwrite what another one has set meanwhile.
func noChange(s *site) {
	for name, value := range map[string]any{
		"a struct whose method fills a cache": &cached{Name: "ann"},
		"an empty slice in a struct":          &cached{Tags: []string{}},
		"an empty map in a struct":            &cached{Sizes: map[string]int{}},
		"a NaN":                               []any{math.NaN()},
		"a NaN as a key":                      map[string]any{"m": map[any]any{math.NaN(): 1}},
		"an empty slice":                      []string{},
		"a nil map":                           map[string]any(nil),
		"a time with a monotonic clock":       []any{time.Now()},
	} {
		id := newID()
		store := s.read(s, id)
		set(s, store, "k", value)
		store.SessionRelease(ctx, nil)

		use := func(store session.Store) {
			if c, ok := store.Get(ctx, "k").(*cached); ok {
				_ = c.greeting()
			}
		}
		before := s.raw.Get(id).Val()
		reader := s.read(s, id)
		use(reader)
		use(store) // which has released it, and does so again
		reader.SessionRelease(ctx, nil)
		store.SessionRelease(ctx, nil)
		if s.raw.Get(id).Val() != before {
			s.Errorf("%s: a request that only read has written", name)
		}
		other := s.read(s, id)
		set(s, other, "k", "other")
		other.SessionRelease(ctx, nil)
		set(s, reader, "mine", 1)
		for _, store := range []session.Store{reader, store} {
			use(store)
			store.SessionRelease(ctx, nil)
		}
		if got := s.stored(id)["k"]; got != "other" {
			s.Errorf("%s: what another request has set is overwritten with %v", name, got)
		}
	}
}

func stillHeld(s *site) {
	id := s.create("m", map[string]any{"n": 1}, "p", &account{Name: "ann"})
	store := s.read(s, id)
	m, p := store.Get(ctx, "m").(map[string]any), store.Get(ctx, "p").(*account)
	set(s, store, "mine", 1)
	other := s.read(s, id)
	set(s, other, "theirs", 1)
	other.SessionRelease(ctx, nil)
	store.SessionRelease(ctx, nil) // merges
	m["n"], p.Name = 2, "bob"
	store.SessionRelease(ctx, nil)
	s.holds(id, "m", map[string]any{"n": 2}, "p", &account{Name: "bob"}, "mine", 1, "theirs", 1)
}

func foundAndRemoved(s *site) {
	exist := func(id string, want bool) {
		s.Helper()
		if ok, err := s.SessionExist(ctx, id); ok != want || err != nil {
			s.Errorf("SessionExist = %v, %v", ok, err)
		}
	}
	other := s.with(`"skip_empty":false`, life)
	for name, remove := range map[string]func(id string) error{
		"destroyed here":      func(id string) error { return s.SessionDestroy(ctx, id) },
		"destroyed elsewhere": func(id string) error { return other.SessionDestroy(ctx, id) },
		"removed by beego":    func(id string) error { return s.raw.Del(id).Err() },
		"regenerated elsewhere": func(id string) error {
			_, err := other.SessionRegenerate(ctx, id, newID())
			return err
		},
	} {
		id := s.create("user", "ann")
		exist(id, true)
		exist(id, true) // two requests
		if err := remove(id); err != nil {
			s.Fatal(err)
		}
		exist(id, false) // and a third
		for range 2 {
			store := s.read(s, id)
			if got := store.Get(ctx, "user"); got != nil {
				s.Errorf("%s: the session of %v is handed out", name, got)
			}
			set(s, store, "a", 1)
			store.SessionRelease(ctx, nil)
			store.SessionRelease(ctx, nil)
			releaseIfPresent(ctx, store)
			if s.gone(id); s.Failed() {
				s.Fatalf("%s: it is back", name)
			}
		}
	}
}

func vanished(s *site) {
	other := s.with(`"skip_empty":false`, life)
	for name, row := range map[string]struct {
		remove func(id string) error
		said   int
	}{
		"evicted":             {func(id string) error { return s.raw.Del(id).Err() }, 1},
		"destroyed here":      {func(id string) error { return s.SessionDestroy(ctx, id) }, 0},
		"destroyed elsewhere": {func(id string) error { return other.SessionDestroy(ctx, id) }, 0},
		"regenerated": {func(id string) error {
			_, err := s.SessionRegenerate(ctx, id, newID())
			return err
		}, 0},
	} {
		id := s.create("a", 1)
		store, reader := s.read(s, id), s.read(s, id)
		if err := row.remove(id); err != nil {
			s.Fatal(err)
		}
		log := captureLog(s)
		reader.SessionRelease(ctx, nil) // has nothing to lose
		for range 3 {
			set(s, store, "a", 2)
			store.SessionRelease(ctx, nil)
		}
		if n := strings.Count(log.String(), "no longer exists"); n != row.said {
			s.Errorf("%s: said %d times, want %d: %s", name, n, row.said, log)
		}
	}
}

func merged(s *site) {
	id := s.create("kept", 0, "deleted by a", 0, "deleted by b", 0)
	a, b := s.read(s, id), s.read(s, id)
	set(s, a, "a", 1)
	_ = a.Delete(ctx, "deleted by a")
	set(s, b, "b", 2)
	_ = b.Delete(ctx, "deleted by b")
	a.SessionRelease(ctx, nil)
	b.SessionRelease(ctx, nil)
	s.holds(id, "kept", 0, "a", 1, "b", 2)
	if b.Get(ctx, "a") != 1 {
		s.Error("after its release a store does not show what others saved")
	}

	// Two requests that create the session.
	id = newID()
	a, b = s.read(s, id), s.read(s, id)
	set(s, a, "a", 1)
	set(s, b, "b", 2)
	a.SessionRelease(ctx, nil)
	b.SessionRelease(ctx, nil)
	s.holds(id, "a", 1, "b", 2)

	// Many at once.
	id = s.create()
	var wg sync.WaitGroup
	const requests, updates = 8, 10
	for r := range requests {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for u := range updates {
				store, err := s.SessionRead(ctx, id)
				if err != nil {
					s.Error(err)
					return
				}
				_ = store.Set(ctx, fmt.Sprintf("%d.%d", r, u), u)
				store.SessionRelease(ctx, nil)
			}
		}()
	}
	wg.Wait()
	if n := len(s.stored(id)); n != requests*updates {
		s.Errorf("%d of %d updates are there", n, requests*updates)
	}
}

func laterWins(s *site) {
	id := s.create("k", "original", "same", "original")
	a, b := s.read(s, id), s.read(s, id)
	set(s, a, "k", "a", "same", "a")
	set(s, b, "k", "b", "same", "original") // Set to what it was: a change all the same
	a.SessionRelease(ctx, nil)
	b.SessionRelease(ctx, nil)
	s.holds(id, "k", "b", "same", "original")
}

func flushWins(s *site) {
	id := s.create("k", 1)
	a, b := s.read(s, id), s.read(s, id)
	_ = a.Flush(ctx)
	set(s, a, "after", 1)
	set(s, b, "added", 1)
	b.SessionRelease(ctx, nil)
	a.SessionRelease(ctx, nil)
	s.holds(id, "after", 1)
}

func goneStaysGone(s *site) {
	for name, remove := range map[string]func(id string){
		"destroyed":          func(id string) { _ = s.SessionDestroy(ctx, id) },
		"destroyed by beego": func(id string) { s.raw.Del(id) },
		"regenerated":        func(id string) { _, _ = s.SessionRegenerate(ctx, id, newID()) },
	} {
		id := s.create("k", 1, "m", map[string]any{})
		changed, inPlace, touched, flushed := s.read(s, id), s.read(s, id), s.read(s.with(`"touch_interval":"0s"`, life), id), s.read(s, id)
		remove(id)
		set(s, changed, "k", 2)
		inPlace.Get(ctx, "m").(map[string]any)["x"] = 1
		_ = flushed.Flush(ctx)
		for _, store := range []session.Store{changed, inPlace, touched, flushed} {
			releaseIfPresent(ctx, store)
			store.SessionRelease(ctx, nil)
			store.SessionRelease(ctx, nil)
			if s.gone(id); s.Failed() {
				s.Fatalf("a session that was %s came back", name)
			}
		}
	}
}

func newAndDestroyed(s *site) {
	id, next := newID(), newID()
	destroyed, regenerated := s.read(s, id), s.read(s, next)
	set(s, destroyed, "k", 1)
	set(s, regenerated, "k", 1)
	_ = s.SessionDestroy(ctx, id)
	if _, err := s.SessionRegenerate(ctx, next, newID()); err != nil {
		s.Fatal(err)
	}
	destroyed.SessionRelease(ctx, nil)
	regenerated.SessionRelease(ctx, nil)
	s.gone(id, next)

	// A request that reads the id after that may create it.
	store := s.read(s, id)
	set(s, store, "k", 2)
	store.SessionRelease(ctx, nil)
	s.holds(id, "k", 2)
}

func releasedTwice(s *site) {
	id := newID()
	store := s.read(s, id)
	set(s, store, "a", 1)
	store.SessionRelease(ctx, nil)
	set(s, store, "b", 2)
	store.SessionRelease(ctx, nil)
	store.SessionRelease(ctx, nil)
	s.holds(id, "a", 1, "b", 2)
	_ = s.SessionDestroy(ctx, id)
	set(s, store, "c", 3)
	store.SessionRelease(ctx, nil)
	s.gone(id)
}

func ifPresent(s *site) {
	id := newID()
	store := s.read(s, id)
	set(s, store, "a", 1)
	releaseIfPresent(ctx, store)
	s.gone(id)
	other := s.read(s, id)
	set(s, other, "b", 2)
	other.SessionRelease(ctx, nil)
	releaseIfPresent(ctx, store)
	s.holds(id, "a", 1, "b", 2)
}

func concurrentUse(s *site) {
	id := s.create()
	store := s.read(s, id)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 20 {
				key := fmt.Sprint(g, i)
				_ = store.Set(ctx, key, i)
				if store.Get(ctx, key) != i {
					s.Errorf("Get(%q) = %v", key, store.Get(ctx, key))
				}
				switch i % 4 {
				case 1:
					_ = store.Delete(ctx, key)
				case 2:
					store.SessionRelease(ctx, nil)
				case 3:
					releaseIfPresent(ctx, store)
				}
				_ = store.SessionID(ctx)
			}
		}()
	}
	wg.Wait()
	store.SessionRelease(ctx, nil)
	if n := len(s.stored(id)); n != 8*15 {
		s.Errorf("%d keys are stored, want %d", n, 8*15)
	}
	_ = store.Flush(ctx)
	store.SessionRelease(ctx, nil)
	s.holds(id)
}

func regenerate(s *site) {
	id, next := s.create("a", 1), newID()
	s.raw.Expire(id, time.Minute)
	store, err := s.SessionRegenerate(ctx, id, next)
	if err != nil {
		s.Fatal(err)
	}
	if store.Get(ctx, "a") != 1 || store.SessionID(ctx) != next {
		s.Errorf("the store holds %v under %q", store.Get(ctx, "a"), store.SessionID(ctx))
	}
	s.gone(id)
	s.holds(next, "a", 1)
	if d := s.ttl(next); !near(d) {
		s.Errorf("the session lives for %v", d)
	}
	set(s, store, "b", 2)
	store.SessionRelease(ctx, nil)
	s.holds(next, "a", 1, "b", 2)

	if store, err = s.SessionRegenerate(ctx, next, next); err != nil || store.Get(ctx, "b") != 2 {
		s.Errorf("a regenerate to the same id: %v", err)
	}
	s.holds(next, "a", 1, "b", 2)
}

func regenerateNothing(s *site) {
	for _, old := range []string{newID(), "", "not an id"} {
		next := newID()
		store, err := s.SessionRegenerate(ctx, old, next)
		if err != nil {
			s.Fatal(err)
		}
		if d := s.ttl(next); !near(d) {
			s.Errorf("the session lives for %v", d)
		}
		s.holds(next)
		set(s, store, "a", 1)
		store.SessionRelease(ctx, nil)
		s.holds(next, "a", 1)
	}
	if store, err := s.SessionRegenerate(ctx, newID(), "not an id"); store != nil || err == nil {
		s.Errorf("a regenerate to what is no id = %v, %v", store, err)
	}
}

func regenerateOnto(s *site) {
	victim := s.create("user", "ann")
	store, err := s.SessionRegenerate(ctx, newID(), victim)
	if err != nil {
		s.Fatal(err)
	}
	if got := store.Get(ctx, "user"); got != nil {
		s.Errorf("it hands out the session of %v", got)
	}
	s.holds(victim)

	// What SessionExist has found under the new id is not served after that.
	if ok, err := s.SessionExist(ctx, victim); !ok || err != nil {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	if _, err := s.SessionRegenerate(ctx, s.create("user", "bob"), victim); err != nil {
		s.Fatal(err)
	}
	if got := s.read(s, victim).Get(ctx, "user"); got != "bob" {
		s.Errorf("user = %v", got)
	}
	s.holds(victim, "user", "bob")
}

func regenerateRace(s *site) {
	for range 5 {
		id := s.create("a", 1)
		next := make([]string, 6)
		var wg sync.WaitGroup
		for i := range next {
			next[i] = newID()
			wg.Add(1)
			// Each its own provider, as in processes of their own.
			p := s.with(`"skip_empty":false`, life)
			go func() {
				defer wg.Done()
				if _, err := p.SessionRegenerate(ctx, id, next[i]); err != nil {
					s.Error(err)
				}
			}()
		}
		wg.Wait()
		carried := 0
		for _, id := range next {
			carried += len(s.stored(id))
		}
		if carried != 1 {
			s.Errorf("%d sessions carry the data on", carried)
		}
		s.gone(id)
	}
}

func destroy(s *site) {
	id := s.create("a", 1)
	for range 2 {
		if err := s.SessionDestroy(ctx, id); err != nil {
			s.Error(err)
		}
		s.gone(id)
	}
	if err := s.SessionDestroy(ctx, "no id"); err != nil {
		s.Error(err)
	}
}

// listed are the ids that Sessions yields.
func (s *site) listed(p *redis.Provider) (ids []string) {
	s.Helper()
	for id, err := range p.Sessions(ctx) {
		if err != nil {
			s.Fatal(err)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func listing(s *site) {
	prefix := newID() + "[*]:"
	p := s.with(fmt.Sprintf(`"key_prefix":%q`, prefix), life)
	if ids, n := s.listed(p), p.SessionAll(ctx); len(ids) != 0 || n != 0 {
		s.Errorf("Sessions = %q, SessionAll = %d, want none", ids, n)
	}
	var want []string
	for range 25 {
		id := newID()
		store := s.read(p, id)
		set(s, store, "a", 1)
		store.SessionRelease(ctx, nil)
		if n := s.raw.Exists(prefix + id).Val(); n != 1 {
			s.Fatal("the key has no prefix")
		}
		want = append(want, id)
	}
	slices.Sort(want)
	if ids, n := s.listed(p), p.SessionAll(ctx); !slices.Equal(ids, want) || n != len(want) {
		s.Errorf("Sessions = %q, SessionAll = %d, want %q", ids, n, want)
	}
	if ids, n := s.listed(s.Provider), s.SessionAll(ctx); len(ids) < 25 || n != len(ids) {
		s.Errorf("without a prefix %d are listed, SessionAll = %d", len(ids), n)
	}
	var none context.Context
	for range p.Sessions(none) {
		break
	}
}

func listingOnlySessions(s *site) {
	prefix := newID() + ":"
	p := s.with(fmt.Sprintf(`"key_prefix":%q`, prefix), life)
	const n = 10
	var want []string
	for i := range n {
		id, next := newID(), newID()
		store := s.read(p, id)
		set(s, store, "a", strings.Repeat("x", i*10_000)) // also large ones, which are written in two steps
		store.SessionRelease(ctx, nil)
		set(s, store, "b", 1)
		store.SessionRelease(ctx, nil)
		if _, err := p.SessionRegenerate(ctx, id, next); err != nil {
			s.Fatal(err)
		}
		if err := p.SessionDestroy(ctx, newID()); err != nil {
			s.Fatal(err)
		}
		want = append(want, next)
	}
	slices.Sort(want)
	for _, other := range []string{"no id", strings.Repeat("x", 513)} {
		s.put(prefix+other, "what another program has there")
	}
	if ids, got := s.listed(p), p.SessionAll(ctx); !slices.Equal(ids, want) || got != n {
		s.Errorf("Sessions = %q, SessionAll = %d, want %q", ids, got, want)
	}
}

func skipEmpty(s *site) {
	p := s.with(`"skip_empty":true`, life)
	id := newID()
	store := s.read(p, id)
	store.SessionRelease(ctx, nil)
	s.gone(id)
	set(s, store, "a", 1)
	store.SessionRelease(ctx, nil)
	s.holds(id, "a", 1)
	_ = store.Delete(ctx, "a") // it exists now, and stays
	store.SessionRelease(ctx, nil)
	s.holds(id)

	// A Flush is a change, also of what was created since.
	id = newID()
	flushed := s.read(p, id)
	_ = flushed.Flush(ctx)
	flushed.SessionRelease(ctx, nil)
	s.gone(id)
	other := s.read(s, id)
	set(s, other, "a", 1)
	other.SessionRelease(ctx, nil)
	flushed.SessionRelease(ctx, nil)
	s.holds(id)

	id = newID()
	s.read(s, id).SessionRelease(ctx, nil)
	s.holds(id) // by default
}

func hostileIDs(s *site) {
	victim := s.create("user", "ann")
	if err := s.SessionDestroy(ctx, victim); err != nil {
		s.Error(err)
	}
	ids := []string{"", strings.Repeat("x", 513), "a b", "a\nb", "a\x00b", "\x7f", "gone:{" + victim + "}", "save:{a}:b", "moved:{a}:b"}
	if _, cluster := s.raw.(interface{ ReloadState() error }); cluster {
		ids = append(ids, "{slot}id", "a}b")
	}
	for _, id := range ids {
		if ok, err := s.SessionExist(ctx, id); ok || err != nil {
			s.Errorf("SessionExist(%q) = %v, %v", id, ok, err)
		}
		if store, err := s.SessionRead(ctx, id); store != nil || err == nil {
			s.Errorf("SessionRead(%q) = %v, %v", id, store, err)
		}
		if err := s.SessionDestroy(ctx, id); err != nil {
			s.Error(err)
		}
	}
	if n := s.raw.Exists("gone:{" + victim + "}").Val(); n != 1 {
		s.Error("a cookie has removed what the log-out left")
	}
	id := strings.Repeat("x", 480) + newID()
	store := s.read(s, id)
	store.SessionRelease(ctx, nil)
	s.holds(id)
}

func reinit(s *site) {
	p := s.with(`"skip_empty":false`, life)
	id := s.create("n", 0)
	underWay := s.read(p, id)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if ok, err := p.SessionExist(ctx, id); !ok || err != nil {
					s.Errorf("SessionExist = %v, %v", ok, err)
					return
				}
			}
		}()
	}
	for i := range 5 {
		config := strings.Replace(s.config, "{", fmt.Sprintf(`{"max_retries":%d,`, 3+i/2), 1)
		if err := p.SessionInit(ctx, life, config); err != nil {
			s.Error(err)
		}
	}
	if err := p.SessionInit(ctx, -1, s.config); err == nil {
		s.Error("a negative life time is accepted")
	}
	if err := p.SessionInit(ctx, life, `{"max_retries":"many"}`); err == nil || p.MaxRetries != 5 {
		s.Errorf("a bad configuration: %v, max_retries %d", err, p.MaxRetries)
	}
	close(stop)
	wg.Wait()
	set(s, underWay, "n", 1)
	underWay.SessionRelease(ctx, nil)
	s.holds(id, "n", 1)
}
