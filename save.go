// How a session is saved if it still is what was read: by the server's own compare-and-set where it has one, else by a
// script, and where neither may be used by a look before the write.

package redis

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
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
var errUnknown = fmt.Errorf("the reply was lost, and after more than %d other saves, or one by beego's provider, "+
	"nobody can tell whether it was saved", record.Kept-1)

// inDoubt is the error of a save that may have been done all the same, or may yet be done.
type inDoubt struct{ error }

func (d inDoubt) Unwrap() error { return d.error }

// saving is a value on its way into a session.
type saving struct {
	*commands
	key      string
	base     stored // what the session must still be
	value    record.Value
	life     int64
	doubtful bool // a reply was lost: it may have been saved
}

// save writes a value, if the session still is what was read. Where create is false it never makes a new session. On a
// conflict it returns what it found.
func (c *commands) save(ctx context.Context, key string, read stored, value record.Value, life int64, create bool) (v verdict, theirs record.Value, err error) {
	if !read.present && !create {
		return c.foresee(ctx, key, read, create)
	}
	s := &saving{commands: c, key: key, base: read, value: value, life: life}
	defer func() {
		if err != nil && s.doubtful {
			err = inDoubt{err}
		}
	}()
	server := c.serverOf(key)
	if len(read.value)+len(value) <= largeSwap {
		if v, theirs, served, err := s.bySwap(ctx, server); served {
			return v, theirs, err
		}
	}
	if !c.scriptless() {
		v, theirs, err := s.byScript(ctx)
		if err == nil {
			c.askForSwap(ctx, server, key)
		}
		if err == nil || !c.scriptless() {
			return v, theirs, err
		}
	}
	c.askForSwap(ctx, server, key) // now, because what is left can lose an update
	if v, theirs, served, err := s.bySwap(ctx, server); served {
		return v, theirs, err
	}
	return s.byLook(ctx)
}

// foresee tells what would become of a save.
func (c *commands) foresee(ctx context.Context, key string, read stored, create bool) (v verdict, theirs record.Value, err error) {
	found, err := c.look(ctx, key)
	switch {
	case err != nil:
		return 0, "", err
	case read.present && !found.present, !read.present && found.tombstone != "" && found.tombstone != read.tombstone:
		return gone, "", nil
	case found.present != read.present, found.value != read.value:
		return conflict, found.value, nil
	case !found.present && !create:
		return missing, "", nil
	}
	return saved, "", nil
}

// settled returns what became of a save that found another value: whether it had been done before, if a reply was lost.
func (s *saving) settled(theirs record.Value) (verdict, record.Value, error) {
	switch {
	case theirs.Holds(s.value.Version()):
		return saved, theirs, nil
	case !s.doubtful || s.base.leadsTo(theirs):
		return conflict, theirs, nil
	}
	return 0, "", errUnknown
}

// reread finds out why a save was not done.
func (s *saving) reread(ctx context.Context) (verdict, record.Value, error) {
	now, err := s.commands.read(ctx, s.key)
	switch {
	case err != nil:
		return 0, "", err
	case !now.present:
		return gone, "", nil
	}
	return s.settled(now.value)
}

// expiring appends the words of SET for a life time, or 'keep', which save.lua knows.
func expiring(args []any, life int64) []any {
	switch life {
	case 0:
		return args
	case keepLife:
		return append(args, "keep")
	}
	return append(args, "ex", life)
}

// swaps is whether a server has SET … IFEQ, which compares before it writes: Valkey has it since 8.1, and Redis since 8.4.
type swaps struct {
	known atomic.Bool
	asked atomic.Int64 // when, by sinceStart; 0: not yet
}

// largeSwap is how many bytes the old and the new value may have together for IFEQ, which has both sent (docs/bench.md).
const largeSwap = 16 << 10

// askTime is how long a server may take to answer whether it has IFEQ.
var askTime = 300 * time.Millisecond

// askInterval is how long a server that had no IFEQ is not asked again. There may be another one behind its address by then.
var askInterval = 10 * time.Minute

// errUnequal is the error of a comparison that is not what it should be, as behind a proxy that changes values.
var errUnequal = errors.New("the server did not find the value that it has")

// bySwap saves by SET … IFEQ, where the server is known to serve that. A repeat finds another value, and looks whether that is
// its own. Without a life time there is no swap: the server then hands the words on to its replicas, of which an older one
// would not know them. So it does with KEEPTTL: what is left of a life time is kept by a script, and only where there are none is
// it asked for, so that a renewal in between is lost.
func (s *saving) bySwap(ctx context.Context, server *server) (v verdict, theirs record.Value, served bool, err error) {
	if !s.base.present || s.life == 0 || !server.swaps.known.Load() || s.life == keepLife && !s.scriptless() {
		return 0, "", false, nil
	}
	unit, life := "ex", s.life
	if life == keepLife {
		left := newInt("pttl", s.key)
		if err := s.do(ctx, left); err != nil {
			return 0, "", true, err
		} else if left.Val() < 0 {
			return 0, "", false, nil
		}
		unit, life = "px", max(left.Val(), 1)
	}
	set := new(single)
	set.cmd.Cmd = *redis.NewCmd(append(set.args[:0], "set", s.key, string(s.value), "ifeq", string(s.base.value), unit, life)...)
	set.call.cmds = append(set.cmds[:0], &set.cmd)
	doubtful, err := s.deliverCall(ctx, &set.call)
	s.doubtful = s.doubtful || doubtful
	switch {
	case err == nil && set.cmd.Err() == nil:
		return saved, "", true, nil
	case err == nil:
		if v, theirs, err = s.reread(ctx); v == conflict && theirs == s.base.value {
			err = errUnequal
		}
	}
	if !refusesSwap(err) {
		return v, theirs, true, err
	}
	server.swaps.known.Store(false)
	server.swaps.asked.Store(sinceStart())
	// A proxy may say in words that are not known here that it lost the reply.
	s.doubtful = s.doubtful || err != errUnequal && !isReply(err, "ERR syntax error", "NOPERM ")
	return 0, "", false, nil
}

// refusesSwap recognises a server that has no IFEQ, a proxy that does not know it, and a user who may not use SET.
func refusesSwap(err error) bool {
	_, ok := err.(redis.Error) // not what wraps one: that is of opening the connection, or of a proxy that lost its own
	return err == errUnequal || ok && isReply(err, "ERR ", "NOPERM ") && !retryable(err)
}

// askForSwap asks a server whether it has IFEQ, once in askInterval until it does. It asks on a key where nothing is: should
// IFEQ be passed over, nothing is overwritten. What comes of it is no matter to the call that asks, nor to others.
func (c *commands) askForSwap(ctx context.Context, server *server, key string) {
	s, now := server.swaps, sinceStart()
	asked := s.asked.Load()
	if s.known.Load() || asked != 0 && now-asked < int64(askInterval) || !s.asked.CompareAndSwap(asked, now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	set := newAny("set", c.beside(key), "", "ifeq", "?", "ex", 1)
	if ask(ctx, c.link, set) == redis.Nil {
		s.known.Store(true)
	}
}

// largeValue is the size in bytes from which a value is written under a temporary key and then renamed, instead of being
// passed through a script (docs/bench.md). One that keeps what is left of the life time is passed through it all the same: to give
// that to the other key is a command which users have had no right to use.
const largeValue = 4 << 10

// temporaryLife is how many seconds a large value may wait under a key of its own for the script that is sent with it.
const temporaryLife = 5

// byScript saves by save.lua or create.lua.
func (s *saving) byScript(ctx context.Context) (verdict, record.Value, error) {
	script := s.create
	if s.base.present {
		script = s.update
	}
	reply, doubtful, err := script(ctx)
	s.doubtful = s.doubtful || doubtful
	if err != nil {
		return 0, "", err
	}
	if reply == int64(2) {
		return s.reread(ctx)
	}
	v, theirs := judge(reply)
	if v == conflict {
		return s.settled(theirs)
	}
	return v, "", nil
}

// ending returns what a session that still is value must end with, and where that begins.
func ending(value record.Value) (tail string, start int) {
	if version := value.Version(); version != "" {
		return string(version), -len(version)
	}
	return string(value), 0
}

// update runs save.lua.
func (s *saving) update(ctx context.Context) (reply any, doubtful bool, err error) {
	tail, start := ending(s.base.value)
	save := run{script: saveScript, keys: []string{s.key}, args: expiring([]any{string(s.value), tail, start}, s.life)}
	reply, doubtful, err = s.write(ctx, save)
	if err == nil || !isReply(err, "TRYAGAIN ") {
		return reply, doubtful, err
	}
	reply, again, err := s.eval(ctx, save) // of one key
	return reply, doubtful || again, err
}

// create runs create.lua.
func (s *saving) create(ctx context.Context) (reply any, doubtful bool, err error) {
	create := run{
		script: createScript, keys: []string{s.key, s.tombstone(s.key)},
		args: expiring([]any{string(s.value), s.base.tombstone}, s.life),
	}
	if !s.apart.Load() {
		reply, doubtful, err = s.write(ctx, create)
		if err == nil || !isReply(err, "TRYAGAIN ") {
			return reply, doubtful, err
		}
	}
	found, err := s.commands.look(ctx, s.key)
	switch {
	case err != nil:
		return nil, doubtful, err
	case found.tombstone != "" && found.tombstone != s.base.tombstone:
		return int64(0), doubtful, nil
	}
	create.keys = create.keys[:1]
	reply, again, err := s.eval(ctx, create)
	return reply, doubtful || again, err
}

// write runs a script whose first argument is the value, or nothing where the value waits under the last key. While its slot
// migrates, a cluster answers TRYAGAIN to a script of several keys.
func (s *saving) write(ctx context.Context, script run) (reply any, doubtful bool, err error) {
	if len(s.value) < largeValue || s.apart.Load() || s.life == keepLife {
		return s.eval(ctx, script)
	}
	temporary := s.prefix + temporaries + s.key + "}:" + hex.EncodeToString([]byte(s.value.Version()))
	large := script
	large.keys = append(slices.Clip(script.keys), temporary)
	large.args = append([]any{""}, script.args[1:]...)
	large.before = []command{newAny("setex", temporary, temporaryLife, string(s.value))}
	if reply, doubtful, err = s.eval(ctx, large); err == nil || !isReply(err, "NOVALUE ") {
		return reply, doubtful, err
	}
	reply, again, err := s.eval(ctx, script)
	return reply, doubtful || again, err
}

// byLook keeps every promise of a save but one: a write between its GET and its SET is overwritten.
func (s *saving) byLook(ctx context.Context) (v verdict, theirs record.Value, err error) {
	err = s.retry(ctx, func(ctx context.Context) (err error) {
		// Both again where a reply was lost: only a look tells whether the SET has been done.
		get, tombstone := newString("get", s.key), newString("get", s.tombstone(s.key))
		look, left := []command{get, tombstone}, newInt("pttl", s.key)
		if s.life == keepLife {
			look = append(look, left)
		}
		if _, err := s.attempt(ctx, look...); err != nil {
			return err
		}
		now, absent := record.Value(get.Val()), get.Err() == redis.Nil
		// XX does not bring back what is destroyed meanwhile, NX does not overwrite what another request creates.
		condition := "xx"
		switch {
		case absent && s.base.present, !s.base.present && tombstone.Val() != "" && tombstone.Val() != s.base.tombstone:
			v = gone
			return nil
		case absent:
			condition = "nx"
		case !s.base.present || now != s.base.value:
			v, theirs, err = s.settled(now)
			return err
		}
		args := []any{"set", s.key, string(s.value), condition}
		if s.life != keepLife {
			args = expiring(args, s.life)
		} else if left.Val() >= 0 {
			args = append(args, "px", max(left.Val(), 1))
		}
		set := newAny(args...)
		lost, err := s.attempt(ctx, set)
		s.doubtful = s.doubtful || lost
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
