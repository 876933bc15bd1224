// Which keys may be used together: behind one address there may be a cluster, or a proxy that spreads the keys over servers
// and runs a script on the server of its first key, where the others are missing.

package redis

import (
	"context"
	"encoding/hex"
	"errors"
	"sync/atomic"

	"github.com/beego-session/redis/internal/record"
	"github.com/go-redis/redis/v7"
)

// layout is what is known of where the keys are.
type layout struct {
	sharded atomic.Bool // two sessions may be on different servers
	apart   atomic.Bool // so may be a session and what belongs to it, whose key has that of the session in braces
}

// bothExist is a script that tells how many of two keys exist where it is run. Some proxies read scripts, and want keys to
// be written like this.
const bothExist = "return redis.call('EXISTS', KEYS[1], KEYS[2])"

// surveyed is how many keys are tried: two servers have all of them together once in 2^15 times, if they have as many keys.
const surveyed = 16

// survey finds out where the keys are, by keys of its own that it removes again. What cannot be found out, because this user
// may not do it or the server does not take writes now, shows when a session is regenerated.
func (c *commands) survey(ctx context.Context) error {
	var keys []string
	var write, clear []redis.Cmder
	for range surveyed {
		key := c.prefix + "survey:" + hex.EncodeToString([]byte(record.NewVersion()))
		for _, k := range []string{key, c.tombstone(key)} {
			write = append(write, redis.NewStatusCmd("setex", k, temporaryLife, ""))
			clear = append(clear, redis.NewIntCmd("del", k))
		}
		keys = append(keys, key)
	}
	if err := c.do(ctx, write...); isReply(err, "MOVED ") {
		return errors.New("this is a node of a cluster with several: use the provider redis_cluster, or the mode cluster")
	} else if err != nil {
		return nil
	}
	defer func() { _ = c.do(ctx, clear...) }() // or they expire

	var sessions, parts []redis.Cmder
	for _, key := range keys {
		sessions = append(sessions, redis.NewCmd("eval", bothExist, 2, keys[0], key))
		parts = append(parts, redis.NewCmd("eval", bothExist, 2, key, c.tombstone(key)))
	}
	_ = c.do(ctx, append(sessions, parts...)...) // what comes of each is in it
	together := func(cmds []redis.Cmder) bool {
		for _, cmd := range cmds {
			if cmd.Err() != nil || cmd.(*redis.Cmd).Val() != int64(2) {
				return false
			}
		}
		return true
	}
	if err := sessions[0].Err(); err != nil { // a script of one key
		c.noteRefusal(err)
		return nil
	}
	c.sharded.Store(!together(sessions))
	c.apart.Store(!together(parts))
	return nil
}
