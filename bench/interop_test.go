// The two providers on one server, as during a rollout: what either writes the other reads, and where they differ.

package bench

import (
	"context"
	"encoding/gob"
	"fmt"
	"log"
	"math"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	beegoredis "github.com/beego/beego/v2/server/web/session/redis"
)

// life is that of a session, in seconds. A hundredth of it is longer than a comparison of one size takes: no life time is due to be
// renewed in it.
const life = 24 * 3600

var ctx = context.Background()

// open starts one of the two providers, "beego" or "this".
func open(name, config string) (session.Provider, error) {
	var p session.Provider = new(redis.Provider)
	if name == "beego" {
		p = new(beegoredis.Provider)
	}
	return p, p.SessionInit(ctx, life, config)
}

func mustOpen(t *testing.T, name, config string) session.Provider {
	t.Helper()
	p, err := open(name, config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustRead(t *testing.T, p session.Provider, id string) session.Store {
	t.Helper()
	store, err := p.SessionRead(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// exists asks for a session as beego's Manager does, which goes on to read one that is there.
func exists(t *testing.T, p session.Provider, id string) bool {
	t.Helper()
	found, err := p.SessionExist(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if found {
		mustRead(t, p, id)
	}
	return found
}

// save changes a session in one request.
func save(p session.Provider, id string, change func(session.Store) error) error {
	store, err := p.SessionRead(ctx, id)
	if err != nil {
		return err
	}
	if err := change(store); err != nil {
		return err
	}
	store.SessionRelease(ctx, nil)
	return nil
}

func set(key, value any) func(session.Store) error {
	return func(s session.Store) error { return s.Set(ctx, key, value) }
}

func mustSave(t *testing.T, p session.Provider, id string, change func(session.Store) error) {
	t.Helper()
	if err := save(p, id, change); err != nil {
		t.Fatal(err)
	}
}

type role string

type address struct {
	Street string
	Zip    int
}

type account struct {
	ID    int64
	Name  string
	Tags  []string
	Home  address
	Work  *address
	Since time.Time
}

// profile is only ever held by pointer: gob registers a type either so or as a value.
type profile account

func init() {
	gob.Register(account{})
	gob.Register(&profile{})
	gob.Register(role(""))
	gob.Register(address{})
	gob.Register([]account{})
	gob.Register(map[string]account{})
	gob.Register(map[string][]int{})
	gob.Register(map[string]map[string]int{})
	gob.Register([]int{})
	gob.Register([]string{})
	gob.Register([]bool{})
	gob.Register([]float64{})
	gob.Register([][]byte{})
	gob.Register([]time.Time{})
	gob.Register([3]int{})
	gob.Register(time.Time{})
	gob.Register(time.Duration(0))
	gob.Register(big.NewInt(0))
}

// entry is one key and value of a session.
type entry struct {
	what       string
	key, value any
}

func entries() []entry {
	moment := time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.UTC)
	ann := account{ID: 7, Name: "Ann", Tags: []string{"a", "b"}, Home: address{"High Street", 1}, Work: &address{"Mill Lane", 2}, Since: moment}
	list := []entry{
		{what: "true", value: true},
		{what: "false", value: false},
		{what: "int", value: -42},
		{what: "int zero", value: 0},
		{what: "int8", value: int8(math.MinInt8)},
		{what: "int16", value: int16(math.MinInt16)},
		{what: "int32", value: int32(math.MinInt32)},
		{what: "int64", value: int64(math.MinInt64)},
		{what: "uint", value: uint(42)},
		{what: "uint8", value: uint8(math.MaxUint8)},
		{what: "uint16", value: uint16(math.MaxUint16)},
		{what: "uint32", value: uint32(math.MaxUint32)},
		{what: "uint64", value: uint64(math.MaxUint64)},
		{what: "uintptr", value: uintptr(1)},
		{what: "float32", value: float32(1.5)},
		{what: "float64", value: math.Pi},
		{what: "infinity", value: math.Inf(-1)},
		{what: "complex64", value: complex64(1 + 2i)},
		{what: "complex128", value: 1 + 2i},
		{what: "string", value: "Grüße, 世界\x00\xff"},
		{what: "empty string", value: ""},
		{what: "string of 70 KB", value: strings.Repeat("0123456789", 7<<10)},
		{what: "named string", value: role("admin")},
		{what: "bytes", value: []byte{0, 1, 255}},
		{what: "no bytes", value: []byte(nil)},
		{what: "time", value: moment},
		{what: "time in a zone", value: moment.In(time.FixedZone("", 2*3600))},
		{what: "duration", value: time.Minute},
		{what: "slice of int", value: []int{1, -2, 3}},
		{what: "slice of string", value: []string{"a", "", "c"}},
		{what: "slice of bool", value: []bool{true, false}},
		{what: "slice of float64", value: []float64{0, 1.5}},
		{what: "slice of bytes", value: [][]byte{{1}, {2, 3}}},
		{what: "slice of time", value: []time.Time{moment, moment.Add(1)}},
		{what: "slice of any", value: []any{1, "two", 3.0, []any{true}, map[string]any{"four": 4}}},
		{what: "array", value: [3]int{1, 2, 3}},
		{what: "map of strings", value: map[string]string{"a": "b", "": ""}},
		{what: "map to any", value: map[string]any{"a": 1, "b": []any{"c"}}},
		{what: "map of any", value: map[any]any{"a": 1, 2: "b", 1.5: true}},
		{what: "map of int to any", value: map[int]any{1: "a"}},
		{what: "map of int to string", value: map[int]string{1: "a"}},
		{what: "map of int to int64", value: map[int]int64{1: 2}},
		{what: "map to slices", value: map[string][]int{"a": {1, 2}}},
		{what: "map of maps", value: map[string]map[string]int{"a": {"b": 1}, "c": {}}},
		{what: "nested maps", value: map[string]any{"a": map[string]any{"b": map[string]any{"c": map[any]any{4: []any{5}}}}}},
		{what: "struct", value: ann},
		{what: "zero struct", value: account{}},
		{what: "pointer to a struct", value: (*profile)(&ann)},
		{what: "slice of structs", value: []account{ann, {}}},
		{what: "map of structs", value: map[string]account{"ann": ann}},
		{what: "type with its own encoding", value: new(big.Int).Lsh(big.NewInt(1), 200)},
		{what: "int key", key: -1, value: "a"},
		{what: "uint8 key", key: uint8(1), value: "b"},
		{what: "float key", key: 1.5, value: "c"},
		{what: "bool key", key: false, value: "d"},
		{what: "named string key", key: role("admin"), value: "e"},
		{what: "struct key", key: address{"Mill Lane", 2}, value: "f"},
	}
	for i, e := range list {
		if e.key == nil {
			list[i].key = e.what
		}
	}
	return list
}

// equal is reflect.DeepEqual, but a location read from gob is another one that means the same.
func equal(got, want any) bool {
	if want, ok := want.(time.Time); ok {
		got, ok := got.(time.Time)
		return ok && got.Equal(want) && got.Format(time.RFC3339) == want.Format(time.RFC3339)
	}
	return reflect.DeepEqual(got, want)
}

const whole, empty = "with-everything-", "with-nothing-" // ids of sessions, before the writer's name

func idOf(writer string, i int) string { return fmt.Sprintf("one-value-%d-%s", i, writer) }

// writeAll writes every entry into a session of its own, all into another, and none into a third.
func writeAll(writer, addr string) error {
	p, err := open(writer, addr)
	if err != nil {
		return err
	}
	all := entries()
	for i, e := range slices.Backward(all) {
		if err := save(p, idOf(writer, i), set(e.key, e.value)); err != nil {
			return err
		}
	}
	err = save(p, empty+writer, func(session.Store) error { return nil })
	if err != nil {
		return err
	}
	return save(p, whole+writer, func(s session.Store) error {
		for _, e := range all {
			if err := s.Set(ctx, e.key, e.value); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestMain lets this program start itself as one that writes sessions.
func TestMain(m *testing.M) {
	if writer := os.Getenv("INTEROP_WRITER"); writer != "" {
		if err := writeAll(writer, os.Getenv("INTEROP_ADDR")); err != nil {
			log.Fatal(err)
		}
		return
	}
	os.Exit(m.Run())
}

// The writer is another process, where gob numbers the same types differently.
func TestEitherProviderReadsWhatTheOtherWrites(t *testing.T) {
	s := redistest.Start(t)
	for _, pair := range [][2]string{{"beego", "this"}, {"this", "beego"}} {
		writer, reader := pair[0], pair[1]
		t.Run(writer+" to "+reader, func(t *testing.T) {
			program := exec.Command(os.Args[0])
			program.Env = append(os.Environ(), "INTEROP_WRITER="+writer, "INTEROP_ADDR="+s.Addr())
			if out, err := program.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			p, back := mustOpen(t, reader, s.Addr()), mustOpen(t, writer, s.Addr())

			for i, e := range entries() {
				if got := mustRead(t, p, idOf(writer, i)).Get(ctx, e.key); !equal(got, e.value) {
					t.Errorf("%s: %.100v, want %.100v", e.what, got, e.value)
				}
			}
			if !exists(t, p, empty+writer) {
				t.Error("the empty session does not exist")
			}
			mustSave(t, p, empty+writer, set("added", 1))
			if got := mustRead(t, back, empty+writer).Get(ctx, "added"); got != 1 {
				t.Errorf("added to the empty session: %v, want 1", got)
			}

			mustSave(t, p, whole+writer, func(s session.Store) error {
				_ = s.Delete(ctx, "true")
				return s.Set(ctx, "added", 1)
			})
			store := mustRead(t, back, whole+writer)
			for _, e := range append(entries()[1:], entry{"added", "added", 1}, entry{"deleted", "true", nil}) {
				if got := store.Get(ctx, e.key); !equal(got, e.value) {
					t.Errorf("after a round trip, %s: %.100v, want %.100v", e.what, got, e.value)
				}
			}
		})
	}
}

func TestEitherProviderGoesOnWithTheOthersSessions(t *testing.T) {
	s := redistest.Start(t)
	for _, pair := range [][2]string{{"beego", "this"}, {"this", "beego"}} {
		t.Run(pair[0]+" and "+pair[1], func(t *testing.T) {
			a, b := mustOpen(t, pair[0], s.Addr()), mustOpen(t, pair[1], s.Addr())
			wantN := func(p session.Provider, id string, want any) {
				t.Helper()
				if got := mustRead(t, p, id).Get(ctx, "n"); got != want {
					t.Errorf("n is %v, want %v", got, want)
				}
			}
			wantExist := func(id string, want bool) {
				t.Helper()
				for i, p := range []session.Provider{a, b} {
					if exists(t, p, id) != want {
						t.Errorf("to %s the session exists: %v, want %v", pair[i], !want, want)
					}
				}
			}
			old, id := newID(), newID()

			wantExist(old, false)
			mustSave(t, a, old, set("n", 1))
			wantExist(old, true)
			mustSave(t, b, old, set("n", 2))
			wantN(a, old, 2)

			if err := s.Client().Expire(old, time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			store, err := b.SessionRegenerate(ctx, old, id)
			if err != nil {
				t.Fatal(err)
			}
			if got := store.Get(ctx, "n"); got != 2 || store.SessionID(ctx) != id {
				t.Errorf("regenerated: n is %v in session %s", got, store.SessionID(ctx))
			}
			wantExist(old, false)
			wantExist(id, true)
			wantN(a, id, 2)
			if ttl := s.Client().TTL(id).Val(); ttl < (life-60)*time.Second {
				t.Errorf("regenerated: it lives for %v", ttl)
			}

			store = mustRead(t, a, id)
			if err := store.Set(ctx, "n", 3); err != nil {
				t.Fatal(err)
			}
			store.SessionReleaseIfPresent(ctx, nil)
			wantN(b, id, 3)
			if err := b.SessionDestroy(ctx, id); err != nil {
				t.Fatal(err)
			}
			if err := store.Set(ctx, "n", 4); err != nil {
				t.Fatal(err)
			}
			store.SessionReleaseIfPresent(ctx, nil)
			wantExist(id, false)
			if err := a.SessionDestroy(ctx, id); err != nil {
				t.Errorf("destroy what is not there: %v", err)
			}

			if _, err := a.SessionRegenerate(ctx, old, id); err != nil {
				t.Fatal(err)
			}
			wantExist(id, true)
			wantN(b, id, nil)
			mustSave(t, b, id, set("n", 5))
			wantN(a, id, 5)
			mustSave(t, a, id, func(s session.Store) error { return s.Flush(ctx) })
			wantN(b, id, nil)
			wantExist(id, true)
		})
	}
}

// One browser, whose requests are served now by a process with the one provider, now by one with the other.
func TestOneCookieAlternatesBetweenTheProviders(t *testing.T) {
	random := rand.Uint64()
	t.Logf("seed %d", random)
	choose := rand.New(rand.NewPCG(random, 0))
	s := redistest.Start(t)
	managers := map[string]*session.Manager{}
	for name, p := range map[string]session.Provider{"beego": new(beegoredis.Provider), "this": new(redis.Provider)} {
		session.Register("alternating-"+name, p)
		manager, err := session.NewManager("alternating-"+name, &session.ManagerConfig{
			CookieName: "id", EnableSetCookie: true, Gclifetime: life, ProviderConfig: s.Addr(),
		})
		if err != nil {
			t.Fatal(err)
		}
		managers[name] = manager
	}
	var do func(w http.ResponseWriter, r *http.Request, manager *session.Manager, store session.Store) session.Store
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		manager := managers[r.URL.Path[1:]]
		store, err := manager.SessionStart(w, r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		do(w, r, manager, store).SessionRelease(ctx, w)
	}))
	defer site.Close()
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}

	want := map[any]any{} // the session
	list := []address{{"Mill Lane", 0}}
	var sid string
	for i := range 500 {
		name := []string{"beego", "this"}[choose.IntN(2)]
		do = func(w http.ResponseWriter, r *http.Request, manager *session.Manager, store session.Store) session.Store {
			for key, value := range want {
				if got := store.Get(ctx, key); !equal(got, value) {
					t.Errorf("request %d, by %s: %v is %.100v, want %.100v", i, name, key, got, value)
				}
			}
			key := fmt.Sprint("key ", choose.IntN(8))
			action := choose.IntN(10)
			if i == 499 {
				action = -1 // the last one sets a value
			}
			switch action {
			case 0:
				_ = store.Delete(ctx, key)
				delete(want, key)
			case 1:
				list = append(slices.Clone(list), address{fmt.Sprint(i), i})
				_, want["list"] = store.Set(ctx, "list", list), list
			case 2: // a log-in; beego's own provider saves only what was released before it
				store.SessionRelease(ctx, w)
				regenerated, err := manager.SessionRegenerateID(w, r)
				if err != nil {
					t.Error(err)
					return store
				}
				store = regenerated
			case 3:
				if choose.IntN(10) == 0 {
					_ = store.Flush(ctx)
					clear(want)
				}
			case 4:
				if choose.IntN(10) == 0 { // a log-out, of which the next request knows nothing
					store.SessionRelease(ctx, w)
					manager.SessionDestroy(w, r)
					clear(want)
					next, err := manager.SessionStart(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
					if err != nil {
						t.Error(err)
						return store
					}
					return next
				}
			default:
				_, want[key] = store.Set(ctx, key, i), i
			}
			sid = store.SessionID(ctx)
			return store
		}
		response, err := browser.Get(site.URL + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK || t.Failed() {
			t.Fatalf("request %d, by %s: %s", i, name, response.Status)
		}
	}
	for name, manager := range managers {
		store, err := manager.GetProvider().SessionRead(ctx, sid)
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range want {
			if got := store.Get(ctx, key); !equal(got, value) {
				t.Errorf("at the end %s shows %v as %v, want %v", name, key, got, value)
			}
		}
	}
	if len(want) == 0 {
		t.Error("the session is empty")
	}
}

// What docs/upgrade.md says of beego's provider is so.
func TestWhereTheProvidersDiffer(t *testing.T) {
	s := redistest.Start(t)
	for _, row := range []struct {
		what        string
		do          func(t *testing.T, p session.Provider, id string) any
		beego, this any
	}{
		{"values left after 16 requests at once have added one each", func(t *testing.T, p session.Provider, id string) any {
			var stores []session.Store
			for range 16 {
				stores = append(stores, mustRead(t, p, id))
			}
			n := 0
			for i, store := range stores {
				if err := store.Set(ctx, i, true); err != nil {
					t.Fatal(err)
				}
				store.SessionRelease(ctx, nil)
			}
			for i, store := 0, mustRead(t, p, id); i < 16; i++ {
				if store.Get(ctx, i) != nil {
					n++
				}
			}
			return n
		}, 1, 16},
		{"a session lives after a log-out while another request was under way", func(t *testing.T, p session.Provider, id string) any {
			store := mustRead(t, p, id)
			if err := p.SessionDestroy(ctx, id); err != nil {
				t.Fatal(err)
			}
			store.SessionRelease(ctx, nil)
			return exists(t, p, id)
		}, true, false},
		{"the old id lives after a regenerate while another request was under way", func(t *testing.T, p session.Provider, id string) any {
			store := mustRead(t, p, id)
			if _, err := p.SessionRegenerate(ctx, id, newID()); err != nil {
				t.Fatal(err)
			}
			store.SessionRelease(ctx, nil)
			return exists(t, p, id)
		}, true, false},
		{"what is saved of a request whose client hung up", func(t *testing.T, p session.Provider, id string) any {
			store := mustRead(t, p, id)
			if err := store.Set(ctx, "n", 1); err != nil {
				t.Fatal(err)
			}
			hungUp, cancel := context.WithCancel(ctx)
			cancel()
			store.SessionRelease(hungUp, nil)
			return mustRead(t, p, id).Get(ctx, "n")
		}, nil, 1},
		{"what is saved beside a value that cannot be", func(t *testing.T, p session.Provider, id string) any {
			mustSave(t, p, id, func(s session.Store) error {
				_ = s.Set(ctx, "callback", func() {})
				return s.Set(ctx, "n", 1)
			})
			return mustRead(t, p, id).Get(ctx, "n")
		}, nil, 1},
	} {
		for name, want := range map[string]any{"beego": row.beego, "this": row.this} {
			p, id := mustOpen(t, name, s.Addr()), newID()
			mustSave(t, p, id, set("user", "Ann"))
			if got := row.do(t, p, id); got != want {
				t.Errorf("%s: with %s %v, want %v", row.what, name, got, want)
			}
		}
	}
}
