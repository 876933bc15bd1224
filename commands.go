// The Redis commands that a session needs. Each may be executed twice, or long after the client has gone on: none does
// harm by that.

package redis

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/inside"
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
func (c *commands) look(ctx context.Context, key string, also ...redis.Cmder) (stored, error) {
	tombstone := redis.NewStringCmd("get", c.tombstone(key))
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
	get              redis.StringCmd
	pttl             redis.IntCmd
	getArgs, ttlArgs [2]any
	cmds             [4]redis.Cmder
}

func (c *commands) fetch(ctx context.Context, key string, also ...redis.Cmder) (stored, error) {
	l := new(lookup)
	var k any = key // once for both
	l.getArgs, l.ttlArgs = [...]any{"get", k}, [...]any{"pttl", k}
	l.get, l.pttl = *redis.NewStringCmd(l.getArgs[:]...), *redis.NewIntCmd(l.ttlArgs[:]...)
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
	var cmds []redis.Cmder
	for _, key := range keys {
		cmds = append(cmds, redis.NewStringCmd("get", key), redis.NewIntCmd("pttl", key))
	}
	if err := c.do(ctx, cmds...); err != nil && !isReply(err, "WRONGTYPE ") {
		return nil, err // and the commands may still be under way
	}
	all := make([]stored, len(keys))
	for i := range all {
		get, pttl := cmds[2*i].(*redis.StringCmd), cmds[2*i+1].(*redis.IntCmd)
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
func found(get *redis.StringCmd, pttl *redis.IntCmd) stored {
	s := stored{value: record.Value(get.Val()), present: true}
	if ms := pttl.Val(); ms >= 0 {
		s.expires = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
	return s
}

// removed tells whether a session that is not there was destroyed or regenerated of late.
func (c *commands) removed(ctx context.Context, key string) (bool, error) {
	get := redis.NewStringCmd("get", c.tombstone(key))
	err := c.do(ctx, get)
	return err == nil && get.Err() == nil, err
}

// renew sets the life time of a session that exists, and does nothing to one that does not. It tells whether there is one, as far
// as that shows. Other commands may travel along.
func (c *commands) renew(ctx context.Context, key string, life int64, also ...redis.Cmder) (there bool, err error) {
	if life == 0 {
		persist := redis.NewIntCmd("persist", key) // which answers 0 also where there is no life time
		return true, c.do(ctx, append([]redis.Cmder{persist}, also...)...)
	}
	expire := redis.NewIntCmd("expire", key, life)
	err = c.do(ctx, append([]redis.Cmder{expire}, also...)...)
	return expire.Val() == 1, err
}

// remove deletes a session, or finds it gone.
func (c *commands) remove(ctx context.Context, key string) error {
	return c.do(ctx, append([]redis.Cmder{c.bury(key, record.NewVersion()), redis.NewIntCmd("del", key)}, c.endGrace(key)...)...)
}

// bury is the command that leaves a tombstone.
func (c *commands) bury(key string, mark record.Version) redis.Cmder {
	return redis.NewStatusCmd("setex", c.tombstone(key), c.tombstoneLife, string(mark))
}

// addToTombstone is the commands that leave a tombstone, and in one that is there what moves from the key have left: their repeats
// look for it.
func (c *commands) addToTombstone(key string) []redis.Cmder {
	tombstone := c.tombstone(key)
	return []redis.Cmder{redis.NewIntCmd("append", tombstone, string(record.NewVersion())), redis.NewIntCmd("expire", tombstone, c.tombstoneLife)}
}

// loadingTime is how long ready waits for a server that loads its data.
const loadingTime = time.Minute

// ready asks whether the server answers, and waits while it loads its data.
func (c *commands) ready(ctx context.Context) error {
	for deadline := time.Now().Add(loadingTime); ; {
		err := c.do(ctx, redis.NewStatusCmd("ping"))
		if err == nil || !isReply(err, "LOADING ") || time.Now().After(deadline) || sleep(ctx, probeInterval) != nil {
			return err
		}
	}
}

// masters returns the servers that have keys, by their addresses, and with an error those that were found.
func (c *commands) masters() ([]inside.Master, error) {
	cluster := c.cluster()
	if cluster == nil {
		return []inside.Master{{Addr: c.addr, Node: c.client}}, nil
	}
	var mu sync.Mutex // protects all
	var all []inside.Master
	err := cluster.ForEachMaster(func(master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, inside.Master{Addr: master.Options().Addr, Node: master})
		return nil
	})
	slices.SortFunc(all, func(a, b inside.Master) int { return cmp.Compare(a.Addr, b.Addr) })
	return all, err
}

// check writes a key, reads it and removes it, in a cluster on each master, where they are known. A client of the application does
// not tell them: then each is asked whether it answers.
func (c *commands) check(ctx context.Context) error {
	ctx = limit(ctx, time.Now().Add(c.timeLimit))
	one := func(key string) error {
		return c.do(ctx, redis.NewStatusCmd("setex", key, temporaryLife, ""), redis.NewStringCmd("get", key), redis.NewIntCmd("del", key))
	}
	keys := c.spread()
	if c.cluster() == nil || c.repeatsUnseen() {
		if err := one(keys[c.addr]); err != nil || c.cluster() == nil {
			return err
		}
		return c.cluster().ForEachMaster(func(master *redis.Client) error { return master.ProcessContext(ctx, redis.NewStatusCmd("ping")) })
	}
	errs := make(chan error, len(keys))
	for addr, key := range keys {
		go func() {
			err := one(key)
			if err != nil {
				err = fmt.Errorf("master %s: %w", addr, err)
			}
			errs <- err
		}()
	}
	var err error
	for range keys {
		err = errors.Join(err, <-errs)
	}
	return err
}

// spread returns a key of no session for each master that can have sessions, by its address, and where they are not known one key.
func (c *commands) spread() map[string]string {
	key := c.prefix + surveyName()
	own, ok := c.client.(client.Client)
	if !ok || c.cluster() == nil {
		return map[string]string{c.addr: key}
	}
	keys, masters := map[string]string{own.Server(key): key}, len(own.Servers())
	if strings.Contains(c.prefix, "{") { // by a hash tag all are on one
		masters = 1
	}
	for i := 0; len(keys) < masters && i < maxDraws; i++ {
		drawn := key + strconv.Itoa(i)
		keys[own.Server(drawn)] = drawn
	}
	return keys
}

// maxDraws is how many keys are drawn to have one on each master: enough for one that has a single slot.
const maxDraws = 1 << 17
