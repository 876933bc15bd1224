// Sessions of which this program cannot decode all: two versions of a program side by side, and what is no session.

package redis_test

import (
	"context"
	"encoding/gob"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web"
	webcontext "github.com/beego/beego/v2/server/web/context"
	"github.com/beego/beego/v2/server/web/session"
)

// ours and strange are the name of a type, and one of the same length that this program has not registered.
const (
	ours    = "beego-session/redis_test.user"
	strange = "somewhere-else/package_.User_"
)

// strangers is a session with a value of a type that this program has not registered.
func strangers(t testing.TB) string {
	data, err := session.EncodeGob(map[any]any{"u": user{Name: "ann"}, "n": 1})
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), ours, strange)
}

// damaged is a part of a session.
func damaged(t testing.TB) string { return strangers(t)[:40] }

// known decodes what Redis holds as beego's provider does in a process that knows the type.
func (s *site) known(id string) map[any]any {
	s.Helper()
	values, err := session.DecodeGob([]byte(strings.ReplaceAll(s.bytes(s.Provider, id), strange, ours)))
	if err != nil {
		s.Fatal(err)
	}
	return values
}

func (s *site) knows(id string, want map[any]any) {
	s.Helper()
	if got := s.known(id); !reflect.DeepEqual(got, want) {
		s.Errorf("who knows the type reads %v, want %v", got, want)
	}
}

// theirsSet is a request of a process that knows the type: it reads what is stored, and sets a key.
func (s *site) theirsSet(id string, key, value any) {
	s.Helper()
	values := s.known(id)
	values[key] = value
	data, err := session.EncodeGob(values)
	if err != nil {
		s.Fatal(err)
	}
	s.put(id, strings.ReplaceAll(string(data), ours, strange))
}

func undecodable(s *site) {
	for name, data := range map[string]string{"garbage": "no gob at all", "truncated": damaged(s)} {
		id := newID()
		s.put(id, data)
		store, err := s.SessionRead(ctx, id)
		if store != nil || err == nil {
			s.Fatalf("%s: SessionRead = %v, %v; want a literal nil and an error", name, store, err)
		}
		if strings.Contains(err.Error(), id) {
			s.Errorf("the error holds the session id: %v", err)
		}
		if got := s.raw.Get(id).Val(); got != data {
			s.Errorf("%s: the value in Redis was changed", name)
		}
	}
}

func carriedAlong(s *site) {
	ann := user{Name: "ann"}
	id, data := newID(), strangers(s)
	s.put(id, data)
	store := s.read(s, id)
	if got := store.Get(ctx, "u"); got != nil {
		s.Errorf("Get = %#v", got)
	}
	if got := store.Get(ctx, "n"); got != 1 {
		s.Errorf("Get of another key = %v", got)
	}
	store.SessionRelease(ctx, nil)
	if s.raw.Get(id).Val() != data {
		s.Error("a request that only reads has changed the session")
	}
	for n := range 10 { // others save beside it
		store := s.read(s, id)
		set(s, store, "n", n, "mine", user{Name: "bob"})
		store.SessionRelease(ctx, nil)
	}
	s.knows(id, map[any]any{"u": ann, "n": 9, "mine": user{Name: "bob"}})

	store = s.read(s, id)
	set(s, store, "u", "mine")
	store.SessionRelease(ctx, nil)
	s.knows(id, map[any]any{"u": "mine", "n": 9, "mine": user{Name: "bob"}})

	s.put(id, data)
	store = s.read(s, id)
	if err := store.Delete(ctx, "u"); err != nil {
		s.Error(err)
	}
	store.SessionRelease(ctx, nil)
	s.knows(id, map[any]any{"n": 1})

	s.put(id, data)
	store = s.read(s, id)
	if err := store.Flush(ctx); err != nil {
		s.Error(err)
	}
	set(s, store, "a", 1)
	store.SessionRelease(ctx, nil)
	s.knows(id, map[any]any{"a": 1})

	s.put(id, data)
	if err := s.SessionDestroy(ctx, id); err != nil {
		s.Error(err)
	}
	s.gone(id)
}

func carriedMerged(s *site) {
	id := newID()
	s.put(id, strangers(s))
	mine := s.read(s, id)
	set(s, mine, "a", 1)
	s.theirsSet(id, "u", user{Name: "bob"})
	s.theirsSet(id, "v", user{Name: "cid"})
	other := s.read(s, id)
	set(s, other, "b", 2)
	other.SessionRelease(ctx, nil)
	mine.SessionRelease(ctx, nil)
	want := map[any]any{"u": user{Name: "bob"}, "v": user{Name: "cid"}, "n": 1, "a": 1, "b": 2}
	s.knows(id, want)

	mine, other = s.read(s, id), s.read(s, id)
	set(s, mine, "a", 2)
	if err := other.Delete(ctx, "v"); err != nil {
		s.Error(err)
	}
	other.SessionRelease(ctx, nil)
	mine.SessionRelease(ctx, nil)
	delete(want, "v")
	want["a"] = 2
	s.knows(id, want)

	mine = s.read(s, id)
	set(s, mine, "u", 3)
	s.theirsSet(id, "u", user{Name: "dan"})
	mine.SessionRelease(ctx, nil) // the later one
	want["u"] = 3
	s.knows(id, want)
}

func regenerateCarried(s *site) {
	id, next := newID(), newID()
	s.put(id, strangers(s))
	store, err := s.SessionRegenerate(ctx, id, next)
	if err != nil {
		s.Fatal(err)
	}
	set(s, store, "a", 1)
	store.SessionRelease(ctx, nil)
	s.gone(id)
	s.knows(next, map[any]any{"u": user{Name: "ann"}, "n": 1, "a": 1})
}

func regenerateUndecodable(s *site) {
	id, next, data := newID(), newID(), damaged(s)
	s.put(id, data)
	if store, err := s.SessionRegenerate(ctx, id, next); store != nil || err == nil {
		s.Errorf("SessionRegenerate = %v, %v", store, err)
	}
	s.gone(next)
	if !strings.HasPrefix(s.bytes(s.Provider, id), data) { // with a version behind it
		s.Error("the session is not where it was")
	}
}

// ownName and opaqueName are ids of users: the one is a string to gob, and the other knows itself how it is encoded.
type (
	ownName    string
	opaqueName string
)

func (n opaqueName) GobEncode() ([]byte, error) { return []byte(n), nil }

func (n *opaqueName) GobDecode(b []byte) error {
	*n = opaqueName(b)
	return nil
}

func init() {
	gob.Register(ownName(""))
	gob.Register(opaqueName(""))
}

func carriedUser(s *site) {
	prefix := newID() + ":"
	p := s.with(fmt.Sprintf(`"key_prefix":%q,"user_key":"uid"`, prefix), life)
	for _, uid := range []any{ownName("ann"), opaqueName("bob")} {
		owner := fmt.Sprint(uid)
		id := newID()
		store := s.read(p, id)
		set(s, store, "uid", owner)
		store.SessionRelease(ctx, nil) // in the index
		kept := s.bytes(p, prefix+id)
		// Another program has the same user in a type of its own.
		data, err := session.EncodeGob(map[any]any{"uid": uid})
		if err != nil {
			s.Fatal(err)
		}
		plain, err := session.EncodeGob(map[any]any{"uid": owner})
		if err != nil {
			s.Fatal(err)
		}
		entries := kept[len(plain):]
		s.put(prefix+id, strings.NewReplacer("redis_test.ownName", "redis_test.ownNam_", "redis_test.opaqueName", "redis_test.opaqueNam_").
			Replace(string(data))+entries)

		store = s.read(p, id)
		if store.Get(ctx, "uid") != nil {
			s.Fatal("the user decodes")
		}
		set(s, store, "n", 1)
		store.SessionRelease(ctx, nil)
		if !strings.Contains(s.bytes(p, prefix+id), entries[:9]) {
			s.Errorf("%T: the session no longer says that it is in the index", uid)
		}
		if sessions, err := p.SessionsOf(ctx, owner); err != nil || len(sessions) != 1 || sessions[0].ID != id {
			s.Errorf("%T: the sessions of the user are %v, %v", uid, sessions, err)
		}
		if n, err := p.DestroyAll(ctx, owner); n != 1 || err != nil {
			s.Errorf("%T: DestroyAll = %d, %v", uid, n, err)
		}
	}
}

func undecodableNew(s *site) {
	p := s.with(`"on_undecodable":"new"`, life)
	var told []redis.Failure
	p.OnError(func(_ context.Context, f redis.Failure) { told = append(told, f) })
	for name, data := range map[string]string{"garbage": "no gob at all", "truncated": damaged(s), "a message": "\x03abc"} {
		told = nil
		id := newID()
		s.put(id, data)
		store := s.read(p, id)
		if len(told) != 1 || told[0].Kind != redis.KindUndecodable || told[0].Session == "" || strings.Contains(told[0].Err.Error(), id) {
			s.Errorf("%s: told %+v", name, told)
		}
		store.SessionRelease(ctx, nil)
		if s.raw.Get(id).Val() != data {
			s.Errorf("%s: overwritten by reading", name)
		}
		other := s.read(p, id)
		set(s, store, "a", 1)
		store.SessionRelease(ctx, nil)
		set(s, other, "b", 2)
		other.SessionRelease(ctx, nil)
		s.holds(id, "a", 1, "b", 2)
		if len(told) != 2 {
			s.Errorf("%s: told %+v", name, told)
		}

		id = newID()
		s.put(id, data)
		store = s.read(p, id)
		set(s, store, "a", 1)
		theirs := s.read(p, id)
		set(s, theirs, "b", 2)
		s.put(id, beegoBytes(s, "c", 3)) // by another program meanwhile
		store.SessionRelease(ctx, nil)
		theirs.SessionRelease(ctx, nil)
		s.holds(id, "a", 1, "b", 2, "c", 3)

		id, next := newID(), newID()
		s.put(id, data)
		store, err := p.SessionRegenerate(ctx, id, next)
		if err != nil {
			s.Fatal(err)
		}
		s.gone(id)
		set(s, store, "a", 1)
		store.SessionRelease(ctx, nil)
		s.holds(next, "a", 1)

		id = newID()
		s.put(id, data)
		store = s.read(p, id)
		set(s, store, "a", 1)
		if err := p.SessionDestroy(ctx, id); err != nil {
			s.Error(err)
		}
		store.SessionRelease(ctx, nil)
		s.gone(id)
	}
	// What is a session, if not one that this program knows all of, is none to begin anew.
	id := newID()
	s.put(id, strangers(s))
	store := s.read(p, id)
	set(s, store, "n", 2)
	store.SessionRelease(ctx, nil)
	s.knows(id, map[any]any{"u": user{Name: "ann"}, "n": 2})
}

func beegoBytes(t testing.TB, key, value any) string {
	data, err := session.EncodeGob(map[any]any{key: value})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestATypeThatDoesNotDecodeIsToldOfOnce(t *testing.T) {
	s, _ := onMiniredis(t, "")
	var told []redis.Failure
	s.OnError(func(ctx context.Context, f redis.Failure) {
		told = append(told, f)
		if err := s.SessionDestroy(ctx, "another"); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		id := newID()
		s.put(id, strangers(t))
		store := s.read(s, id)
		set(t, store, "n", 2)
		store.SessionRelease(ctx, nil)
		if _, err := s.SessionRegenerate(ctx, id, newID()); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 {
		t.Fatalf("told %+v", told)
	}
	want := fmt.Sprintf("call gob.Register(github.com/%s{})", strange)
	if f := told[0]; f.Kind != redis.KindUndecodable || f.Operation != "read" || !strings.Contains(f.Err.Error(), want) {
		t.Errorf("told %+v", f)
	}
	// The same type under a pointer is another one; names that never end cost no memory, and are not shown.
	data := strings.ReplaceAll(strangers(t), strange, "*"+strange[1:])
	data = strings.ReplaceAll(data, "github.com/*", "*github.com/")
	s.put("pointer", data)
	s.read(s, "pointer")
	if len(told) != 2 || !strings.Contains(told[1].Err.Error(), "call gob.Register(&github.com/") {
		t.Errorf("told %+v", told)
	}
	for n := range 300 {
		s.put("many", strings.ReplaceAll(strangers(t), strange, fmt.Sprintf("%s%04d", strange[:len(strange)-4], n)))
		s.read(s, "many")
	}
	if len(told) != 256 {
		t.Errorf("told of %d types", len(told))
	}
}

// late is a type that is registered in the middle of a request, by the first Set of a value.
type late struct {
	Name  string
	Roles []string
}

func TestATypeThatIsRegisteredMeanwhileLosesNothing(t *testing.T) {
	s, _ := onMiniredis(t, "")
	id := newID()
	s.put(id, strings.ReplaceAll(strangers(t), strange, "beego-session/redis_test.late"))
	mine, other := s.read(s, id), s.read(s, id)
	if mine.Get(ctx, "u") != nil {
		t.Skip("it is registered already")
	}
	set(t, other, "u", late{Name: "bob"})
	other.SessionRelease(ctx, nil)
	set(t, mine, "n", 2)
	mine.SessionRelease(ctx, nil)
	s.holds(id, "u", late{Name: "bob"}, "n", 2)
}

func TestWhatIsCarriedAlongHasItsSize(t *testing.T) {
	s, _ := onMiniredis(t, `"max_session_bytes":2000`)
	data, err := session.EncodeGob(map[any]any{"u": user{Name: strings.Repeat("x", 1500)}})
	if err != nil {
		t.Fatal(err)
	}
	id := newID()
	s.put(id, strings.ReplaceAll(string(data), ours, strange))
	store := s.read(s, id)
	log := captureLog(t)
	set(t, store, "more", strings.Repeat("y", 500))
	store.SessionRelease(ctx, nil)
	if got := log.take(); !strings.Contains(got, `its largest keys are "u" with 1`) {
		t.Errorf("log: %s", got)
	}
}

// Two versions of a shop run side by side, each in a process of its own. Version a and b have a cart of the same name with
// another kind of number, and b has vouchers, of which a knows nothing.

type shop interface {
	buy(ctx *webcontext.Context)
	shown(ctx *webcontext.Context) string
}

type shopA struct{}

func (shopA) buy(ctx *webcontext.Context) {
	type Cart struct{ N int }
	cart, _ := ctx.Input.Session("a").(Cart)
	cart.N++
	ctx.Output.Session("a", cart)
}

func (shopA) shown(ctx *webcontext.Context) string {
	return fmt.Sprintf("%v %v %v", ctx.Input.Session("a"), ctx.Input.Session("b"), ctx.Input.Session("vouchers"))
}

type shopB struct{}

func (shopB) buy(ctx *webcontext.Context) {
	type (
		Cart    struct{ N string }
		Voucher struct {
			Code any
			Of   *Cart
		}
	)
	gob.Register(Voucher{})
	cart, _ := ctx.Input.Session("b").(Cart)
	cart.N += "x"
	ctx.Output.Session("b", cart)
	vouchers, _ := ctx.Input.Session("vouchers").(map[string]any)
	ctx.Output.Session("vouchers", map[string]any{"n": len(vouchers), "last": Voucher{cart, &cart}})
}

func (shopB) shown(ctx *webcontext.Context) string {
	return fmt.Sprintf("%v %v %v", ctx.Input.Session("a"), ctx.Input.Session("b"), ctx.Input.Session("vouchers") != nil)
}

func TestShopOfAVersion(t *testing.T) {
	version := shop(shopA{})
	if os.Getenv("SHOP_VERSION") == "b" {
		version = shopB{}
	}
	page := func(ctx *webcontext.Context) {
		logInOrOut(ctx)
		if ctx.Request.URL.Path == "/buy" {
			version.buy(ctx)
		}
		_ = ctx.Output.Body([]byte(version.shown(ctx)))
	}
	startBeego(t, given, func() { web.Get("/*", page) })
	serve()
}

func TestTwoVersionsOfAProgramShareSessions(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	conf := appConf(t, "SessionProviderConfig = "+m.Addr())
	a, b := startApplication(t, "TestShopOfAVersion", conf, "SHOP_VERSION=a"), startApplication(t, "TestShopOfAVersion", conf, "SHOP_VERSION=b")
	browser := newBrowser(t, "")
	get := func(url, want string) {
		t.Helper()
		browser.sees("a page", url, want)
	}
	get(a+"/", "<nil> <nil> <nil>")
	for n := range 5 {
		carts := strings.Repeat("x", n)
		if n > 0 {
			carts = "{" + carts + "}"
		} else {
			carts = "<nil>"
		}
		get(a+"/buy", fmt.Sprintf("{%d} <nil> <nil>", n+1))
		get(b+"/", fmt.Sprintf("<nil> %s %v", carts, n > 0))
		get(b+"/buy", fmt.Sprintf("<nil> {%s} true", strings.Repeat("x", n+1)))
		if n%2 == 1 {
			get(b+"/login", fmt.Sprintf("<nil> {%s} true", strings.Repeat("x", n+1)))
		}
		if n%2 == 0 {
			get(a+"/login", fmt.Sprintf("{%d} <nil> <nil>", n+1))
		}
	}
	get(a+"/logout", "<nil> <nil> <nil>")
	get(b+"/", "<nil> <nil> false")
	if keys := sessions(m.Keys()); len(keys) != 1 {
		t.Errorf("the keys are %q", keys)
	}
}
