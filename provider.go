// Package redis keeps the sessions of beego v2 in Redis. It is a drop-in for beego's own redis provider: the same API, the
// same configuration and the same bytes in Redis, so that a site can switch, run both during a rollout, and switch back.
//
//	import _ "github.com/beego-session/redis"
//
//	SessionProvider = redis
//	SessionProviderConfig = 127.0.0.1:6379,100,password
//
// # What a request saves
//
// A request works on a copy of its session. SessionRelease brings what the request changed into the session as it then
// stands in Redis, in one atomic step. Requests of one session that run at the same time lose nothing of each other: they
// are merged key by key. Where two change the same key, the later release wins. A deleted key stays deleted, and after a
// Flush only what the request set itself remains. A value that is changed in place counts as set. A request that changed
// nothing writes nothing, but for renewing the life time when a hundredth of it has passed. A session that was destroyed,
// regenerated or has expired is never brought back by a request that was still under way. A new session is stored even
// when it is empty, because beego keeps its id only then; skip_empty turns that off.
package redis

// Provider: what beego calls to find, make, move and remove sessions.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/coalesce"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/go-redis/redis/v7"
)

var _ session.Provider = (*Provider)(nil)

func init() {
	session.Register("redis", &Provider{})
	session.Register("redis_sentinel", &Provider{mode: client.Sentinel})
	session.Register("redis_cluster", &Provider{mode: client.Cluster})
}

// Provider keeps beego's sessions in Redis. SessionInit configures it; its fields then hold what was configured, under
// the names they have in beego's own provider, and changing them has no effect. Its methods may be called at the same
// time, and take a nil context for context.Background. Their errors name the operation and the server, and no secret.
type Provider struct {
	SavePath              string `json:"save_path"`
	Poolsize              int    `json:"poolsize"`
	Password              string `json:"password"`
	DbNum                 int    `json:"db_num"`
	IdleTimeoutStr        string `json:"idle_timeout"`
	IdleCheckFrequencyStr string `json:"idle_check_frequency"`
	MaxRetries            int    `json:"max_retries"`

	mode client.Mode
	own  redis.UniversalClient // the application's, where it brought one

	init    sync.Mutex // one SessionInit at a time
	backend atomic.Pointer[backend]
}

// NewProvider returns a provider on a client that the application has configured itself, with its hooks, its tracing
// or its dialer. Register it with session.Register under a name of its own. Its configuration may be empty, or hold
// key_prefix, skip_empty, touch_interval, and max_retries for the retries beyond those of the client. The client stays
// the application's to close.
func NewProvider(c redis.UniversalClient) *Provider { return &Provider{own: c} }

// backend is what one SessionInit has set up.
type backend struct {
	*config
	source   string // the configuration as it was given
	life     int64  // of a session, in seconds; 0 is for ever
	addr     string // of the servers, for messages
	commands *commands
	locks    *idLocks
	removed  *removals
	handoff  *handoff
}

// SessionInit connects to Redis. maxlifetime is the life time of a session in seconds, where 0 is for ever. cfg is a
// comma-separated string, JSON or a URL; the README lists its keys. A later call starts from scratch, and requests
// under way finish on the earlier connections, which are closed after that; the same configuration keeps them. Where it
// fails, the provider goes on with what it had.
func (p *Provider) SessionInit(ctx context.Context, maxlifetime int64, cfg string) error {
	p.init.Lock()
	defer p.init.Unlock()
	if maxlifetime < 0 || maxlifetime > maxLife {
		return fmt.Errorf("session/redis: a life time of %d seconds is not possible: give 1 to %d, or 0 for ever", maxlifetime, maxLife)
	}
	parsed, warnings, err := parseConfig(p.mode, cfg)
	if err != nil {
		return err
	}
	if p.own != nil && parsed.written.connects() {
		return errors.New("session/redis: configuration: the application brought its own client, so only key_prefix, " +
			"skip_empty, touch_interval and max_retries can be configured")
	}
	for _, warning := range warnings {
		session.SLogger.Println("session/redis: " + warning)
	}
	p.hold(parsed)

	b := &backend{config: &parsed, source: cfg, life: maxlifetime, addr: p.addr(parsed)}
	if parsed.touchInterval == defaultTouchInterval {
		parsed.touchInterval = time.Duration(maxlifetime) * time.Second / 100
	}
	if last := p.backend.Load(); last != nil && last.source == cfg {
		b.commands, b.locks, b.removed, b.handoff = last.commands, last.locks, last.removed, last.handoff
	} else {
		b.commands, b.locks, b.removed, b.handoff = p.connect(parsed), newIDLocks(), newRemovals(), newHandoff()
	}
	if err := b.commands.ping(background(ctx)); err != nil {
		return b.wrap("connect", "", err)
	}
	p.backend.Store(b)
	return nil
}

// maxLife keeps life times within time.Duration, which is 292 years.
const maxLife = int64(1<<63-1) / int64(time.Second)

// hold fills the exported fields.
func (p *Provider) hold(c config) {
	p.SavePath, p.Poolsize, p.Password, p.DbNum = cmp.Or(c.written.SavePath, c.client.Addrs[0]), c.client.PoolSize, c.written.Password, c.client.DB
	p.IdleTimeoutStr, p.IdleCheckFrequencyStr = c.client.IdleTimeout.String(), c.client.IdleCheckFrequency.String()
	p.MaxRetries = c.maxRetries
}

// connect makes the commands of a configuration. Its client is closed when the last provider and the last session that
// use it are gone, so that a request under way never finds it closed.
func (p *Provider) connect(c config) *commands {
	r := &roundTrips{client: p.own, maxRetries: c.maxRetries, minBackoff: c.minBackoff, maxBackoff: c.maxBackoff, limit: c.limit()}
	r.lanes = coalesce.New(r.send, coalesce.Limits{})
	if p.own == nil {
		r.client = client.New(c.client)
		runtime.AddCleanup(r, func(cl redis.UniversalClient) { _ = cl.Close() }, r.client)
	}
	addr := p.addr(c)
	r.onRefusal = func(err error) {
		session.SLogger.Printf("session/redis: the server at %s refuses scripts (%v): sessions are saved by plain SET, "+
			"which can lose an update of a request that saves at the very same time", addr, err)
	}
	return &commands{roundTrips: r, prefix: c.keyPrefix}
}

func (p *Provider) addr(c config) string {
	if cl, ok := p.own.(*redis.Client); ok {
		return cl.Options().Addr
	} else if p.own != nil {
		return "the application's client"
	}
	return strings.Join(c.client.Addrs, ";")
}

// ready returns the backend of the last SessionInit that succeeded.
func (p *Provider) ready() (*backend, error) {
	if b := p.backend.Load(); b != nil {
		return b, nil
	}
	return nil, errors.New("session/redis: no SessionInit of this provider has succeeded yet")
}

// SessionExist tells whether there is a session with the id. A key that holds no session value, because it is of
// another Redis type, is none. A SessionRead of the id that follows at once is served by the same look at Redis.
func (p *Provider) SessionExist(ctx context.Context, sid string) (bool, error) {
	b, err := p.ready()
	if err != nil || b.checkID(sid) != nil {
		return false, err
	}
	changes := b.handoff.changes(sid)
	found, err := b.commands.read(background(ctx), b.key(sid))
	if err != nil {
		if isReply(err, "WRONGTYPE") {
			return false, nil
		}
		return false, b.wrap("look up", sid, err)
	}
	if found.present {
		b.handoff.offer(sid, found, changes)
	}
	return found.present, nil
}

// SessionRead returns the session with the id, or a new empty one. It is an error where what is stored does not decode;
// that stays in Redis as it is.
func (p *Provider) SessionRead(ctx context.Context, sid string) (session.Store, error) {
	b, err := p.ready()
	if err != nil {
		return nil, err
	}
	if err := b.checkID(sid); err != nil {
		return nil, b.wrap("read", sid, err)
	}
	moment := b.removed.now()
	found, handed := b.handoff.take(sid)
	if !handed {
		found, err = b.commands.read(background(ctx), b.key(sid))
	}
	if err != nil {
		return nil, b.wrap("read", sid, err)
	}
	store, err := b.store(sid, found)
	if err != nil {
		return nil, b.wrap("read", sid, err)
	}
	store.moment = moment
	return store, nil
}

// SessionRegenerate moves a session to a new id with a full life time, in one step, and returns it. Where there is no
// session with the old id it makes an empty one. On an error the session stays where it was. It does not heed the
// cancellation of ctx.
func (p *Provider) SessionRegenerate(ctx context.Context, oldsid, sid string) (session.Store, error) {
	b, err := p.ready()
	if err != nil {
		return nil, err
	}
	if err := b.checkID(sid); err != nil {
		return nil, b.wrap("regenerate to", sid, err)
	}
	var store *SessionStore
	err = b.exclusively(oldsid, func() (err error) {
		store, err = b.regenerate(detached(ctx), oldsid, sid)
		return err
	})
	if err != nil {
		return nil, b.wrap("regenerate", oldsid, err)
	}
	return store, nil
}

// SessionDestroy removes a session; there need be none. It does not heed the cancellation of ctx.
func (p *Provider) SessionDestroy(ctx context.Context, sid string) error {
	b, err := p.ready()
	if err != nil || b.checkID(sid) != nil {
		return err
	}
	err = b.exclusively(sid, func() error {
		b.removed.add(sid)
		return b.commands.remove(detached(ctx), b.key(sid))
	})
	if err != nil {
		return b.wrap("destroy", sid, err)
	}
	return nil
}

// SessionAll counts the sessions, on all masters of a cluster. With a key_prefix it scans the keys, which takes time in
// proportion to their number; without one it counts every key of the database. An error is logged, and counts as 0.
func (p *Provider) SessionAll(ctx context.Context) int {
	b, err := p.ready()
	if err == nil {
		var n int
		if n, err = b.commands.count(background(ctx)); err == nil {
			return n
		}
		err = b.wrap("count", "", err)
	}
	session.SLogger.Println(err)
	return 0
}

// SessionGC has nothing to do: Redis expires sessions by itself.
func (p *Provider) SessionGC(context.Context) {}

// store decodes a session. The error says what to do about it.
func (b *backend) store(sid string, found stored) (*SessionStore, error) {
	values, err := decode(found.data)
	if err != nil {
		return nil, explain(err)
	}
	return &SessionStore{backend: b, sid: sid, values: values, base: found}, nil
}

// explain says what to do about a value that does not decode.
func explain(err error) error {
	_, name, unregistered := strings.Cut(err.Error(), "name not registered for interface: ")
	if !unregistered {
		return fmt.Errorf("the value in Redis is no session, or a damaged one: %w", err)
	}
	name = strings.Trim(name, `"`)
	return fmt.Errorf("the session holds a %s, a type that this program has not registered: "+
		"call gob.Register(%s{}) when it starts: %w", name, name, err)
}

// regenerate moves a session. The caller holds the lock of the old id.
func (b *backend) regenerate(ctx context.Context, oldsid, sid string) (*SessionStore, error) {
	if b.checkID(oldsid) != nil {
		placeholder, err := b.commands.put(ctx, b.key(sid), "", b.life)
		return &SessionStore{backend: b, sid: sid, values: make(map[any]any), base: placeholder}, err
	}
	found, err := b.commands.regenerate(ctx, b.key(oldsid), b.key(sid), b.life)
	if err != nil {
		return nil, err
	}
	if oldsid != sid {
		b.removed.add(oldsid)
	}
	store, err := b.store(sid, found)
	if err != nil {
		// The caller cannot use the session under its new id: it goes back to where somebody may.
		_, undone := b.commands.regenerate(ctx, b.key(sid), b.key(oldsid), b.life)
		return nil, errors.Join(err, undone)
	}
	return store, nil
}

// exclusively runs f, which saves or removes the session, while nobody else in this process does.
func (b *backend) exclusively(sid string, f func() error) error {
	if !b.locks.lock(sid, b.commands.limit) {
		return fmt.Errorf("other requests of the session were at it for more than %v", b.commands.limit)
	}
	defer b.locks.unlock(sid)
	defer b.handoff.forget(sid)
	return f()
}

func (b *backend) key(sid string) string { return b.keyPrefix + sid }

// maxIDLength is how long a session id may be, in bytes. beego's own have 32 hexadecimal digits, and a prefix.
const maxIDLength = 512

// checkID refuses what cannot be a session id. Ids come from the network: beego takes a cookie's value as it is.
func (b *backend) checkID(sid string) error {
	switch {
	case sid == "" || len(sid) > maxIDLength:
		return fmt.Errorf("a session id of %d bytes is not possible: 1 to %d are", len(sid), maxIDLength)
	case strings.ContainsFunc(sid, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("a session id cannot hold spaces or control characters")
	case b.commands.cluster() != nil && strings.Contains(sid, "{") && !strings.Contains(b.keyPrefix, "{"):
		return errors.New("in a cluster a session id cannot hold braces, which would choose its slot")
	}
	return nil
}

// wrap says what was tried on which session, and where. Ids are credentials: it shows six characters at most.
func (b *backend) wrap(operation, sid string, err error) error {
	if sid != "" {
		operation += " session " + abridged(sid)
	}
	return fmt.Errorf("session/redis: %s at %s: %w", operation, b.addr, err)
}

func abridged(sid string) string {
	if len(sid) <= 6 {
		return "…"
	}
	return fmt.Sprintf("%.6q…", sid)
}

func (b *backend) log(err error) { session.SLogger.Println(err) }

// background is ctx, or context.Background for nil: beego passes nil to many methods.
func background(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// detached keeps the values of ctx and drops its cancellation: since v2.3.10 beego passes the request's context to
// SessionRelease, and a client that hung up must not lose its session.
func detached(ctx context.Context) context.Context { return context.WithoutCancel(background(ctx)) }
