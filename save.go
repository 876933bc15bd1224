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
var errUnknown = fmt.Errorf("the reply was lost, and after more than %d other saves nobody can tell whether it was saved", record.Kept-1)

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
	s := &saving{c, key, read, value, life, false}
	server := c.serverOf(key)
	if read.present && server.swaps.known.Load() && (len(read.value)+len(value) <= largeSwap || c.scriptless()) {
		v, theirs, err := s.bySwap(ctx)
		if err == nil || !refusesSwap(err) {
			return v, theirs, err
		}
		server.swaps.refused()
		s.doubtful = true // a proxy may have said in such words that it lost the reply
	}
	refused := c.scriptless()
	if !refused {
		v, theirs, err = s.byScript(ctx)
		refused = err != nil && c.scriptless()
	}
	if refused {
		v, theirs, err = s.byLook(ctx)
	}
	if err == nil {
		c.askForSwap(ctx, server, key)
	}
	return v, theirs, err
}

// found returns what became of a save that found another value: whether it had been done before, if a reply was lost.
func (s *saving) found(theirs record.Value) (verdict, record.Value, error) {
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
	return s.found(now.value)
}

// expiring appends the words of SET for a life time.
func expiring(args []any, life int64) []any {
	if life == 0 {
		return args
	}
	return append(args, "ex", life)
}

// swaps is whether a server has SET … IFEQ, which compares before it writes: Valkey has it since 8.1, and Redis since 8.4.
type swaps struct {
	known atomic.Bool
	asked atomic.Int64 // when, in ns since 1970
}

// largeSwap is how many bytes the old and the new value may have together for IFEQ, which has both sent (docs/bench.md).
const largeSwap = 16 << 10

// errUnequal is the error of a comparison that is not what it should be, as behind a proxy that changes values.
var errUnequal = errors.New("the server did not find the value that it has")

// bySwap saves by SET … IFEQ. A repeat finds another value, and looks whether that is its own.
func (s *saving) bySwap(ctx context.Context) (verdict, record.Value, error) {
	set, err := new(single), error(nil)
	args := append(set.args[:0], "set", s.key, string(s.value), "ifeq", string(s.base.value))
	set.cmd = *redis.NewCmd(expiring(args, s.life)...)
	set.call.cmds = append(set.cmds[:0], &set.cmd)
	s.doubtful, err = s.deliverCall(ctx, &set.call)
	switch {
	case err != nil:
		return 0, "", err
	case set.cmd.Err() == nil:
		return saved, "", nil
	}
	v, theirs, err := s.reread(ctx)
	if v == conflict && theirs == s.base.value {
		err = errUnequal
	}
	return v, theirs, err
}

// refusesSwap recognises a server that has no IFEQ, a proxy that does not know it, and a user who may not use SET.
func refusesSwap(err error) bool {
	return err == errUnequal || isReply(err, "ERR ", "NOPERM ") && !retryable(err)
}

func (s *swaps) refused() {
	s.known.Store(false)
	s.asked.Store(time.Now().UnixNano())
}

// askForSwap asks a server that has just saved whether it has IFEQ, again after some time, because there may be another one
// behind its address by then. It asks on a key where nothing is: where IFEQ is passed over, nothing is harmed.
func (c *commands) askForSwap(ctx context.Context, server *server, key string) {
	s := server.swaps
	asked := s.asked.Load()
	if s.known.Load() || time.Since(time.Unix(0, asked)) < refusalTime || !s.asked.CompareAndSwap(asked, time.Now().UnixNano()) {
		return
	}
	set := redis.NewStatusCmd("set", c.prefix+surveys+"{"+key+"}", "", "ifeq", "?", "ex", 1)
	if _, err := c.attempt(ctx, set); err == nil && set.Err() == redis.Nil {
		s.known.Store(true)
	}
}

// largeValue is the size in bytes from which a value is written under a temporary key and then renamed, instead of being
// passed through a script (docs/bench.md).
const largeValue = 4 << 10

// temporaryLife is how many seconds a large value may wait under a key of its own for the script that is sent with it.
const temporaryLife = 5

// byScript saves by save.lua or create.lua.
func (s *saving) byScript(ctx context.Context) (verdict, record.Value, error) {
	run := s.create
	if s.base.present {
		run = s.update
	}
	reply, doubtful, err := run(ctx)
	s.doubtful = s.doubtful || doubtful
	if err != nil {
		return 0, "", err
	}
	switch reply {
	case int64(1):
		return saved, "", nil
	case int64(2):
		return s.reread(ctx)
	}
	if theirs, ok := reply.(string); ok {
		return s.found(record.Value(theirs))
	}
	return gone, "", nil
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
	if err == nil || !isReply(err, "TRYAGAIN") {
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
		if err == nil || !isReply(err, "TRYAGAIN") {
			return reply, doubtful, err
		}
	}
	found, err := s.commands.look(ctx, s.key)
	if err != nil || found.tombstone != s.base.tombstone && found.tombstone != "" {
		return int64(0), doubtful, err
	}
	create.keys = create.keys[:1]
	reply, again, err := s.eval(ctx, create)
	return reply, doubtful || again, err
}

// write runs a script whose first argument is the value, or empty where the value waits under the last key. While its slot
// migrates, a cluster answers TRYAGAIN to a script of several keys.
func (s *saving) write(ctx context.Context, script run) (reply any, doubtful bool, err error) {
	if len(s.value) >= largeValue && !s.apart.Load() {
		temporary := s.prefix + temporaries + s.key + "}:" + hex.EncodeToString([]byte(s.value.Version()))
		script.keys = append(slices.Clip(script.keys), temporary)
		script.args = append([]any{""}, script.args[1:]...)
		script.before = []redis.Cmder{redis.NewStatusCmd("setex", temporary, temporaryLife, string(s.value))}
	}
	return s.eval(ctx, script)
}

// byLook keeps every promise of a save but one: a write between its GET and its SET is overwritten.
func (s *saving) byLook(ctx context.Context) (v verdict, theirs record.Value, err error) {
	err = s.retry(ctx, func(ctx context.Context) (err error) {
		// Both again where a reply was lost: only a look tells whether the SET has been done.
		get, tombstone := redis.NewStringCmd("get", s.key), redis.NewStringCmd("get", s.tombstone(s.key))
		if _, err := s.attempt(ctx, get, tombstone); err != nil {
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
			v, theirs, err = s.found(now)
			return err
		}
		set := redis.NewStatusCmd(expiring([]any{"set", s.key, string(s.value), condition}, s.life)...)
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
