// The Redis commands that a session needs, each as one call that is repeated where that is safe.

package redis

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis/v7"
)

var (
	//go:embed save.lua
	saveSource string
	//go:embed regenerate.lua
	regenerateSource string
	//go:embed remove.lua
	removeSource string

	saveScript       = newScript(saveSource)
	regenerateScript = newScript(regenerateSource)
	removeScript     = newScript(removeSource)
)

// stored is a session as Redis holds it.
type stored struct {
	data    string
	present bool
	expires time.Time // zero where it does not expire
}

// verdict is what became of a save.
type verdict int

const (
	saved    verdict = iota
	gone             // there is no session to save into: it was destroyed, regenerated or has expired
	conflict         // somebody else wrote meanwhile
)

// commands is what a session asks of one server or cluster. Keys are whole, life times are in seconds and 0 means no
// expiry. Its errors are those of go-redis and of the server: the caller adds what it was doing, and where.
type commands struct {
	*roundTrips
	prefix string // with which every key begins
}

// read fetches a session and how long it has to live, in one round trip.
func (c *commands) read(ctx context.Context, key string) (stored, error) {
	var k any = key // once for both
	get := redis.NewStringCmd("get", k)
	pttl := redis.NewIntCmd("pttl", k)
	if err := c.do(ctx, get, pttl); err != nil {
		return stored{}, err
	}
	if get.Err() == redis.Nil {
		return stored{}, nil
	}
	s := stored{data: get.Val(), present: true}
	if ms := pttl.Val(); ms >= 0 {
		s.expires = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
	return s, nil
}

// save writes data, if the session still is what was read. Where create is false it never makes a new session. On a
// conflict it returns what it found.
func (c *commands) save(ctx context.Context, key string, read stored, data string, life int64, create bool) (verdict, string, error) {
	if c.scriptless.Load() {
		return c.saveWithoutScript(ctx, key, read, data, life, create)
	}
	was := "present"
	if !read.present {
		if was = "never"; create {
			was = "absent"
		}
	}
	reply, err := c.eval(ctx, saveScript, []string{key}, data, life, was, read.data)
	if c.scriptless.Load() {
		return c.saveWithoutScript(ctx, key, read, data, life, create)
	}
	if err != nil {
		return 0, "", err
	}
	verdict, found := judge(reply)
	return verdict, found, nil
}

// judge reads the reply of save.lua and remove.lua.
func judge(reply any) (v verdict, found string) {
	switch reply := reply.(type) {
	case string:
		return conflict, reply
	case int64:
		if reply == 1 {
			return saved, ""
		}
	}
	return gone, ""
}

// saveWithoutScript keeps every promise of save but one: a write between its GET and its SET is overwritten.
func (c *commands) saveWithoutScript(ctx context.Context, key string, read stored, data string, life int64, create bool) (verdict, string, error) {
	get := redis.NewStringCmd("get", key)
	if err := c.do(ctx, get); err != nil {
		return 0, "", err
	}
	found, absent := get.Val(), get.Err() == redis.Nil
	if absent && (read.present || !create) {
		return gone, "", nil
	}
	if !absent && found != data && (!read.present || found != read.data) {
		return conflict, found, nil
	}
	// XX does not bring back what is destroyed meanwhile, NX does not overwrite what another request creates.
	condition := "xx"
	if absent {
		condition = "nx"
	}
	args := []any{"set", key, data, condition}
	if life > 0 {
		args = append(args, "ex", life)
	}
	set := redis.NewStatusCmd(args...)
	if err := c.do(ctx, set); err != nil {
		return 0, "", err
	}
	if set.Err() == redis.Nil && absent {
		return c.saveWithoutScript(ctx, key, read, data, life, create)
	} else if set.Err() == redis.Nil {
		return gone, "", nil
	}
	return saved, "", nil
}

// touch sets the life time of a session that exists, and does nothing to one that does not.
func (c *commands) touch(ctx context.Context, key string, life int64) error {
	if life == 0 {
		return c.do(ctx, redis.NewIntCmd("persist", key))
	}
	return c.do(ctx, redis.NewIntCmd("expire", key, life))
}

// remove deletes a session, or finds it gone.
func (c *commands) remove(ctx context.Context, key string) error {
	return c.do(ctx, redis.NewIntCmd("del", key))
}

// ping asks whether the server answers.
func (c *commands) ping(ctx context.Context) error {
	return c.do(ctx, redis.NewStatusCmd("ping"))
}

// regenerate moves a session to a new key with a full life time, and returns it. Where there is none under the old key
// it leaves an empty one under the new.
func (c *commands) regenerate(ctx context.Context, oldKey, key string, life int64) (stored, error) {
	if c.cluster() == nil && !c.scriptless.Load() {
		reply, err := c.eval(ctx, regenerateScript, []string{oldKey, key}, life)
		if err == nil {
			return written(reply.(string), life), nil
		}
		if !c.scriptless.Load() {
			return stored{}, err
		}
	}
	return c.copyAndRemove(ctx, oldKey, key, life)
}

// copyAndRemove regenerates where no script may touch both keys. It copies, and removes the old session only if it
// still is what was copied: of several regenerates at once, the one that removes it carries the data on.
func (c *commands) copyAndRemove(ctx context.Context, oldKey, key string, life int64) (stored, error) {
	old, err := c.read(ctx, oldKey)
	if err != nil {
		return stored{}, err
	}
	if oldKey == key {
		return c.put(ctx, key, old.data, life)
	}
	for old.present {
		if _, err := c.put(ctx, key, old.data, life); err != nil {
			return stored{}, err
		}
		verdict, found, err := c.removeCopied(ctx, oldKey, old.data, key)
		if err != nil {
			// The old id stays valid, so its data may not stay under the new one as well.
			return stored{}, errors.Join(err, c.remove(ctx, key))
		}
		switch verdict {
		case saved:
			return written(old.data, life), nil
		case conflict:
			old.data = found
		case gone:
			old = stored{}
		}
	}
	return c.put(ctx, key, "", life)
}

// removeCopied deletes a session that still is data, which was copied to another key.
func (c *commands) removeCopied(ctx context.Context, key, data, copiedTo string) (verdict, string, error) {
	if !c.scriptless.Load() {
		reply, err := c.eval(ctx, removeScript, []string{key, c.receipt(key)}, data, copiedTo)
		if err == nil {
			verdict, found := judge(reply)
			return verdict, found, nil
		}
		if !c.scriptless.Load() {
			return 0, "", err
		}
	}
	del := redis.NewIntCmd("del", key)
	if err := c.do(ctx, del); err != nil {
		return 0, "", err
	}
	if del.Val() == 0 {
		return gone, "", nil
	}
	return saved, "", nil
}

// receipt is a key in the slot of the given one. It begins with the same prefix, so that an ACL which allows the one
// allows the other.
func (c *commands) receipt(key string) string {
	if strings.Contains(c.prefix, "{") {
		return key + ":moved"
	}
	return c.prefix + "moved:{" + key + "}"
}

// put writes a session whatever there was.
func (c *commands) put(ctx context.Context, key, data string, life int64) (stored, error) {
	cmd := redis.NewStatusCmd("setex", key, life, data)
	if life == 0 {
		cmd = redis.NewStatusCmd("set", key, data)
	}
	return written(data, life), c.do(ctx, cmd)
}

// written is what a session is after data was written now.
func written(data string, life int64) stored {
	s := stored{data: data, present: true}
	if life > 0 {
		s.expires = time.Now().Add(time.Duration(life) * time.Second)
	}
	return s
}

// count counts the keys under the prefix, on every master. With no prefix that is every key of the database. While keys
// come and go the count is near, not exact.
func (c *commands) count(ctx context.Context) (int, error) {
	var total atomic.Int64
	countOn := func(node node) error {
		return c.retry(ctx, func(ctx context.Context) error {
			n, err := countKeys(ctx, node, c.prefix)
			if err == nil {
				total.Add(n)
			}
			return err
		})
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

func countKeys(ctx context.Context, on node, prefix string) (int64, error) {
	if prefix == "" {
		size := redis.NewIntCmd("dbsize")
		err := on.ProcessContext(ctx, size)
		return size.Val(), err
	}
	pattern := globEscaper.Replace(prefix) + "*"
	var n int64
	for cursor := uint64(0); ; {
		scan := redis.NewScanCmd(nil, "scan", cursor, "match", pattern, "count", 1000)
		if err := on.ProcessContext(ctx, scan); err != nil {
			return 0, err
		}
		var keys []string
		keys, cursor = scan.Val()
		if n += int64(len(keys)); cursor == 0 {
			return n, nil
		}
	}
}

var globEscaper = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`, `^`, `\^`, `-`, `\-`)
