// Package redis keeps the sessions of beego v2 in Redis. It is a drop-in for beego's own redis provider: the same API, the
// same configuration and the same gob stream in Redis, so that a site can switch, run both during a rollout, and switch
// back.
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
// are merged key by key, and two maps of one type under one key entry by entry, at any depth. Where two change the same
// entry, or another value, the later release wins, unless MergeKey says otherwise for the key; a change that depends on
// what others have saved is made by Update. What was deleted stays deleted, and after a Flush only what the request set
// itself remains. A value that is changed in place counts as set, if what would be stored is another. A request that
// changed nothing writes nothing, but for renewing the life time when a hundredth of it has passed. A session that was
// destroyed, regenerated or has expired is never brought back by a request that was still under way, in this process or
// another. A new session is stored even when it is empty, because beego keeps its id only then; skip_empty turns that off.
//
// # What happens when a reply is lost
//
// A command whose connection fails is sent again, and may have been executed before. So each save leaves a version behind
// the session's gob stream, which a gob decoder does not look at, with those of the seven saves before it: what is
// repeated finds out that it has been done, and what comes late does nothing. A session that is removed leaves a key
// gone:{…} for five minutes, by which a request that still has to create it learns of that. Nothing is deleted because of
// an error whose outcome is not known.
package redis

// Provider: what beego calls to find, make, move and remove sessions.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/inside"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/go-redis/redis/v7"
)

var _ session.Provider = (*Provider)(nil)

func init() {
	session.Register("redis", &Provider{})
	session.Register("redis_sentinel", &Provider{mode: client.Sentinel})
	session.Register("redis_cluster", &Provider{mode: client.Cluster})
	inside.Of = insideOf
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
	own  link // to the client of the application, where it brought one

	init     sync.Mutex // one SessionInit at a time
	backend  atomic.Pointer[backend]
	requests requests
	counters counters
	failures failures
	lifeHook lifeHook
	merges   mergeFuncs
}

// NewProvider returns a provider on a client that the application has configured itself, with its hooks, its tracing
// or its dialer. Register it with session.Register under a name of its own. Its configuration may be empty, or hold
// whatever does not say how to reach Redis, sharded, and for the retries beyond those of the client max_retries and
// outage_time. Calls through a cluster's client share no round trips, as its masters are not known. The client stays
// the application's to close.
func NewProvider(c redis.UniversalClient) *Provider {
	return &Provider{own: &goRedis{UniversalClient: c}}
}

// NewProviderOn is NewProvider for a client of another make than go-redis v7. The packages of
// github.com/beego-session/redis/adapters call it for go-redis v9 and rueidis.
func NewProviderOn(c Client) *Provider { return &Provider{own: anotherMake{c}} }

// SessionInit connects to Redis. maxlifetime is the life time of a session in seconds, where 0 is for ever. cfg is a
// comma-separated string, JSON or a URL; the README lists its keys. A later call starts from scratch, and requests
// under way finish on the earlier connections, which are closed after that; the same configuration keeps them. Where it
// fails, the provider goes on with what it had.
func (p *Provider) SessionInit(ctx context.Context, maxlifetime int64, cfg string) error {
	p.init.Lock()
	defer p.init.Unlock()
	last := p.backend.Load()
	if last != nil && last.gate.isShut() { // before this began: a Close from now on has it fail
		last = nil
	}
	if maxlifetime < 0 || maxlifetime > maxLife {
		return fmt.Errorf("session/redis: a life time of %d seconds is not possible: give 1 to %d, or 0 for ever", maxlifetime, maxLife)
	}
	parsed, warnings, err := parseConfig(p.mode, cfg)
	if err != nil {
		return err
	}
	if p.own != nil && parsed.settings.connects() {
		return errors.New("session/redis: configuration: the application brought its own client, so nothing can be configured that " +
			"says how to reach Redis, but max_retries, outage_time and sharded")
	}
	if on, ok := p.own.(*goRedis); ok {
		if err := on.unfit(); err != nil {
			return fmt.Errorf("session/redis: %w", err)
		}
	}
	for _, warning := range warnings {
		session.SLogger.Println("session/redis: " + warning)
	}
	b := &backend{config: &parsed, source: cfg, life: maxlifetime, addr: p.addr(parsed),
		requests: &p.requests, counters: &p.counters, failures: &p.failures, lifeHook: &p.lifeHook, merges: &p.merges}
	if last != nil {
		b.gate = last.gate
	} else {
		b.gate = newGate()
	}
	if last != nil && last.source == cfg {
		b.commands = last.commands
		b.commands.askAgain()
	} else {
		b.commands = connect(parsed, p.own, b.addr, b.gate, &p.counters)
	}
	if err := b.open(background(ctx)); err != nil {
		if own := b.commands.owner; own != nil && (last == nil || last.commands != b.commands) {
			own.close()
		}
		return b.fail("connect", "", explained(err))
	}
	p.hold(parsed)
	p.backend.Store(b)
	return nil
}

// maxLife keeps life times within time.Duration, which is 292 years.
const maxLife = int64(1<<63-1) / int64(time.Second)

// hold fills the exported fields.
func (p *Provider) hold(c config) {
	p.SavePath, p.Poolsize, p.Password, p.DbNum = cmp.Or(c.settings.SavePath, c.client.Addrs[0]), c.client.PoolSize, c.settings.Password, c.client.DB
	p.IdleTimeoutStr, p.IdleCheckFrequencyStr = c.client.IdleTimeout.String(), c.client.IdleCheckFrequency.String()
	p.MaxRetries = c.maxRetries
}

func (p *Provider) addr(c config) string {
	if on, ok := p.own.(*goRedis); ok {
		if one, ok := on.UniversalClient.(*redis.Client); ok {
			return one.Options().Addr
		}
	}
	if p.own != nil {
		return "the application's client"
	}
	return strings.Join(c.client.Addrs, ";")
}

// begin returns the backend of the last SessionInit that succeeded, for an operation that ends by leaving its gate.
func (p *Provider) begin() (*backend, error) {
	b := p.backend.Load()
	if b == nil {
		return nil, errors.New("session/redis: no SessionInit of this provider has succeeded yet")
	}
	if !b.gate.enter() {
		return nil, b.fail("use", "", ErrClosed)
	}
	return b, nil
}

// SessionExist tells whether there is a session with the id. A key that holds no session value, because it is of
// another Redis type, is none, and neither is a session that has reached max_age. A SessionRead of the id that follows at
// once is served by the same look at Redis. With hash_ids true, a session that still stands under its id is moved to the hash of that.
//
// It is also true of an id that a session has moved away from less than regenerate_grace before, and, with on_outage "anonymous",
// of every id while Redis cannot be reached; the error goes to OnError then. SessionRead returns an empty session that is never
// saved, in both cases.
func (p *Provider) SessionExist(ctx context.Context, sid string) (bool, error) {
	b, err := p.begin()
	if err != nil {
		return false, err
	}
	var failures untold
	defer func() { b.tellAll(ctx, failures) }() // when the gate is left
	defer b.gate.leave()
	if b.checkID(sid) != nil {
		return false, nil
	}
	found, err := b.exist(background(ctx), sid)
	switch {
	case err != nil && found:
		failures.add("look up", sid, err)
	case err != nil && !isReply(err, "WRONGTYPE"):
		return false, b.fail("look up", sid, err)
	}
	return found, nil
}

// SessionRead returns the session with the id, or a new empty one. One that has reached max_age is none, and is removed. What
// SessionExist has found less than a minute before, and SessionRead no longer finds, was removed in between: it is returned as
// an empty session that is never saved. An entry of a type that this program does not know, or knows otherwise, is kept as it is,
// and OnError is told of the type once. It is an error where what is stored is no session; that stays in Redis as it is. With
// on_undecodable "new" it is an empty session, of which OnError is told, and which replaces what is stored when it is saved.
//
// It is also an empty session that is never saved, and says nothing of that, under an id that a session has moved away from less than
// regenerate_grace before, and, with on_outage "anonymous", under every id while Redis cannot be reached. SessionRegenerate and
// SessionDestroy fail then as always.
//
// With hash_ids true it does not look under the id itself, because beego calls it with ids that it has just drawn, which nobody
// who watches the server may see: a session that still stands there is found once SessionExist has been asked, as beego does of the
// id in a cookie.
func (p *Provider) SessionRead(ctx context.Context, sid string) (session.Store, error) {
	b, err := p.begin()
	if err != nil {
		return nil, err
	}
	var failures untold
	defer func() { b.tellAll(ctx, failures) }() // when the gate is left
	defer b.gate.leave()
	if err := b.checkID(sid); err != nil {
		return nil, b.fail("read", sid, err)
	}
	found, removed, err := b.read(background(ctx), sid)
	switch {
	case err != nil && !found.passing:
		return nil, b.fail("read", sid, err)
	case err != nil:
		failures.add("read", sid, err)
		return b.passingStore(sid), nil
	case found.passing:
		b.counters.absent.Add(1)
		return b.passingStore(sid), nil
	}
	values, err := b.decodeTelling(b.key(found.name), sid, found.value, &failures)
	if err != nil {
		return nil, b.fail("read", sid, err)
	}
	if found.present {
		b.counters.found.Add(1)
		b.counters.bytesRead.Add(uint64(len(found.value)))
	} else {
		b.counters.absent.Add(1)
	}
	if found.value.OwnLife() != 0 {
		b.requests.ownLives.Store(true)
	}
	return &SessionStore{backend: b, sid: sid, firstName: found.name, values: values, base: found.stored, gone: removed}, nil
}

// SessionRegenerate moves a session to a new id with a full life time, and returns it: in one step, or in a cluster by a
// copy that is there before the old one is removed. Its age stays (see SessionStore.ResetAge). Where there is no session with
// the old id, or it has reached max_age, it makes an empty one, also over a session that the new id has. On an error the
// session is under its old id, unless the error says that it may not be. It does not heed the cancellation of ctx.
func (p *Provider) SessionRegenerate(ctx context.Context, oldsid, sid string) (session.Store, error) {
	asked, refused := p.lifeHook.ask(ctx)
	b, err := p.begin()
	if err != nil {
		return nil, err
	}
	var failures untold
	if refused != nil {
		failures.add(askLife, oldsid, refused)
	}
	defer func() { b.tellAll(ctx, failures) }() // when the gate is left
	defer b.gate.leave()
	if err := b.checkID(sid); err != nil {
		return nil, b.fail("regenerate to", sid, err)
	}
	store := &SessionStore{backend: b, sid: sid}
	err = b.exclusively(ctx, oldsid, func(ctx context.Context) (err error) {
		store.firstName, store.base, store.values, err = b.regenerateID(ctx, oldsid, sid, b.lives(asked), &failures)
		return err
	})
	if err != nil {
		return nil, b.fail("regenerate", oldsid, err)
	}
	b.counters.regenerated.Add(1)
	return store, nil
}

// SessionDestroy removes a session; there need be none. With hash_ids it also takes what Sessions and SessionsOf return in the
// place of an id. It does not heed the cancellation of ctx.
func (p *Provider) SessionDestroy(ctx context.Context, sid string) error {
	b, err := p.begin()
	if err != nil {
		return err
	}
	defer b.gate.leave()
	if b.checkName(sid) != nil {
		return nil
	}
	if err := b.destroy(ctx, sid); err != nil {
		return b.fail("destroy", sid, err)
	}
	return nil
}

// Check tells whether sessions can be read and saved now: it writes, reads and removes a key of its own, in a cluster on each
// master. (With a cluster's client of the application it does so on one, and asks the others whether they answer.) It fits beego's
// admin.AddHealthCheck. Like any operation it is repeated when a server begins not to serve: it takes up to outage_time then, and
// a time limit where the server hangs; of one that is known not to serve it tells at once, or after max_retries where it answers
// and takes no writes.
func (p *Provider) Check() error {
	b, err := p.begin()
	if err != nil {
		return err
	}
	defer b.gate.leave()
	if err := b.commands.check(context.Background()); err != nil {
		return b.fail("check", "", err)
	}
	return nil
}

// SessionGC has nothing to do: Redis expires sessions by itself.
func (p *Provider) SessionGC(context.Context) {}
