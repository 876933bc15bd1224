// backend: what one SessionInit has set up, on which a Provider and its stores stand.

package redis

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
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
	noUser   sync.Once // that a value under user_key is none was said
}

// requests is what a process knows of the requests under way in it. It outlives a SessionInit, as they do.
type requests struct {
	saving underway.Locks
	looks  underway.Looks[looked]
}

// looked is a session as it was found, and where.
type looked struct {
	stored
	at *commands
}

// connect makes the commands of a configuration, on a client of the application if it has one. Its own client is closed
// when the last provider and the last session that use it are gone, so that a request under way never finds it closed.
func connect(c config, own redis.UniversalClient, addr string, gate *gate, counted *counters) *commands {
	r := &roundTrips{
		client: own, maxRetries: c.maxRetries, minBackoff: c.minBackoff, maxBackoff: c.maxBackoff,
		outageTime: c.outageTime, timeLimit: c.operationTime(), retries: &counted.retries, gate: gate,
	}
	if own == nil {
		var once sync.Once
		c.client.NoPassword = func(server string) {
			once.Do(func() {
				session.SLogger.Printf("session/redis: the server at %s has no password, but the configuration has one: it is not "+
					"needed, or this is not the server that was meant", server)
			})
		}
		r.client = client.New(c.client)
		r.owner = &owner{r.client, gate}
		runtime.SetFinalizer(r.owner, func(o *owner) { go o.close() })
		gate.own(r.client, r.timeLimit)
	} else {
		gate.own(nil, r.timeLimit)
	}
	r.onRefusal = func(err error) {
		session.SLogger.Printf("session/redis: the server at %s refuses scripts (%v): unless it has SET … IFEQ (Valkey 8.1, Redis 8.4), "+
			"sessions are saved by plain SET, which can lose an update of a request that saves at the very same time", addr, err)
	}
	// No command is under way for longer than its time limit, and the server may have it for as long again.
	return &commands{roundTrips: r, addr: addr, prefix: c.keyPrefix, tombstoneLife: max(minTombstoneLife, int64(3*c.operationTime()/time.Second))}
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
	if one || b.client.Mode != client.Standalone || b.commands.cluster() != nil {
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

// exist looks whether there is a session, for the read that follows as well.
func (b *backend) exist(ctx context.Context, sid string) (bool, error) {
	look, begun := b.requests.looks.Begin(sid), time.Now()
	defer look.Failed() // also where a hook of the application panics
	found, err := b.commands.read(ctx, b.key(sid))
	b.counters.load.since(begun)
	switch {
	case err != nil:
	case found.present:
		look.Offer(looked{found, b.commands}, len(found.value))
	default:
		look.Answered()
	}
	return found.present, err
}

// read returns a session. removed tells that it was removed since exist has found it.
func (b *backend) read(ctx context.Context, sid string) (found stored, removed bool, err error) {
	last, offered, existed := b.requests.looks.Take(sid)
	if offered && last.at == b.commands && (last.expires.IsZero() || time.Now().Before(last.expires)) {
		return last.stored, false, nil
	}
	look, begun := b.requests.looks.Begin(sid), time.Now()
	defer look.Failed()
	found, err = b.commands.look(ctx, b.key(sid))
	b.counters.load.since(begun)
	if err != nil {
		return stored{}, false, err
	}
	look.Answered()
	return found, existed && !found.present, nil
}

// regenerate moves a session and decodes it.
func (b *backend) regenerate(ctx context.Context, oldsid, sid string, failures *untold) (found stored, values map[any]any, err error) {
	defer b.requests.looks.Changed(sid)
	var user string
	if b.checkID(oldsid) != nil {
		found, err = b.commands.reserve(ctx, b.key(sid), b.life)
	} else if user, err = b.listStored(ctx, oldsid, sid); err == nil {
		found, err = b.commands.regenerate(ctx, b.key(oldsid), b.key(sid), b.life)
	}
	if err != nil {
		return stored{}, nil, err
	}
	if values, err = b.decode(b.key(sid), found.value); err != nil {
		// The caller cannot use the session under its new id: it goes back to where somebody may.
		err = errors.Join(err, b.commands.giveBack(ctx, b.key(oldsid), b.key(sid), found.value, b.life))
	} else if now := b.userOf(values); now != user { // by another request, right before the move
		if err := b.list(ctx, now, sid); err != nil {
			failures.add("regenerate", sid, err)
		}
	}
	return found, values, err
}

// destroy removes a session.
func (b *backend) destroy(ctx context.Context, sid string) error {
	err := b.exclusively(ctx, sid, func(ctx context.Context) error { return b.commands.remove(ctx, b.key(sid)) })
	if err == nil {
		b.counters.destroyed.Add(1)
	}
	return err
}

// exclusively runs f, which saves or removes the session, while nobody else in this process does. All of it, with the
// wait for others, keeps to one time limit, and does not heed the cancellation of ctx.
func (b *backend) exclusively(ctx context.Context, sid string, f func(context.Context) error) error {
	deadline := time.Now().Add(b.commands.timeLimit)
	if !b.requests.saving.Lock(sid, deadline) {
		return fmt.Errorf("other requests of the session were at it for more than %v: %w", b.commands.timeLimit, context.DeadlineExceeded)
	}
	defer b.requests.saving.Unlock(sid)
	defer b.requests.looks.Changed(sid)
	return f(limit(detached(ctx), deadline))
}

func (b *backend) key(sid string) string { return b.keyPrefix + sid }

// sessionID is the inverse of key, and tells whether it is a key of a session.
func (b *backend) sessionID(key string) (sid string, ok bool) {
	sid, ok = strings.CutPrefix(key, b.keyPrefix)
	return sid, ok && b.checkID(sid) == nil
}

// maxIDLength is how long a session id may be, in bytes. beego's own have 32 hexadecimal digits, and a prefix.
const maxIDLength = 512

// checkID refuses what cannot be a session id. Ids come from the network: beego takes a cookie's value as it is.
func (b *backend) checkID(sid string) error {
	switch {
	case sid == "" || len(sid) > maxIDLength:
		return fmt.Errorf("a session id of %d bytes is not possible: 1 to %d are", len(sid), maxIDLength)
	case strings.ContainsFunc(sid, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("a session id cannot hold spaces or control characters")
	case auxiliary(sid):
		return errors.New("a session id cannot begin like the keys that this package has beside the sessions")
	case b.commands.cluster() != nil && strings.ContainsAny(sid, "{}") && !strings.Contains(b.keyPrefix, "{"):
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

// encode encodes a session to be stored under a key, as record.Encode does.
func (b *backend) encode(key string, values map[any]any, before record.Value, m record.Meta, v record.Version) (record.Value, error) {
	return record.Encode(values, before, m, v)
}

// decode decodes what is stored under a key. The error says what to do about a value that does not decode.
func (b *backend) decode(key string, value record.Value) (map[any]any, error) {
	values, err := value.Decode()
	if err == nil {
		return values, nil
	}
	_, name, unregistered := strings.Cut(err.Error(), "name not registered for interface: ")
	if !unregistered {
		return nil, failing{KindUndecodable, fmt.Errorf("the value in Redis is no session, or a damaged one: %w", err)}
	}
	name = strings.Trim(name, `"`)
	return nil, failing{KindUndecodable, fmt.Errorf("the session holds a %s, a type that this program has not registered: "+
		"call gob.Register(%s{}) when it starts: %w", name, name, err)}
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
	return inside.Inside{
		Client: b.commands.client, Options: b.client, Addr: b.addr, Prefix: b.keyPrefix, Life: time.Duration(b.life) * time.Second, UserKey: b.userKey,
		Masters: b.commands.masters, Spread: b.commands.spread, Beside: b.commands.beside, SessionID: b.sessionID, Look: b.lookInside,
	}, nil
}

// lookInside is inspect, for Inside.
func (b *backend) lookInside(ctx context.Context, sids []string) ([]inside.Stored, error) {
	found, err := b.inspect(background(ctx), sids)
	if err != nil {
		return nil, b.fail("look at sessions", "", err)
	}
	all := make([]inside.Stored, len(found))
	for i, s := range found {
		all[i] = inside.Stored{Value: s.value, Present: s.present, Expires: s.expires}
	}
	return all, nil
}
