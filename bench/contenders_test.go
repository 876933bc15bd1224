// The session stores that are compared, each behind its own public API as an application uses it.

package bench

import (
	"context"
	"crypto/rand"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/boj/redistore"
	goredisv7 "github.com/go-redis/redis/v7"
	"github.com/gorilla/sessions"
	"github.com/rbcervilla/redisstore/v9"
	goredisv9 "github.com/redis/go-redis/v9"
)

// contender is one side of the comparison.
type contender struct {
	name string
	open func(addr string) (store, error) // of a server, or several with ; between them
	// readingOnly: it differs from another contender only in how it keeps a session alive that is read.
	readingOnly bool
}

const (
	beego    = "beego"
	this     = "this provider"
	renewing = "this, renewing"
	floor    = "bare client"
)

var contenders = []contender{
	{name: beego, open: openBeego("beego", "%s")},
	{name: this, open: openBeego("this", "%s")},
	{name: renewing, open: openBeego("this", `{"save_path":%q,"touch_interval":"0s"}`), readingOnly: true},
	{name: "scs", open: openSCS(time.Hour)},
	{name: "scs, fixed expiry", open: openSCS(0), readingOnly: true},
	{name: "rbcervilla", open: openRbcervilla},
	{name: "boj", open: openBoj},
	{name: floor, open: openFloor},
}

// poolSize is beego's default, for all.
const poolSize = 100

// store is what a contender does. Its methods are called by many goroutines, but never by two for the same session.
type store interface {
	// create stores a session and returns what its browser comes back with.
	create(p *payload) (id string, err error)
	// visit is one whole request, with its context, of a session in which the payload's counter stands at n: it loads the
	// session, reads the counter, sets the next one if it is to change something, and saves. Another counter is an error.
	visit(ctx context.Context, id string, p *payload, n int, change bool) error
}

// payload is what the sessions hold.
type payload struct {
	name  string
	fixed map[string]any
	// counter is the value that visits read and change.
	key     string
	counter func(n int) any
}

// values are those of a session, in a map of the caller's own.
func (p *payload) values(n int) map[string]any {
	values := map[string]any{p.key: p.counter(n)}
	for key, value := range p.fixed {
		values[key] = value
	}
	return values
}

func (p *payload) check(got any, n int) error {
	switch got := got.(type) {
	case int:
		if got == n {
			return nil
		}
	case member:
		if got.Visits == n {
			return nil
		}
	}
	return fmt.Errorf("the session's %s is %v, but the last request saved number %d", p.key, got, n)
}

type member struct {
	ID          int64
	Name, Email string
	Roles       []string
	Since       time.Time
	Visits      int
}

func init() { gob.Register(member{}) }

func number(n int) any { return n }

// few are the five values of a small session, with the counter.
var few = map[string]any{
	"user_id": int64(4711),
	"name":    "Augusta Ada King",
	"email":   "ada.king@example.org",
	"csrf":    "8d3f1c0f7a6b4e5d9c2b1a0f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a392817",
}

var payloads = []*payload{
	{"0.2 KB", few, "visits", number},
	{"1 KB", more(12, 64), "visits", number},
	{"5 KB", more(65, 58), "visits", number},
	{"struct", few, "member", func(n int) any {
		return member{42, "Augusta Ada King", "ada.king@example.org", []string{"author", "editor"}, time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC), n}
	}},
}

// more is few and n other values, most of them strings.
func more(n, size int) map[string]any {
	values := map[string]any{}
	for key, value := range few {
		values[key] = value
	}
	for i := range n {
		key := fmt.Sprintf("setting_%02d", i)
		switch i % 10 {
		case 3:
			values[key] = i
		case 6:
			values[key] = i%4 == 0
		case 9:
			values[key] = float64(i) / 3
		default:
			values[key] = strings.Repeat(string(rune('a'+i%26)), size)
		}
	}
	return values
}

func newID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return hex.EncodeToString(id)
}

// beegoAPI makes the calls of beego's session.Manager.
type beegoAPI struct{ session.Provider }

func openBeego(name, config string) func(string) (store, error) {
	return func(addr string) (store, error) {
		p, err := open(name, fmt.Sprintf(config, addr))
		return beegoAPI{p}, err
	}
}

func (b beegoAPI) create(p *payload) (string, error) {
	id := newID()
	return id, save(b, id, func(s session.Store) error {
		for key, value := range p.values(0) {
			if err := s.Set(ctx, key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b beegoAPI) visit(ctx context.Context, id string, p *payload, n int, change bool) error {
	if found, err := b.SessionExist(ctx, id); err != nil {
		return err
	} else if !found {
		return errors.New("the session does not exist")
	}
	s, err := b.SessionRead(ctx, id)
	if err != nil {
		return err
	}
	if err := p.check(s.Get(ctx, p.key), n); err != nil {
		return err
	}
	if change {
		if err := s.Set(ctx, p.key, p.counter(n+1)); err != nil {
			return err
		}
	}
	s.SessionRelease(ctx, nil)
	return nil
}

type scsAPI struct{ *scs.SessionManager }

// openSCS opens scs. With an idle time it saves every session that is read, else none.
func openSCS(idle time.Duration) func(string) (store, error) {
	return func(addr string) (store, error) {
		m := scs.New()
		m.IdleTimeout = idle
		m.Store = goredisstore.New(goredisv9.NewClient(&goredisv9.Options{Addr: addr, PoolSize: poolSize}))
		return scsAPI{m}, nil
	}
}

func (s scsAPI) create(p *payload) (string, error) {
	ctx, err := s.Load(ctx, "")
	if err != nil {
		return "", err
	}
	for key, value := range p.values(0) {
		s.Put(ctx, key, value)
	}
	id, _, err := s.Commit(ctx)
	return id, err
}

func (s scsAPI) visit(ctx context.Context, id string, p *payload, n int, change bool) error {
	ctx, err := s.Load(ctx, id)
	if err != nil {
		return err
	}
	if err := p.check(s.Get(ctx, p.key), n); err != nil {
		return err
	}
	if change {
		s.Put(ctx, p.key, p.counter(n+1))
	}
	if s.Status(ctx) == scs.Modified {
		_, _, err = s.Commit(ctx)
	}
	return err
}

// gorillaAPI is a store behind gorilla/sessions. Its ids are Cookie headers.
type gorillaAPI struct{ sessions.Store }

func openRbcervilla(addr string) (store, error) {
	s, err := redisstore.NewRedisStore(ctx, goredisv9.NewClient(&goredisv9.Options{Addr: addr, PoolSize: poolSize}))
	if err != nil {
		return nil, err
	}
	s.Options(sessions.Options{Path: "/", MaxAge: life})
	return gorillaAPI{s}, nil
}

func openBoj(addr string) (store, error) {
	// Its size is the number of idle connections that are kept, not a limit. With less than there are goroutines it
	// would dial all the time.
	s, err := redistore.NewRediStore(slices.Max(goroutines), "tcp", addr, "", "", []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		return nil, err
	}
	s.SetMaxAge(life)
	s.SetMaxLength(0)
	return gorillaAPI{s}, nil
}

const cookieName = "session"

// response takes the cookies that gorilla's stores set.
type response struct {
	http.ResponseWriter
	header http.Header
}

func (r response) Header() http.Header { return r.header }

func (g gorillaAPI) create(p *payload) (string, error) {
	r := &http.Request{}
	s, err := g.Get(r, cookieName)
	if err != nil {
		return "", err
	}
	for key, value := range p.values(0) {
		s.Values[key] = value
	}
	w := response{header: http.Header{}}
	if err := s.Save(r, w); err != nil {
		return "", err
	}
	cookie, _, _ := strings.Cut(w.header.Get("Set-Cookie"), ";")
	return cookie, nil
}

func (g gorillaAPI) visit(ctx context.Context, id string, p *payload, n int, change bool) error {
	r := (&http.Request{Header: http.Header{"Cookie": {id}}}).WithContext(ctx)
	s, err := g.Get(r, cookieName)
	if err != nil {
		return err
	}
	if err := p.check(s.Values[p.key], n); err != nil {
		return err
	}
	if change {
		s.Values[p.key] = p.counter(n + 1)
	}
	return s.Save(r, response{header: http.Header{}})
}

// bareAPI is the least that any store on this client costs: the commands alone, with no codec and no session.
type bareAPI struct{ *goredisv7.Client }

func openFloor(addr string) (store, error) {
	return bareAPI{goredisv7.NewClient(&goredisv7.Options{Addr: addr, PoolSize: poolSize})}, nil
}

func (b bareAPI) create(p *payload) (string, error) {
	id := newID()
	return id, b.put(ctx, id, string(encoded(p, 0)))
}

func (b bareAPI) put(ctx context.Context, id, data string) error {
	return b.ProcessContext(ctx, goredisv7.NewStatusCmd("setex", id, life, data))
}

func (b bareAPI) visit(ctx context.Context, id string, _ *payload, _ int, change bool) error {
	get := goredisv7.NewStringCmd("get", id)
	if err := b.ProcessContext(ctx, get); err != nil || !change {
		return err
	}
	return b.put(ctx, id, get.Val())
}

// encoded is a session as both of beego's providers store it.
func encoded(p *payload, n int) []byte {
	values := map[any]any{}
	for key, value := range p.values(n) {
		values[key] = value
	}
	data, err := session.EncodeGob(values)
	if err != nil {
		panic(err)
	}
	return data
}
