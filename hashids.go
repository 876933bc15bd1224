// Under which name a session stands in Redis: its id, or a hash of that by which nobody can log in; and how it moves from the
// one to the other.

package redis

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/beego-session/redis/internal/record"
	"github.com/go-redis/redis/v7"
)

var (
	//go:embed take.lua
	takeSource string
	takeScript = newScript(takeSource)
)

// hashedNames is what a name begins with that is a hash. No id may begin so: with hash_ids "accept" an id is a name too, and
// whoever reads a hash in Redis could send it as a cookie.
const hashedNames = "sha256:"

// hashedName tells whether a name is a hash.
func hashedName(name string) bool {
	digits, ok := strings.CutPrefix(name, hashedNames)
	return ok && len(digits) == 2*sha256.Size && strings.Trim(digits, "0123456789abcdef") == ""
}

// name is what the session with an id is known by in this process, and where ids are hashed in Redis. Of a name it is the name.
func (b *backend) name(sid string) string {
	if b.hashIDs == hashNone || hashedName(sid) {
		return sid
	}
	return hashOf(sid)
}

// hashOf returns the name that is the hash of an id.
func hashOf(sid string) string {
	var room [maxIDLength]byte
	sum := sha256.Sum256(append(room[:0], sid...))
	var name [len(hashedNames) + 2*sha256.Size]byte
	hex.Encode(name[copy(name[:], hashedNames):], sum[:])
	return string(name[:])
}

// newName is the name under which a session with an id is created.
func (b *backend) newName(sid string) string {
	if b.hashIDs == hashAccept {
		return sid
	}
	return b.name(sid)
}

// checkName is checkID for who may also give a name that a listing has returned.
func (b *backend) checkName(sid string) error {
	if b.hashIDs != hashNone && hashedName(sid) {
		return nil
	}
	return b.checkID(sid)
}

// find looks for a session, for whoever may create it where create is set, and returns the name under which it stands, or is to
// be created. known says that the id came with a request. Any other was drawn a moment ago, by beego for SessionRead, and who
// watches the server must not see it: so it is not looked for under the id, unless sessions are created there. Other
// commands may travel along.
func (b *backend) find(ctx context.Context, sid, name string, create, known bool, also ...command) (found stored, stands string, err error) {
	if b.hashIDs == hashAccept {
		return b.findEither(ctx, sid, name, also...)
	}
	if create {
		found, err = b.commands.look(ctx, b.key(name), also...)
	} else {
		found, err = b.commands.read(ctx, b.key(name))
	}
	if err == nil && !found.present && known && b.hashIDs == hashAll {
		return b.findEither(ctx, sid, name)
	}
	return found, name, err
}

// either is what there is of a session under its id and its hash.
type either struct {
	plain, hashed stored
	taken         stored // what waits to get under the hash; movedMark where that is done
}

// movedMark stands where a session has waited that has moved to its hash since.
const movedMark = "moved"

// waiting tells whether a session was taken from its id and has not come under its hash yet.
func (e either) waiting() bool { return e.taken.present && e.taken.value != movedMark }

// taken is the key where a session waits that is being moved from its id to the hash.
func (c *commands) taken(plainKey string) string { return c.prefix + removals + plainKey + "}" }

// lookAtBoth is look at a session under its id, under its hash, and between the two. Other commands travel behind that.
func (c *commands) lookAtBoth(ctx context.Context, plainKey, hashKey string, also ...command) (e either, err error) {
	taken, hashed := newLook(c.taken(plainKey)), newLook(hashKey)
	tombstone := newString("get", c.tombstone(hashKey))
	e.plain, err = c.look(ctx, plainKey, append([]command{taken.get, taken.pttl, hashed.get, hashed.pttl, tombstone}, also...)...)
	if err != nil {
		return either{}, err
	}
	e.taken, e.hashed = taken.found(), hashed.found()
	e.hashed.tombstone = tombstone.Val()
	if !e.plain.present && e.taken.present && !e.hashed.present { // another server may have looked before it came there
		e.hashed, err = c.look(ctx, hashKey)
	}
	return e, err
}

// another is a look that travels with others.
type another struct {
	get  *stringCmd
	pttl *intCmd
}

func newLook(key string) another {
	return another{newString("get", key), newInt("pttl", key)}
}

func (l another) found() stored {
	if l.get.Err() != nil {
		return stored{}
	}
	return found(l.get, l.pttl)
}

// findEither looks for a session under its id and its hash, to which it moves it if it is to.
func (b *backend) findEither(ctx context.Context, sid, hash string, also ...command) (found stored, stands string, err error) {
	e, err := b.commands.lookAtBoth(ctx, b.key(sid), b.key(hash), also...)
	switch {
	case err != nil:
		return stored{}, "", err
	case e.hashed.present:
		if e.waiting() { // its mark is about to come, or its process has ended
			b.endMove(ctx, sid)
		}
		return e.hashed, hash, nil
	case e.plain.present && b.hashIDs == hashAll, e.waiting():
		return b.move(ctx, sid, hash, e)
	case e.plain.present:
		return e.plain, sid, nil
	case b.hashIDs == hashAll:
		return stored{tombstone: cmp.Or(e.hashed.tombstone, e.plain.tombstone)}, hash, nil
	}
	return stored{tombstone: cmp.Or(e.plain.tombstone, e.hashed.tombstone)}, sid, nil
}

// move moves a session from its id to its hash, with the life time that it has left, and returns it and where it stands then. It
// takes it from its id, so that nobody saves it there any more, puts it under the hash, and leaves a mark that this is done. Whoever
// finds it in between goes on with that. A tombstone of the hash says that it is being destroyed, first there and then under its id.
func (b *backend) move(ctx context.Context, sid, hash string, e either) (found stored, stands string, err error) {
	ctx = limit(detached(ctx), time.Now().Add(b.commands.timeLimit))
	c, plainKey, hashKey := b.commands, b.key(sid), b.key(hash)
	now, err := c.look(ctx, hashKey)
	if err != nil || now.present {
		return now, hash, err
	}
	last := e.plain.value
	if e.waiting() {
		last = e.taken.value
	}
	user := b.userStored(plainKey, last) // where that does not decode, the entry of its id stays, by which it is found too
	if !e.waiting() {
		if now.tombstone != "" || c.apart.Load() {
			return e.plain, sid, nil
		}
		life := b.lives(0).of(last)
		if left := secondsLeft(e.plain); left == 0 || life != 0 && left > life { // another process may give it longer
			life = left
		}
		if err := b.list(ctx, user, life, hash, sid); err != nil {
			return stored{}, "", err
		}
		if e.taken, err = c.take(ctx, plainKey); err != nil {
			return stored{}, "", err
		}
		if !e.waiting() { // another has moved it; or it was destroyed, or cannot be taken now
			if now, err = c.look(ctx, hashKey); err != nil || now.present {
				return now, hash, err
			}
			if found, err = c.look(ctx, plainKey); err == nil && !found.present {
				found.tombstone = cmp.Or(now.tombstone, found.tombstone)
			}
			return found, sid, err
		}
	}
	if now.tombstone == "" {
		_, _, err := c.save(ctx, hashKey, now, e.taken.value.Moved(record.NewVersion()), secondsLeft(e.taken), true)
		if err != nil {
			return stored{}, "", err
		}
	}
	if found, err = c.look(ctx, hashKey); err != nil {
		return stored{}, "", err
	}
	if found.tombstone != "" { // it was destroyed meanwhile, and where no scripts can be run it may have been created after that
		if found.present {
			err = c.remove(ctx, hashKey)
		}
		return stored{tombstone: found.tombstone}, hash, errors.Join(err, c.do(ctx, newInt("del", c.taken(plainKey))))
	}
	if err := c.do(ctx, newAny("setex", c.taken(plainKey), c.tombstoneLife, movedMark)); err != nil {
		return stored{}, "", err
	}
	b.unlistID(ctx, user, sid)
	return found, hash, nil
}

// take takes a session from its id, and returns what waits then: also if another has taken it.
func (c *commands) take(ctx context.Context, plainKey string) (stored, error) {
	key := c.taken(plainKey)
	waits := newLook(key)
	if !c.scriptless() {
		take := run{
			script: takeScript, keys: []string{plainKey, key, c.tombstone(plainKey)}, args: []any{string(record.NewVersion()), c.tombstoneLife},
			after: []command{waits.get, waits.pttl},
		}
		reply, doubtful, err := c.eval(ctx, take)
		if err == nil && waits.get.Err() == redis.Nil && (reply == int64(1) || doubtful) {
			// It was destroyed right after that, or a proxy does not keep the two together, and nobody finds it there.
			take.args, take.after = []any{"back"}, nil
			if reply, _, err = c.eval(ctx, take); err == nil && reply == int64(1) {
				c.apart.Store(true)
			}
			return stored{}, err
		}
		if err == nil || !c.scriptless() {
			return waits.found(), err
		}
	}
	err := c.do(ctx, newInt("renamenx", plainKey, key), waits.get, waits.pttl)
	if isReply(err, "ERR no such key") {
		err = nil
	}
	return waits.found(), err
}

// unlistID drops an id from the index of a user, because its session has moved. Where that fails, SessionsOf does it.
func (b *backend) unlistID(ctx context.Context, user, sid string) {
	if user != "" {
		_ = b.commands.do(ctx, newInt("zrem", b.commands.index(user), sid))
	}
}

// secondsLeft is how long a session has to live, in seconds; 0 is for ever.
func secondsLeft(s stored) int64 {
	if s.expires.IsZero() {
		return 0
	}
	return max(1, roundUp(time.Until(s.expires)))
}

// follow has a store whose session is no longer found under its id find it under its hash, if it has moved there. became is then
// conflict, or saved where what was to be saved with the version had been before that, and else gone.
func (s *SessionStore) follow(ctx context.Context, version record.Version) (became verdict, theirs record.Value, err error) {
	b := s.backend
	if b.hashIDs == hashNone || hashedName(s.name()) {
		return gone, "", nil
	}
	now, stands, err := b.findEither(ctx, s.sid, b.name(s.sid))
	if err != nil {
		return gone, "", err
	}
	if !now.present || stands == s.name() {
		return gone, "", nil
	}
	s.hashed.Store(true)
	b.unlistID(ctx, b.userStored(s.key(), now.value), s.sid) // which this process may have entered under the id
	if version != "" && now.value.Holds(version) {
		return saved, now.value, nil
	}
	return conflict, now.value, nil
}

// removed tells whether the session, which is not there, was destroyed or regenerated of late, under either name.
func (s *SessionStore) removed(ctx context.Context) (bool, error) {
	b, name := s.backend, s.name()
	removed, err := b.commands.removed(ctx, b.key(name))
	if hash := b.name(name); err == nil && !removed && hash != name {
		return b.commands.removed(ctx, b.key(hash))
	}
	return removed, err
}

// regenerateID moves a session to a new id, from whichever name it has.
func (b *backend) regenerateID(ctx context.Context, oldsid, sid string, l lives, failures *untold) (name string, found stored, values map[any]any, err error) {
	if b.hashIDs == hashNone {
		found, values, err = b.regenerate(ctx, oldsid, sid, l, failures)
		return sid, found, values, err
	}
	name = b.newName(sid)
	if b.checkID(oldsid) != nil {
		found, values, err = b.regenerate(ctx, "", name, l, failures)
		return name, found, values, err
	}
	old, err := b.nameOf(ctx, oldsid)
	if err != nil {
		return "", stored{}, nil, err
	}
	if oldsid == sid {
		name = old
	}
	found, values, err = b.regenerate(ctx, old, name, l, failures)
	if err == nil && len(values) == 0 && old == oldsid { // it may have moved to its hash meanwhile
		now, stands, failed := b.findEither(ctx, oldsid, b.name(oldsid))
		if err = failed; now.present && stands != old {
			old = stands
			found, values, err = b.regenerate(ctx, old, name, l, failures)
		}
	}
	if err == nil && oldsid != sid {
		if err := b.removeOther(ctx, oldsid, old); err != nil {
			failures.add("regenerate", sid, fmt.Errorf("a copy under the old id, which was being moved to its hash, may be left: %w", err))
		}
	}
	return name, found, values, err
}

// nameOf returns the name under which a session stands that is to be regenerated.
func (b *backend) nameOf(ctx context.Context, sid string) (name string, err error) {
	name = b.name(sid)
	if b.hashIDs == hashAll {
		if found, err := b.commands.read(ctx, b.key(name)); err != nil || found.present {
			return name, err
		}
	}
	found, stands, err := b.findEither(ctx, sid, name)
	if err == nil && !found.present {
		stands = b.newName(sid)
	}
	return stands, err
}

// removeOther removes what the other name of an id has, whose session was regenerated: it may be waiting to move there.
func (b *backend) removeOther(ctx context.Context, sid, name string) error {
	if name == sid {
		hashKey := b.key(b.name(sid))
		if err := b.commands.do(ctx, append(b.commands.addToTombstone(hashKey), newInt("del", hashKey))...); err != nil {
			return err
		}
	}
	return b.removePlain(ctx, sid, false)
}

// removePlain removes what is under an id or was taken from there, if anything is. It leaves a tombstone only then: that has the
// id in its key. A log-out also replaces one that is there, by which a regenerate would be taken back, and ends a grace.
func (b *backend) removePlain(ctx context.Context, sid string, logOut bool) error {
	c, key := b.commands, b.key(sid)
	keys := []string{key, c.taken(key)}
	var ends []command
	if logOut {
		keys, ends = append(keys, c.tombstone(key)), c.endGrace(key)
	}
	var there []command
	for _, key := range keys {
		there = append(there, newInt("exists", key))
	}
	if err := c.do(ctx, append(there, ends...)...); err != nil {
		return err
	}
	if !slices.ContainsFunc(there, func(cmd command) bool { return cmd.(*intCmd).Val() > 0 }) {
		return nil
	}
	tombstone := c.addToTombstone(key)
	if logOut {
		tombstone = []command{c.bury(key, record.NewVersion())}
	}
	return c.do(ctx, append(tombstone, newInt("del", key), newInt("del", c.taken(key)))...)
}

// remove removes a session under all its names, that of its hash first: who watches the server sees its id only when it is no
// longer one. sid may be a name.
func (b *backend) remove(ctx context.Context, sid string) error {
	name := b.name(sid)
	err := b.commands.remove(ctx, b.key(name))
	if err == nil && name != sid && b.hashIDs == hashAccept { // also one that is about to be created there
		err = b.commands.remove(ctx, b.key(sid))
	}
	if err == nil && name != sid {
		err = b.removePlain(ctx, sid, true)
	}
	return err
}

// inspectEither is inspect where an id may be that of a session which stands under its hash.
func (b *backend) inspectEither(ctx context.Context, ids []string) (found []stored, names []string, err error) {
	names = slices.Clone(ids)
	var keys []string
	for _, id := range ids {
		keys = append(keys, b.key(id))
	}
	var plain []int
	for i, id := range ids {
		if !hashedName(id) {
			plain = append(plain, i)
			keys = append(keys, b.commands.taken(b.key(id)), b.key(b.name(id)))
		}
	}
	all, err := b.commands.readAll(ctx, keys)
	if err != nil {
		return nil, nil, err
	}
	found = all[:len(ids)]
	for n, i := range plain {
		e := either{taken: all[len(ids)+2*n], hashed: all[len(ids)+2*n+1]}
		switch {
		case found[i].present: // also if there is another under the hash, which is entered by that
		case e.hashed.present:
			found[i], names[i] = e.hashed, b.name(ids[i])
		case e.waiting():
			found[i] = e.taken
		}
	}
	return found, names, nil
}

// endMove leaves the mark of a move whose process may have ended before that, and tells whether nothing waits any more.
func (b *backend) endMove(ctx context.Context, sid string) bool {
	c := b.commands
	return c.do(ctx, newAny("set", c.taken(b.key(sid)), movedMark, "ex", c.tombstoneLife, "xx")) == nil
}

// onceEach leaves out sessions that were found by their id and by their hash.
func (b *backend) onceEach(sessions []SessionInfo) []SessionInfo {
	met := make(map[string]bool)
	return slices.DeleteFunc(sessions, func(s SessionInfo) bool {
		name := b.name(s.ID)
		again := met[name]
		met[name] = true
		return again
	})
}
