// How a session moves to another key, and how a move is taken back of which no reply came.

package redis

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/beego-session/redis/internal/record"
)

var (
	//go:embed regenerate.lua
	regenerateSource string
	//go:embed unregenerate.lua
	unregenerateSource string
	//go:embed remove.lua
	removeSource string
	//go:embed unremove.lua
	unremoveSource string

	regenerateScript   = newScript(regenerateSource)
	unregenerateScript = newScript(unregenerateSource)
	removeScript       = newScript(removeSource)
	unremoveScript     = newScript(unremoveSource)
)

// rebinding makes of a value as it is stored under one key what it is under another. Nil: it is the same.
type rebinding func(record.Value) (record.Value, error)

// regenerate moves a session to a new key with a full life time, and returns it with one more version. A script knows neither of
// a life time of its own nor of its age: the caller finds out whether it has another than it should. Where there is none under
// the old key it leaves an empty one under the new. After an error the session is under its old key, unless the error says that
// it may not be.
func (c *commands) regenerate(ctx context.Context, oldKey, key string, l lives, rebind rebinding) (stored, error) {
	if oldKey != key && (c.link.clustered() || c.sharded.Load() || rebind != nil) || c.scriptless() {
		return c.copyAndRemove(ctx, oldKey, key, l, rebind)
	}
	version := record.NewVersion()
	keys := []string{oldKey, key, c.tombstone(oldKey), c.tombstone(key)}
	get := newString("get", key)
	var grace []command
	if oldKey != key {
		grace = c.beginGrace(oldKey)
	}
	reply, doubtful, err := c.eval(c.forward(ctx), run{
		script: regenerateScript, keys: keys, before: grace, after: []command{get},
		args: expiring([]any{string(version), string(record.Empty(version)), c.tombstoneLife}, l.now("")),
	})
	takeBack := func() error {
		reply, _, err := c.eval(ctx, run{script: unregenerateScript, keys: keys, args: []any{string(version), c.tombstoneLife}})
		if err == nil && reply != int64(1) {
			err = errTaken
		}
		return err
	}
	switch {
	case err == nil && get.Err() == nil:
		return written(record.Value(get.Val()), l.now("")), nil
	case err == nil && oldKey == key:
		return stored{}, errRemoved
	case err == nil:
		// It may have gone to where nobody finds it, because another server has the new id.
		if err := takeBack(); err != nil {
			return stored{}, fmt.Errorf("the session is not found under its new id, and taking it back failed: %w", err)
		}
		old, err := c.read(ctx, oldKey)
		switch {
		case err != nil:
			return stored{}, err
		case old.present:
			c.sharded.Store(true)
		case reply != int64(2):
			return stored{}, errRemoved
		}
		return c.copyAndRemove(ctx, oldKey, key, l, rebind)
	case isReply(err, "CROSSSLOT "):
		c.sharded.Store(true)
		return c.copyAndRemove(ctx, oldKey, key, l, rebind)
	case c.scriptless() && oldKey != key:
		// A proxy may have said in words that are not known here that its connection failed. By this tombstone of the new id the
		// script does nothing from now on; whether it was done is seen there.
		get := newString("get", key)
		if err := c.do(ctx, c.bury(key, version), get); err != nil {
			return stored{}, fmt.Errorf("%w; and whether the session was moved before is not known", err)
		}
		if moved := record.Value(get.Val()); strings.HasSuffix(string(moved), string(version)) {
			return written(moved, l.now("")), nil
		}
		return c.copyAndRemove(ctx, oldKey, key, l, rebind)
	case c.scriptless():
		return c.copyAndRemove(ctx, oldKey, key, l, rebind)
	case doubtful && oldKey != key:
		return stored{}, c.unless(err, takeBack)
	}
	return stored{}, err
}

// errRemoved is the error of a regenerate whose session has gone.
var errRemoved = errors.New("the session was removed as soon as it had its new id")

// errTaken is the error of taking back a move from an id that is no longer free.
var errTaken = errors.New("the old id was destroyed or created anew in between, and the session stays under the new one")

// forward is the context of a regenerate that leaves a third of its time for taking it back.
func (c *commands) forward(ctx context.Context) context.Context {
	ctx = limit(ctx, time.Now().Add(c.timeLimit))
	deadline, _ := ctx.Deadline()
	return limit(ctx, time.Now().Add(time.Until(deadline)*2/3))
}

// unless takes back what failed with err, once, and says so where that fails as well.
func (c *commands) unless(err error, takeBack func() error) error {
	if failed := takeBack(); failed != nil {
		return fmt.Errorf("%w; and taking it back failed, so that the session may be under the new id: %w", err, failed)
	}
	return err
}

// copyAndRemove regenerates where no script may touch both keys. It copies, and removes the old session only if it
// still is what was copied: of several regenerates at once, the one that removes it carries the data on. Until that is
// known the copy stays, so that there is one.
func (c *commands) copyAndRemove(ctx context.Context, oldKey, key string, l lives, rebind rebinding) (stored, error) {
	forward := c.forward(ctx)
	get := newString("get", oldKey)
	now, err := c.look(forward, key, get)
	if err != nil {
		return stored{}, err
	}
	old, present := record.Value(get.Val()), get.Err() == nil
	if oldKey == key && present {
		_, err := c.renew(ctx, key, l.now(old))
		now.expires = written(old, l.now(old)).expires
		return now, err
	}
	move := func(v record.Value, version record.Version) (record.Value, error) {
		if v = v.Moved(version); rebind == nil {
			return v, nil
		}
		return rebind(v)
	}
	for placed := false; present; placed = true {
		version := record.NewVersion()
		moved, err := move(old, version)
		if err == nil {
			now, err = c.place(forward, key, now, moved, l)
		} else if !placed {
			return stored{}, err
		}
		if err != nil {
			return stored{}, errors.Join(err, c.remove(ctx, key)) // the old session is untouched
		}
		verdict, found, doubtful, err := c.removeCopied(forward, oldKey, old, version, c.beginGrace(oldKey)...)
		if err == nil && verdict == saved && found != old { // it was changed right before, and nobody else has it
			doubtful = true
			if moved, err = move(found, record.NewVersion()); err == nil {
				verdict, _, err = c.save(forward, key, now, moved, l.now(moved), false)
			}
			if err == nil && verdict != saved {
				return stored{}, errRemoved // the copy, by somebody who found it
			}
			now = written(moved, l.now(moved))
		}
		switch {
		case err != nil && !doubtful:
			return stored{}, errors.Join(err, c.remove(ctx, key)) // the old session is untouched
		case err != nil:
			return stored{}, c.unless(err, func() error { return c.unremove(ctx, oldKey, key, old, version, l) })
		case verdict == saved:
			return now, nil
		case verdict == conflict:
			old = found
		default:
			present = false
		}
	}
	if oldKey != key {
		err = c.do(forward, append(c.beginGrace(oldKey), c.addToTombstone(oldKey)...)...)
	}
	if err == nil {
		now, err = c.place(forward, key, now, record.Empty(record.NewVersion()), l)
	}
	if err != nil {
		return stored{}, errors.Join(err, c.remove(ctx, key)) // there is no old session
	}
	return now, nil
}

// reserve leaves an empty session, whatever there was.
func (c *commands) reserve(ctx context.Context, key string, l lives) (stored, error) {
	now, err := c.look(ctx, key)
	if err != nil {
		return stored{}, err
	}
	return c.place(ctx, key, now, record.Empty(record.NewVersion()), l)
}

// place writes a session over what there is now. Like save it does so once: if the command comes late, and the session
// has gone on, it does nothing.
func (c *commands) place(ctx context.Context, key string, now stored, value record.Value, l lives) (stored, error) {
	for {
		life := l.now(value)
		verdict, theirs, err := c.save(ctx, key, now, value, life, true)
		switch {
		case err != nil:
			return stored{}, err
		case verdict == saved:
			return written(value, life), nil
		case verdict == conflict:
			now = written(theirs, life)
		default:
			if now, err = c.look(ctx, key); err != nil {
				return stored{}, err
			}
		}
		if over(ctx) {
			return stored{}, fmt.Errorf("the new id is in use: %w", context.DeadlineExceeded)
		}
	}
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

// removeCopied deletes a session that still is what was copied, and returns what it has deleted. version is that of the
// copy. doubtful tells of an error that the session may be deleted all the same.
func (c *commands) removeCopied(ctx context.Context, key string, copied record.Value, version record.Version, before ...command) (
	v verdict, found record.Value, doubtful bool, err error,
) {
	if !c.scriptless() {
		tail, start := ending(copied)
		remove := run{
			script: removeScript, keys: []string{key, c.tombstone(key)},
			args: []any{tail, start, string(version), c.tombstoneLife}, before: before,
		}
		if c.apart.Load() {
			if err := c.do(ctx, append(before, c.bury(key, version))...); err != nil {
				return 0, "", false, err
			}
			remove.keys, remove.before = remove.keys[:1], nil
		}
		reply, doubtful, err := c.eval(ctx, remove)
		switch v, found := judge(reply); {
		case err != nil && (!c.scriptless() || c.apart.Load()):
			return 0, "", doubtful || c.scriptless(), err
		case err != nil:
			// As in regenerate: it may have been done all the same.
			tombstone := newString("get", c.tombstone(key))
			if err := c.do(ctx, tombstone); err != nil {
				return 0, "", true, err
			} else if strings.Contains(tombstone.Val(), string(version)) {
				return saved, copied, false, nil
			}
		case v == saved:
			return saved, copied, false, nil
		case doubtful && reply == int64(-1):
			return 0, "", true, errors.New("the reply was lost, and no tombstone tells whether the session was removed by that")
		default:
			return v, found, false, nil
		}
	}
	// A session that was renamed to a key which nobody else knows is ours, whatever it is: a repeat finds it there.
	removal := c.removal(key, version)
	get := newString("get", removal)
	err = c.do(ctx, append(before,
		c.bury(key, version), newInt("renamenx", key, removal), get, newInt("expire", removal, c.tombstoneLife))...)
	switch {
	case err != nil && !isReply(err, "ERR no such key"):
		return 0, "", true, err
	case get.Err() != nil:
		return gone, "", false, nil
	}
	return saved, record.Value(get.Val()), false, nil
}

func (c *commands) removal(key string, version record.Version) string {
	return c.prefix + removals + key + "}:" + hex.EncodeToString([]byte(version))
}

// unremove takes back a removal, and then the copy. Without scripts the copy stays: the removal may still come.
func (c *commands) unremove(ctx context.Context, key, copyKey string, copied record.Value, version record.Version, l lives) error {
	if found, err := c.look(ctx, copyKey); err != nil {
		return err
	} else if !found.present && found.tombstone != "" {
		return errRemoved
	}
	if c.apart.Load() {
		return errors.New("no server can tell whether it was moved")
	} else if c.scriptless() {
		back := newInt("renamenx", c.removal(key, version), key)
		if err := c.do(ctx, back); err != nil || back.Val() == 1 {
			return err
		}
		return errTaken
	}
	again := record.NewVersion()
	reply, _, err := c.eval(ctx, run{
		script: unremoveScript, keys: []string{key, c.tombstone(key)},
		args: expiring([]any{string(version), string(copied.Moved(again)), string(again)}, l.now(copied)),
	})
	switch {
	case err != nil:
		return err
	case reply == int64(2):
		return errTaken
	}
	// The tombstone of the copy is its version, by which regenerate.lua, too, finds out that it comes too late.
	return c.do(ctx, c.bury(copyKey, version), newInt("del", copyKey))
}

// giveBack undoes a regenerate that was done: the session is under its old key again, with one more version.
func (c *commands) giveBack(ctx context.Context, oldKey, key string, moved record.Value, l lives) error {
	if oldKey == key {
		return nil
	}
	if c.apart.Load() {
		old, err := c.look(ctx, oldKey)
		if err == nil {
			_, err = c.place(ctx, oldKey, old, moved.Moved(record.NewVersion()), l)
		}
		if err == nil {
			err = c.remove(ctx, key)
		}
		return err
	}
	old := moved.Unmoved()
	version := record.Version(moved[len(old):]) // also where it stands behind something damaged
	err := c.unremove(ctx, oldKey, key, old, version, l)
	if err == nil && c.scriptless() {
		err = c.remove(ctx, key) // no removal is to come any more
	}
	return err
}
