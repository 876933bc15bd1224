// Which keys may be used together: behind one address there may be a cluster, or a proxy that spreads the keys over servers
// and runs a script on the server of its first key, where the others are missing.

package redis

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
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
// may not do it or the server cannot do it now, shows when a session is regenerated.
func (c *commands) survey(ctx context.Context) error {
	ctx = limit(ctx, time.Now().Add(c.timeLimit))
	var keys []string // of sessions, each followed by that of its tombstone
	var write, clear []command
	for range surveyed {
		key := c.prefix + surveyName()
		keys = append(keys, key, c.tombstone(key))
	}
	for _, key := range keys {
		write = append(write, newAny("setex", key, minTombstoneLife, ""))
		clear = append(clear, newInt("del", key))
	}
	if _, err := c.attempt(ctx, write...); isReply(err, "MOVED ") {
		return errors.New("this is a node of a cluster with several: use the provider redis_cluster, or the mode cluster")
	} else if err != nil {
		return ctx.Err()
	}
	defer func() { _, _ = c.attempt(ctx, clear...) }() // or they expire

	var sessions, parts, there []command
	for i := 0; i < len(keys); i += 2 {
		sessions = append(sessions, newAny("eval", bothExist, 2, keys[0], keys[i]))
		parts = append(parts, newAny("eval", bothExist, 2, keys[i], keys[i+1]))
		there = append(there, newInt("exists", keys[i]), newInt("exists", keys[i+1]))
	}
	if _, err := c.attempt(ctx, slices.Concat(sessions, parts, there)...); err != nil && (retryable(err) || !isReply(err, "")) {
		return ctx.Err()
	}
	if err := sessions[0].Err(); err != nil { // of one key, given twice
		c.noteRefusal(err)
		return nil
	}
	for _, key := range there {
		if key.(*intCmd).Val() != 1 {
			return nil // evicted
		}
	}
	together := func(scripts []command) bool {
		for _, cmd := range scripts {
			if cmd.Err() != nil || cmd.(*anyCmd).Val() != int64(2) {
				return false
			}
		}
		return true
	}
	c.sharded.Store(!together(sessions))
	c.apart.Store(!together(parts))
	return nil
}
