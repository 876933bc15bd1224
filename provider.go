// Provider: what beego calls to find, make, move and remove sessions.

package redis

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

// Provider keeps beego's sessions in Redis. Beego has it as web.GlobalSessions.GetProvider().(*redis.Provider) once it has started;
// a zero Provider is for one server. [Provider.SessionInit] configures it. Its fields then hold what was configured, under the
// names that they have in beego's own provider; changing them has no effect.
//
// Its methods may be called concurrently, and take a nil context for [context.Background]. Their errors name the operation and the
// server, hold no secret, and are told apart as the section on errors says. Those that ask Redis return ErrUnreachable if it does
// not answer in time, and after Close ErrClosed; what else they return is said at each.
type Provider struct {
	SavePath              string `json:"save_path"`            // addresses, separated by semicolons
	Poolsize              int    `json:"poolsize"`             // connections to each server
	Password              string `json:"password"`             // as it stands in the configuration; that of a file or the environment is not here
	DbNum                 int    `json:"db_num"`               // database
	IdleTimeoutStr        string `json:"idle_timeout"`         // like "5m0s"
	IdleCheckFrequencyStr string `json:"idle_check_frequency"` // like "1m0s"
	MaxRetries            int    `json:"max_retries"`          // repeats of a command; 0 is none

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

// NewProvider returns a provider on a go-redis v7 client that the application has configured itself, with its hooks, its tracing or
// its dialer: a client of one server, under Sentinels or of a cluster. Register it with [session.Register] under a name of its own,
// which is then the SessionProvider in app.conf. Its configuration may be empty, and may hold all keys but those that say how to reach
// Redis; max_retries and outage_time are for repeats by the provider, so that the client should make none itself, and the sum of
// dial_timeout, read_timeout and write_timeout bounds an operation, while the time limits of one attempt are the client's. In a cluster,
// concurrent calls share no round trips, because the masters are not known. The client stays the application's to close.
//
// SessionInit refuses a Ring, a client that reads from replicas, and a ClusterClient on Redis 7 and later, which go-redis v7 cannot read:
// use the provider redis_cluster there, or [NewProviderOn].
func NewProvider(c redis.UniversalClient) *Provider {
	return &Provider{own: &goRedis{UniversalClient: c}}
}

// NewProviderOn is NewProvider for a client of another make than go-redis v7. The packages goredis and rueidis of
// github.com/beego-session/redis/adapters call it for go-redis v9 and rueidis. Stats have no pool then.
func NewProviderOn(c Client) *Provider { return &Provider{own: anotherMake{c}} }

// SessionInit configures the provider and connects it to Redis. Beego calls it when it starts, and panics with its error.
// maxlifetime is the life time of a session in seconds; 0 is for ever. cfg is a comma-separated string, a URL or JSON; the README
// lists its keys. The empty string is localhost:6379.
//
// A configuration that cannot be is an error that names its key; what is unknown or ignored is a line in the log. Neither shows
// what may be a password. ErrUnreachable after outage_time, if no server is there, or the time limit, if it hangs, may be tried
// again; for a server that loads its data it waits for a minute. After an error the provider goes on with what it had.
//
// A later call starts from scratch. Requests under way finish on the earlier connections, which are closed after that; the same
// configuration again keeps them.
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
			"says how to reach Redis, but max_retries, outage_time, sharded and the time limits")
	}
	if err := unfit(p.own); err != nil {
		return fmt.Errorf("session/redis: %w", err)
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

// SessionExist tells whether there is a session with the id. It always looks; a SessionRead of the id that follows within 20 ms is
// served by the same look. What is of another Redis type is no session, and neither is one that has reached max_age. What cannot be
// an id has none. With hash_ids true, a session that still stands under its id is moved to the hash of that.
//
// It also returns true for an id that a session has moved away from less than regenerate_grace before and, with on_outage
// "anonymous", for every id while Redis cannot be reached, of which OnError is told. In both cases SessionRead returns an empty
// session that is never saved.
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

// SessionRead returns the session with the id, a *[SessionStore], or a new empty one, which is created by its release. One that has
// reached max_age is none, and is removed. A session that SessionExist has found less than a minute before, and that is no longer
// there, was removed in between: it is returned as an empty one that is never saved.
//
// It is an ErrUndecodable if what is stored is no session or cannot be decrypted, and stays in Redis as it is. With on_undecodable
// "new", what is no session at all is an empty session, of which OnError is told, and which replaces what is stored when it is
// saved. A single entry of a type that this program does not know, or knows otherwise, is no error: it is kept as it is, Get of it
// returns nil, and OnError is told of the type once. An id that cannot be is an ErrRefusedID.
//
// An id that a session has moved away from less than regenerate_grace before and, with on_outage "anonymous", every id while Redis
// cannot be reached, has an empty session that is never saved. SessionRegenerate and SessionDestroy fail then as always.
//
// With hash_ids true it does not look under the id itself, because beego calls it with ids that it has just drawn, which nobody who
// watches the server may see. A session that still stands there is found once SessionExist has been asked, as beego asks it of the
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

// SessionRegenerate moves a session to a new id with a full life time, and returns it: in one step, or in a cluster by a copy that
// is there before the old one is removed. Its age stays (see [SessionStore.ResetAge]). If there is no session with the old id, or
// it has reached max_age, it makes an empty one under the new id, also in the place of a session that is there.
//
// After an error there is no session to go on with, and the controller that has called beego's SessionRegenerateID has none: end
// the request, with 503 for ErrUnreachable. The session is still under its old id, unless the error says that it may not be.
// ErrUndecodable and ErrRefusedID are as in SessionRead. It does not heed the cancellation of ctx.
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

// SessionDestroy removes a session; there need be none. No request that is still under way brings it back. With hash_ids it also
// takes what Sessions and SessionsOf return in the place of an id. It does not heed the cancellation of ctx. Beego's DestroySession
// and Manager.SessionDestroy drop its error: where a log-out has to be certain, call it yourself before them.
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
// master. (On a cluster's client of the application it does so on one master, and asks the others whether they answer.) It fits
// beego's admin.AddHealthCheck.
//
// Its error is ErrUnreachable or ErrClosed, or another if the server refuses to save. Like any operation it is repeated when a
// server begins not to serve: it takes up to outage_time then, and the time limit if the server hangs. Of a server that is known
// not to serve it tells at once, or after max_retries if it answers and takes no writes.
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

// SessionGC does nothing: Redis expires sessions by itself.
func (p *Provider) SessionGC(context.Context) {}
