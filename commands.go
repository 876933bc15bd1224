// The Redis commands that a session needs. Each may be executed twice, or long after the client has gone on: none does
// harm by that.

package redis

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/beego-session/redis/internal/record"
	"github.com/go-redis/redis/v7"
)

// stored is a session as Redis holds it.
type stored struct {
	value     record.Value
	present   bool
	expires   time.Time // zero where it does not expire
	tombstone string    // what was left when the id was destroyed, if that was of late and was asked for
}

// written is what a session is after value was written now.
func written(value record.Value, life int64) stored {
	s := stored{value: value, present: true}
	if life > 0 {
		s.expires = time.Now().Add(time.Duration(life) * time.Second)
	}
	return s
}

// leadsTo tells whether the versions of another value are known from s on: a save that is not among them was not done.
func (s stored) leadsTo(value record.Value) bool {
	if version := s.value.Version(); version != "" {
		return value.Holds(version)
	}
	return value.Complete()
}

// commands is what a session asks of one server or cluster. Keys are whole, life times are in seconds and 0 means no
// expiry. Its errors are those of go-redis and of the server: the caller adds what it was doing, and where.
//
// A session that is removed leaves a tombstone for a while. It tells a request that found no session when it began, and
// is about to create one, that the id was destroyed since; and it tells a removal that is repeated from one that comes
// too late.
type commands struct {
	*roundTrips
	addr          string // of the servers, for messages
	prefix        string // with which every key begins
	tombstoneLife int64  // longer than any command may be under way
	graceLife     int64  // of a key from which a session has moved away; 0: there is no grace
}

// minTombstoneLife is how many seconds a tombstone lasts at least: longer than most requests.
const minTombstoneLife = 300

// Other keys than those of sessions have the key of a session in braces, so that a cluster keeps both on one server.
// They begin with the prefix like all others, for users who may touch no others.
const (
	tombstones  = "gone:{"
	temporaries = "save:{"
	removals    = "moved:{" // where no scripts can be run, or on the way to a hash
	surveys     = "survey:" // in the place of sessions
	indexes     = "user:{"  // of a user in the place of a session
	graces      = "grace:{"
)

// surveyName is a name in the place of a session that nobody else has.
func surveyName() string { return surveys + hex.EncodeToString([]byte(record.NewVersion())) }

// auxiliary tells whether what stands behind the prefix in a key is none of a session.
func auxiliary(name string) bool {
	return strings.HasPrefix(name, tombstones) || strings.HasPrefix(name, temporaries) || strings.HasPrefix(name, removals) ||
		strings.HasPrefix(name, surveys) || strings.HasPrefix(name, indexes) || strings.HasPrefix(name, graces)
}

// beside is a key of no session that the server of another key has too.
func (c *commands) beside(key string) string { return c.prefix + surveys + "{" + key + "}" }

func (c *commands) tombstone(key string) string { return c.prefix + tombstones + key + "}" }

// read fetches a session and how long it has to live, in one round trip.
func (c *commands) read(ctx context.Context, key string) (stored, error) {
	return c.fetch(ctx, key)
}

// look is read for whoever may create the session: it also tells of a tombstone. Other commands may travel along.
func (c *commands) look(ctx context.Context, key string, also ...command) (stored, error) {
	tombstone := newString("get", c.tombstone(key))
	s, err := c.fetch(ctx, key, append(also, tombstone)...)
	if err != nil {
		return stored{}, err // and the commands may still be under way
	}
	s.tombstone = tombstone.Val()
	return s, nil
}

// lookup is the commands of a look, with what they travel in, in one piece: that is one allocation, and not one for each
// part. It is not used again: go-redis and the net package may keep a context for longer than a call takes.
type lookup struct {
	call
	limited
	get              stringCmd
	pttl             intCmd
	getArgs, ttlArgs [2]any
	cmds             [4]command
}

func (c *commands) fetch(ctx context.Context, key string, also ...command) (stored, error) {
	l := new(lookup)
	var k any = key // once for both
	l.getArgs, l.ttlArgs = [...]any{"get", k}, [...]any{"pttl", k}
	l.get.StringCmd, l.pttl.IntCmd = *redis.NewStringCmd(l.getArgs[:]...), *redis.NewIntCmd(l.ttlArgs[:]...)
	l.call.cmds = append(append(l.cmds[:0], &l.get, &l.pttl), also...)
	ctx = l.limit(ctx, time.Now().Add(c.timeLimit))
	if _, err := c.deliverCall(ctx, &l.call); err != nil || l.get.Err() == redis.Nil {
		return stored{}, err
	}
	return found(&l.get, &l.pttl), nil
}

// readAll is read of several. A key of another type is no session.
func (c *commands) readAll(ctx context.Context, keys []string) ([]stored, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	var cmds []command
	for _, key := range keys {
		cmds = append(cmds, newString("get", key), newInt("pttl", key))
	}
	if err := c.do(ctx, cmds...); err != nil && !isReply(err, "WRONGTYPE ") {
		return nil, err // and the commands may still be under way
	}
	all := make([]stored, len(keys))
	for i := range all {
		get, pttl := cmds[2*i].(*stringCmd), cmds[2*i+1].(*intCmd)
		switch err := cmp.Or(unwrap(get.Err()), unwrap(pttl.Err())); {
		case err == nil:
			all[i] = found(get, pttl)
		case err != redis.Nil && !isReply(err, "WRONGTYPE "):
			return nil, err
		}
	}
	return all, nil
}

// found is a session that there is.
func found(get *stringCmd, pttl *intCmd) stored {
	s := stored{value: record.Value(get.Val()), present: true}
	if ms := pttl.Val(); ms >= 0 {
		s.expires = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
	return s
}

// removed tells whether a session that is not there was destroyed or regenerated of late.
func (c *commands) removed(ctx context.Context, key string) (bool, error) {
	get := newString("get", c.tombstone(key))
	err := c.do(ctx, get)
	return err == nil && get.Err() == nil, err
}

// renew sets the life time of a session that exists, and does nothing to one that does not. It tells whether there is one, as far
// as that shows. Other commands may travel along.
func (c *commands) renew(ctx context.Context, key string, life int64, also ...command) (there bool, err error) {
	if life == 0 {
		persist := newInt("persist", key) // which answers 0 also where there is no life time
		return true, c.do(ctx, append([]command{persist}, also...)...)
	}
	expire := newInt("expire", key, life)
	err = c.do(ctx, append([]command{expire}, also...)...)
	return expire.Val() == 1, err
}

// remove deletes a session, or finds it gone.
func (c *commands) remove(ctx context.Context, key string) error {
	return c.do(ctx, append([]command{c.bury(key, record.NewVersion()), newInt("del", key)}, c.endGrace(key)...)...)
}

// bury is the command that leaves a tombstone.
func (c *commands) bury(key string, mark record.Version) command {
	return newAny("setex", c.tombstone(key), c.tombstoneLife, string(mark))
}

// addToTombstone is the commands that leave a tombstone, and in one that is there what moves from the key have left: their repeats
// look for it.
func (c *commands) addToTombstone(key string) []command {
	tombstone := c.tombstone(key)
	return []command{newInt("append", tombstone, string(record.NewVersion())), newInt("expire", tombstone, c.tombstoneLife)}
}

// loadingTime is how long ready waits for a server that loads its data.
const loadingTime = time.Minute

// ready asks whether the server answers, and waits while it loads its data.
func (c *commands) ready(ctx context.Context) error {
	for deadline := time.Now().Add(loadingTime); ; {
		err := c.do(ctx, newAny("ping"))
		if err == nil || !isReply(err, "LOADING ") || time.Now().After(deadline) || sleep(ctx, probeInterval) != nil {
			return err
		}
	}
}

// check writes a key, reads it and removes it, in a cluster on each master, where they are known. A client of the application does
// not tell them: then each is asked whether it answers.
func (c *commands) check(ctx context.Context) error {
	ctx = limit(ctx, time.Now().Add(c.timeLimit))
	one := func(key string) error {
		return c.do(ctx, newAny("setex", key, temporaryLife, ""), newString("get", key), newInt("del", key))
	}
	keys := c.spread()
	if !c.link.clustered() {
		return one(keys[c.addr])
	}
	checks := map[string]func() error{} // by what they are of
	if c.own != nil {
		for addr, key := range keys {
			checks["master "+addr] = func() error { return one(key) }
		}
	} else {
		all, err := c.link.masters(ctx, c.addr)
		if err != nil {
			return err
		}
		checks["the cluster"] = func() error { return one(keys[c.addr]) }
		for _, m := range all {
			checks["master "+m.addr] = func() error { return ask(ctx, m.link, newAny("ping")) }
		}
	}
	errs := make([]error, len(checks))
	var ended []<-chan outcome
	for name, check := range checks {
		err := &errs[len(ended)]
		ended = append(ended, started(ctx, func(context.Context) {
			if *err = check(); *err != nil {
				*err = fmt.Errorf("%s: %w", name, *err)
			}
		}))
	}
	for _, one := range ended {
		(<-one).share()
	}
	return errors.Join(errs...)
}

// spread returns a key of no session for each master that can have sessions, by its address, and where they are not known one key.
func (c *commands) spread() map[string]string {
	key := c.prefix + surveyName()
	if c.own == nil || !c.link.clustered() {
		return map[string]string{c.addr: key}
	}
	keys, masters := map[string]string{c.own.Server(key): key}, len(c.own.Servers())
	if strings.Contains(c.prefix, "{") { // by a hash tag all are on one
		masters = 1
	}
	for i := 0; len(keys) < masters && i < maxDraws; i++ {
		drawn := key + strconv.Itoa(i)
		keys[c.own.Server(drawn)] = drawn
	}
	return keys
}

// maxDraws is how many keys are drawn to have one on each master: enough for one that has a single slot.
const maxDraws = 1 << 17
