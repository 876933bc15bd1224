// backend: what one SessionInit has set up, on which a Provider and its stores stand.

package redis

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/inside"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego-session/redis/internal/underway"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/go-redis/redis/v7"
)

// backend is what one SessionInit has set up. Sessions that began on it end on it.
type backend struct {
	*config
	source   string // the configuration as it was given
	life     int64  // of a session, in seconds; 0 is for ever
	addr     string // of the servers, for messages
	commands *commands
	gate     *gate
	requests *requests
	counters *counters
	failures *failures
	lifeHook *lifeHook
	merges   *mergeFuncs
	noUser   sync.Once // that a value under user_key is none was said
}

// requests is what a process knows of the requests under way in it. It outlives a SessionInit, as they do.
type requests struct {
	saving   underway.Locks
	merging  underway.Locks
	looks    underway.Looks[looked]
	ownLives atomic.Bool // a session was met that has a life time of its own
}

// looked is a session as it was found, and where.
type looked struct {
	stored
	name    string // under which it stands
	passing bool   // it is not there, and its request has an empty one
	at      *commands
}

// connect makes the commands of a configuration, on a client of the application if it has one. Its own client is closed
// when the last provider and the last session that use it are gone, so that a request under way never finds it closed.
func connect(c config, given link, addr string, gate *gate, counted *counters) *commands {
	r := &roundTrips{
		link: given, maxRetries: c.maxRetries, minBackoff: c.minBackoff, maxBackoff: c.maxBackoff,
		outageTime: c.outageTime, timeLimit: c.operationTime(), retries: &counted.retries, gate: gate,
	}
	if given == nil {
		var once sync.Once
		c.client.NoPassword = func(server string) {
			once.Do(func() {
				session.SLogger.Printf("session/redis: the server at %s has no password, but the configuration has one: it is not "+
					"needed, or this is not the server that was meant", server)
			})
		}
		r.own = client.New(c.client)
		r.link = &goRedis{UniversalClient: r.own}
		r.owner = &owner{r.own, gate}
		runtime.SetFinalizer(r.owner, func(o *owner) { go o.close() })
		gate.own(r.own, r.timeLimit)
	} else {
		gate.own(nil, r.timeLimit)
	}
	r.onRefusal = func(err error) {
		session.SLogger.Printf("session/redis: the server at %s refuses scripts (%v): unless it has SET … IFEQ (Valkey 8.1, Redis 8.4), "+
			"sessions are saved by plain SET, which can lose an update of a request that saves at the very same time", addr, err)
	}
	// No command is under way for longer than its time limit, and the server may have it for as long again.
	return &commands{roundTrips: r, addr: addr, prefix: c.keyPrefix, tombstoneLife: max(minTombstoneLife, int64(3*c.operationTime()/time.Second)),
		graceLife: int64(c.regenerateGrace / time.Second)}
}

// owner closes the client when its roundTrips are gone. It is an object of its own because roundTrips and their lanes hold
// each other, and what is in a cycle is never finalized.
type owner struct {
	client redis.UniversalClient
	gate   *gate
}

func (o *owner) close() { o.gate.disown(o.client) }

// open finds out whether sessions can be kept, and how.
func (b *backend) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{b.commands.ready, b.survey, b.checkIndex} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if b.gate.isShut() { // meanwhile
		return ErrClosed
	}
	return nil
}

// survey finds out which keys may be used together, where the configuration does not say it.
func (b *backend) survey(ctx context.Context) error {
	one := b.sharded != nil && !*b.sharded
	if one || b.client.Mode != client.Standalone || b.commands.link.clustered() {
		return nil
	}
	if err := b.commands.survey(ctx); err != nil {
		return err
	}
	if b.sharded != nil {
		b.commands.sharded.Store(true)
	}
	if b.commands.apart.Load() {
		b.log(fmt.Errorf("session/redis: the proxy at %s does not keep keys with the same {tag} together (in twemproxy: hash_tag: \"{}\"): "+
			"a request that is under way when its session is logged out can bring it back, and a regenerate whose reply is lost fails", b.addr))
	}
	return nil
}

// exist looks whether there is a session, for the read that follows as well. True with an error means that the request goes on
// as if there were one, and that the error is still to be told.
func (b *backend) exist(ctx context.Context, sid string) (bool, error) {
	name := b.name(sid)
	look, begun := b.requests.looks.Begin(name), time.Now()
	defer look.Failed() // also where a hook of the application panics
	found, stands, err := b.find(ctx, sid, name, false, true)
	if b.agedOut(found.value) {
		found = stored{}
	}
	passing := false
	if err == nil && !found.present {
		passing, err = b.inGrace(ctx, sid, name)
	}
	b.counters.load.since(begun)
	switch {
	case err != nil && b.overlooks(ctx, err):
		look.Assume()
		return true, err
	case err != nil:
	case passing:
		look.Offer(looked{passing: true, at: b.commands}, 0)
		return true, nil
	case found.present:
		look.Offer(looked{stored: found, name: stands, at: b.commands}, len(found.value))
	default:
		look.Answered()
	}
	return found.present, err
}

// read returns a session, and the name under which it stands or is to be created. removed tells that it was removed since exist
// has found it. What exist said was there without having found it becomes no new session: nobody knows whose id it is. An error
// beside a passing session is still to be told.
func (b *backend) read(ctx context.Context, sid string) (found looked, removed bool, err error) {
	name := b.name(sid)
	last, offered, said := b.requests.looks.Take(name)
	if offered && said == underway.Assumed {
		return looked{passing: true}, false, nil
	}
	if offered && last.at == b.commands && (last.expires.IsZero() || time.Now().Before(last.expires)) {
		return last, false, nil
	}
	look, begun := b.requests.looks.Begin(name), time.Now()
	defer look.Failed()
	known := said != underway.Nothing
	grace := b.askGrace(sid, name, known)
	found.stored, found.name, err = b.find(ctx, sid, name, true, known, grace...)
	b.counters.load.since(begun)
	if err != nil {
		return looked{passing: b.overlooks(ctx, err)}, false, err
	}
	look.Answered()
	if b.agedOut(found.value) {
		if found.stored, err = b.end(ctx, found.name, found.stored); err != nil {
			return looked{passing: b.overlooks(ctx, err)}, false, err
		}
	}
	if !found.present {
		found.passing, removed = said == underway.Assumed || answered(grace), said == underway.Found
	}
	return found, removed, nil
}

// regenerate moves a session from one name to another and decodes it.
func (b *backend) regenerate(ctx context.Context, old, name string, l lives, failures *untold) (found stored, values map[any]any, err error) {
	defer b.requests.looks.Changed(b.name(name))
	var user string
	var before record.Value // when it was entered in the index
	if b.checkName(old) != nil {
		found, err = b.commands.reserve(ctx, b.key(name), l)
	} else if user, before, err = b.listStored(ctx, old, l, name); err == nil {
		found, err = b.commands.regenerate(ctx, b.key(old), b.key(name), l, b.rebinding(b.key(old), b.key(name)))
	}
	if err == nil {
		found, err = b.settleMoved(ctx, name, found, l, failures)
	}
	if err != nil {
		return stored{}, nil, err
	}
	if values, err = b.decodeTelling(b.key(name), name, found.value, failures); err != nil {
		// The caller cannot use the session under its new id: it goes back to where somebody may.
		err = errors.Join(err, b.giveBack(ctx, old, name, found.value, l))
	} else if now := b.userOf(values); now != user || l.of(found.value) > l.of(before) { // by another request, right before the move
		if err := b.list(ctx, now, l.of(found.value), name); err != nil {
			failures.add("regenerate", name, err)
		}
	}
	return found, values, err
}

// giveBack undoes a regenerate that was done.
func (b *backend) giveBack(ctx context.Context, old, name string, moved record.Value, l lives) (err error) {
	if rebind := b.rebinding(b.key(name), b.key(old)); rebind != nil {
		if moved, err = rebind(moved); err != nil {
			return err
		}
	}
	return b.commands.giveBack(ctx, b.key(old), b.key(name), moved, l)
}

// destroy removes a session.
func (b *backend) destroy(ctx context.Context, sid string) error {
	err := b.exclusively(ctx, sid, func(ctx context.Context) error { return b.remove(ctx, sid) })
	if err == nil {
		b.counters.destroyed.Add(1)
	}
	return err
}

// exclusively runs f, which saves or removes the session, while nobody else in this process does. All of it, with the
// wait for others, keeps to one time limit, and does not heed the cancellation of ctx.
func (b *backend) exclusively(ctx context.Context, sid string, f func(context.Context) error) error {
	return b.exclusivelyUntil(ctx, sid, time.Now().Add(b.commands.timeLimit), f)
}

// exclusivelyUntil is exclusively for one step of an operation of several.
func (b *backend) exclusivelyUntil(ctx context.Context, sid string, deadline time.Time, f func(context.Context) error) error {
	name := b.name(sid)
	if !b.requests.saving.Lock(name, deadline) {
		return fmt.Errorf("other requests of the session were at it for more than %v: %w", b.commands.timeLimit, context.DeadlineExceeded)
	}
	defer b.requests.saving.Unlock(name)
	defer b.requests.looks.Changed(name)
	return f(limit(detached(ctx), deadline))
}

// key is where a session stands that has a name, which is its id or the hash of that.
func (b *backend) key(name string) string { return b.keyPrefix + name }

// sessionID is the inverse of key, and tells whether it is a key of a session.
func (b *backend) sessionID(key string) (name string, ok bool) {
	name, ok = strings.CutPrefix(key, b.keyPrefix)
	return name, ok && b.checkName(name) == nil
}

// maxIDLength is how long a session id may be, in bytes. beego's own have 32 hexadecimal digits, and a prefix.
const maxIDLength = 512

// checkID refuses what cannot be a session id. Ids come from the network: beego takes a cookie's value as it is.
func (b *backend) checkID(sid string) error {
	refused := func(why string) error { return also{ErrRefusedID, errors.New(why)} }
	switch {
	case sid == "" || len(sid) > maxIDLength:
		return refused(fmt.Sprintf("a session id of %d bytes is not possible: 1 to %d are", len(sid), maxIDLength))
	case strings.ContainsFunc(sid, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return refused("a session id cannot hold spaces or control characters")
	case auxiliary(sid):
		return refused("a session id cannot begin like the keys that this package has beside the sessions")
	case strings.HasPrefix(sid, hashedNames):
		return refused("a session id cannot begin like the hash of one")
	case b.commands.link.clustered() && strings.ContainsAny(sid, "{}") && !strings.Contains(b.keyPrefix, "{"):
		return refused("in a cluster a session id cannot hold braces, which would choose its slot")
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
	if hashedName(sid) { // which is no credential
		return fmt.Sprintf("%.13q…", sid)
	}
	if len(sid) <= 6 {
		return "…"
	}
	return fmt.Sprintf("%.6q…", sid)
}

func (b *backend) log(err error) { session.SLogger.Println(err) }

// encode encodes a session to be stored under a key, as record.Encode does.
func (b *backend) encode(key string, values map[any]any, before record.Value, m record.Meta, v record.Version) (record.Value, error) {
	value, err := record.Encode(values, before, m, v)
	if err != nil || b.keys == nil {
		return value, err
	}
	return b.seal(key, value)
}

// insideOf is inside.Of.
func insideOf(provider any) (inside.Inside, error) {
	p, ok := provider.(*Provider)
	if !ok {
		return inside.Inside{}, fmt.Errorf("a %T is no Provider of this package", provider)
	}
	b, err := p.begin()
	if err != nil {
		return inside.Inside{}, err
	}
	defer b.gate.leave()
	on, ok := b.commands.link.(*goRedis)
	if !ok {
		return inside.Inside{}, errors.New("the sessions are behind a client of another make than go-redis v7")
	}
	return inside.Inside{
		Client: on.UniversalClient, Options: b.client, Addr: b.addr, Prefix: b.keyPrefix, Life: time.Duration(b.life) * time.Second, UserKey: b.userKey,
		Masters: b.mastersInside, Spread: b.commands.spread, Beside: b.commands.beside, SessionID: b.sessionID, Look: b.lookInside,
	}, nil
}

// mastersInside is the masters of a link to go-redis, for Inside.
func (b *backend) mastersInside() (all []inside.Master, err error) {
	found, err := b.commands.link.masters(context.Background(), b.addr)
	for _, m := range found {
		all = append(all, inside.Master{Addr: m.addr, Node: m.link.(*goRedis)})
	}
	return all, err
}

// lookInside is inspect, for Inside.
func (b *backend) lookInside(ctx context.Context, sids []string) ([]inside.Stored, error) {
	found, _, err := b.inspect(background(ctx), sids)
	if err != nil {
		return nil, b.fail("look at sessions", "", err)
	}
	all := make([]inside.Stored, len(found))
	for i, s := range found {
		all[i] = inside.Stored{Value: s.value, Bytes: len(s.value), Present: s.present, Expires: s.expires}
		if value, err := b.unseal(b.key(sids[i]), s.value); err == nil {
			all[i].Value = value
		} else {
			all[i].Sealed = err
		}
	}
	return all, nil
}
