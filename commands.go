// The Redis commands that a session needs. Each may be executed twice, or long after the client has gone on: none does
// harm by that.

package redis

import (
	"context"
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/record"
	"github.com/go-redis/redis/v7"
)

var (
	//go:embed save.lua
	saveSource string
	//go:embed create.lua
	createSource string

	saveScript   = newScript(saveSource)
	createScript = newScript(createSource)
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

// verdict is what became of a save.
type verdict int

const (
	saved    verdict = iota
	gone             // there is no session to save into: it was destroyed, regenerated or has expired
	missing          // there is none, and it was not to be created
	conflict         // somebody else wrote meanwhile
)

// errUnknown is the error of a save whose first reply was lost and whose session has been saved so often since that its
// versions no longer tell whether that save was among them.
var errUnknown = fmt.Errorf("the reply was lost, and after more than %d other saves nobody can tell whether it was saved", record.Kept-1)

// commands is what a session asks of one server or cluster. Keys are whole, life times are in seconds and 0 means no
// expiry. Its errors are those of go-redis and of the server: the caller adds what it was doing, and where.
//
// A session that is removed leaves a tombstone for a while. It tells a request that found no session when it began, and
// is about to create one, that the id was destroyed since; and it tells a removal that is repeated from one that comes
// too late.
type commands struct {
	*roundTrips
	prefix        string // with which every key begins
	tombstoneLife int64  // longer than any command may be under way
}

// minTombstoneLife is how many seconds a tombstone lasts at least: longer than most requests.
const minTombstoneLife = 300

// temporaryLife is how many seconds a large value may wait under a key of its own for the script that is sent with it.
const temporaryLife = 5

// Other keys than those of sessions have the key of a session in braces, so that a cluster keeps both on one server.
// They begin with the prefix like all others, for users who may touch no others.
const (
	tombstones  = "gone:{"
	temporaries = "save:{"
	removals    = "moved:{" // where no scripts can be run
	surveys     = "survey:" // in the place of sessions
)

// auxiliary tells whether what stands behind the prefix in a key is none of a session.
func auxiliary(name string) bool {
	return strings.HasPrefix(name, tombstones) || strings.HasPrefix(name, temporaries) || strings.HasPrefix(name, removals) ||
		strings.HasPrefix(name, surveys)
}

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

func (c *commands) fetch(ctx context.Context, key string, also ...redis.Cmder) (stored, error) {
	var k any = key // once for both
	get := redis.NewStringCmd("get", k)
	pttl := redis.NewIntCmd("pttl", k)
	cmds := append(append(make([]redis.Cmder, 0, 4), get, pttl), also...)
	if err := c.do(ctx, cmds...); err != nil || get.Err() == redis.Nil {
		return stored{}, err
	}
	s := stored{value: record.Value(get.Val()), present: true}
	if ms := pttl.Val(); ms >= 0 {
		s.expires = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
	return s, nil
}

// removed tells whether a session that is not there was destroyed or regenerated of late.
func (c *commands) removed(ctx context.Context, key string) (bool, error) {
	get := redis.NewStringCmd("get", c.tombstone(key))
	err := c.do(ctx, get)
	return err == nil && get.Err() == nil, err
}

// save writes a value, if the session still is what was read. Where create is false it never makes a new session. On a
// conflict it returns what it found.
func (c *commands) save(ctx context.Context, key string, read stored, value record.Value, life int64, create bool) (verdict, record.Value, error) {
	if !read.present && !create {
		found, err := c.look(ctx, key)
		switch {
		case err != nil:
			return 0, "", err
		case found.tombstone != "" && found.tombstone != read.tombstone:
			return gone, "", nil
		case !found.present:
			return missing, "", nil
		}
		return conflict, found.value, nil
	}
	if c.scriptless() {
		return c.saveWithoutScript(ctx, key, read, value, life)
	}
	var reply any
	var doubtful bool
	var err error
	if read.present {
		reply, doubtful, err = c.update(ctx, key, read.value, value, life)
	} else {
		reply, doubtful, err = c.create(ctx, key, read.tombstone, value, life)
	}
	switch {
	case err != nil && c.scriptless():
		return c.saveWithoutScript(ctx, key, read, value, life)
	case err != nil:
		return 0, "", err
	}
	verdict, theirs := judge(reply)
	if reply == int64(2) {
		found, err := c.read(ctx, key)
		if err != nil {
			return 0, "", err
		}
		if verdict, theirs = conflict, found.value; !found.present {
			verdict = gone
		}
	}
	if verdict == conflict {
		verdict, err = settle(read, value, theirs, doubtful)
	}
	return verdict, theirs, err
}

// settle finds out whether a save that found another value had been done before, if a reply was lost.
func settle(read stored, value, theirs record.Value, doubtful bool) (verdict, error) {
	switch {
	case theirs.Holds(value.Version()):
		return saved, nil
	case !doubtful || read.leadsTo(theirs):
		return conflict, nil
	}
	return 0, errUnknown
}

// judge reads the reply of a script.
func judge(reply any) (v verdict, found record.Value) {
	switch reply := reply.(type) {
	case string:
		return conflict, record.Value(reply)
	case int64:
		if reply == 1 {
			return saved, ""
		}
	}
	return gone, ""
}

// ending returns what a session that still is value must end with, and where that begins.
func ending(value record.Value) (tail string, start int) {
	if version := value.Version(); version != "" {
		return string(version), -len(version)
	}
	return string(value), 0
}

// largeValue is the size in bytes from which a value is written under a temporary key and then renamed, instead of being
// passed through a script (docs/bench.md).
const largeValue = 16 << 10

// update runs save.lua.
func (c *commands) update(ctx context.Context, key string, read, value record.Value, life int64) (reply any, doubtful bool, err error) {
	tail, start := ending(read)
	save := run{script: saveScript, keys: []string{key}, args: []any{string(value), life, tail, start}}
	reply, doubtful, err = c.write(ctx, save, value)
	if err == nil || !isReply(err, "TRYAGAIN") {
		return reply, doubtful, err
	}
	reply, again, err := c.eval(ctx, save) // of one key
	return reply, doubtful || again, err
}

// create runs create.lua.
func (c *commands) create(ctx context.Context, key, tombstone string, value record.Value, life int64) (reply any, doubtful bool, err error) {
	create := run{script: createScript, keys: []string{key, c.tombstone(key)}, args: []any{string(value), life, tombstone}}
	if !c.apart.Load() {
		reply, doubtful, err = c.write(ctx, create, value)
		if err == nil || !isReply(err, "TRYAGAIN") {
			return reply, doubtful, err
		}
	}
	if found, err := c.look(ctx, key); err != nil || found.tombstone != tombstone && found.tombstone != "" {
		return int64(0), doubtful, err
	}
	create.keys = create.keys[:1]
	reply, again, err := c.eval(ctx, create)
	return reply, doubtful || again, err
}

// write runs a script whose first argument is a value, or empty where the value waits under the last key. While its slot
// migrates, a cluster answers TRYAGAIN to a script of several keys.
func (c *commands) write(ctx context.Context, script run, value record.Value) (reply any, doubtful bool, err error) {
	if len(value) >= largeValue && !c.apart.Load() {
		temporary := c.prefix + temporaries + script.keys[0] + "}:" + hex.EncodeToString([]byte(value.Version()))
		script.keys = append(slices.Clip(script.keys), temporary)
		script.args = append([]any{""}, script.args[1:]...)
		script.before = append(slices.Clip(script.before), redis.NewStatusCmd("setex", temporary, temporaryLife, string(value)))
	}
	return c.eval(ctx, script)
}

// saveWithoutScript keeps every promise of save but one: a write between its GET and its SET is overwritten.
func (c *commands) saveWithoutScript(ctx context.Context, key string, read stored, value record.Value, life int64) (v verdict, theirs record.Value, err error) {
	doubtful := false
	err = c.retry(ctx, func(ctx context.Context) (err error) {
		// Both again where a reply was lost: only a look tells whether the SET has been done.
		get, tombstone := redis.NewStringCmd("get", key), redis.NewStringCmd("get", c.tombstone(key))
		if _, err := c.attempt(ctx, get, tombstone); err != nil {
			return err
		}
		found, absent := record.Value(get.Val()), get.Err() == redis.Nil
		// XX does not bring back what is destroyed meanwhile, NX does not overwrite what another request creates.
		condition := "xx"
		switch {
		case absent && read.present, !read.present && tombstone.Val() != "" && tombstone.Val() != read.tombstone:
			v = gone
			return nil
		case absent:
			condition = "nx"
		case !read.present || found != read.value:
			theirs = found
			v, err = settle(read, value, theirs, doubtful)
			return err
		}
		args := []any{"set", key, string(value), condition}
		if life > 0 {
			args = append(args, "ex", life)
		}
		set := redis.NewStatusCmd(args...)
		lost, err := c.attempt(ctx, set)
		doubtful = doubtful || lost
		switch {
		case err != nil:
			return err
		case set.Err() == nil:
			v = saved
		case absent:
			return errCreated
		default:
			v = gone
		}
		return nil
	})
	return v, theirs, err
}

// errCreated has a save look again, because somebody has created the session in between.
var errCreated = again("another request has created the session")

// touch sets the life time of a session that exists, and does nothing to one that does not.
func (c *commands) touch(ctx context.Context, key string, life int64) error {
	if life == 0 {
		return c.do(ctx, redis.NewIntCmd("persist", key))
	}
	return c.do(ctx, redis.NewIntCmd("expire", key, life))
}

// remove deletes a session, or finds it gone.
func (c *commands) remove(ctx context.Context, key string) error {
	return c.do(ctx, c.bury(key, record.NewVersion()), redis.NewIntCmd("del", key))
}

// bury is the command that leaves a tombstone.
func (c *commands) bury(key string, mark record.Version) redis.Cmder {
	return redis.NewStatusCmd("setex", c.tombstone(key), c.tombstoneLife, string(mark))
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

// count counts the sessions, on every master. While they come and go the count is near, not exact.
func (c *commands) count(ctx context.Context) (int, error) {
	var total atomic.Int64
	countOn := func(node node) error {
		n, err := c.countOn(ctx, node)
		total.Add(n)
		return err
	}
	var err error
	if cluster := c.cluster(); cluster != nil {
		err = cluster.ForEachMaster(func(master *redis.Client) error { return countOn(master) })
	} else {
		err = countOn(c.client)
	}
	return int(total.Load()), err
}

// node sends one command to one server.
type node interface {
	ProcessContext(ctx context.Context, cmd redis.Cmder) error
}

// countOn scans the keys of one server. The time limit is that of each step, of which there may be many.
func (c *commands) countOn(ctx context.Context, on node) (n int64, err error) {
	pattern := globEscaper.Replace(c.prefix) + "*"
	for cursor := uint64(0); ; {
		scan := redis.NewScanCmd(nil, "scan", cursor, "match", pattern, "count", 1000)
		err := c.retry(ctx, func(ctx context.Context) error { return on.ProcessContext(ctx, scan) })
		if err != nil {
			return 0, err
		}
		var keys []string
		keys, cursor = scan.Val()
		for _, key := range keys {
			if !auxiliary(strings.TrimPrefix(key, c.prefix)) {
				n++
			}
		}
		if cursor == 0 {
			return n, nil
		}
	}
}

var globEscaper = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`, `^`, `\^`, `-`, `\-`)
