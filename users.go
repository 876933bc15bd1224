// The index of the sessions of each user, by which all of them are found without a look at those of others.

package redis

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/beego-session/redis/internal/record"
	"github.com/go-redis/redis/v7"
)

var (
	//go:embed list.lua
	listSource string
	//go:embed unlist.lua
	unlistSource string

	listScript   = newScript(listSource)
	unlistScript = newScript(unlistSource)
)

// SessionInfo is what is known of a session beside its values.
type SessionInfo struct {
	ID       string
	Created  time.Time // to a second; zero where it is not known, as of a session that beego's provider has made
	LastSeen time.Time // when its life time was last renewed, which is done once in touch_interval; zero where it does not expire
	Expires  time.Time // zero where it does not expire
	Size     int       // bytes
}

// SessionsOf returns the sessions of a user, the one that was last seen first. The user is the value under the session's
// user_key, in the form that fmt.Sprint gives it. It is an error where no user_key is configured.
//
// A session is found from its first save on in which it has the user. One that was saved before user_key was configured, or
// by a process without it, is found after it is next saved, or renewed once touch_interval has passed; so is one whose index
// was lost because the server evicts keys.
func (p *Provider) SessionsOf(ctx context.Context, user string) ([]SessionInfo, error) {
	b, err := p.begin()
	if err != nil {
		return nil, err
	}
	defer b.gate.leave()
	sessions, err := b.sessionsOf(background(ctx), user)
	if err != nil {
		return nil, b.fail("list a user's sessions", "", err)
	}
	return sessions, nil
}

// DestroyAll destroys the sessions of a user, but for those with the ids that are excepted, and returns how many. It looks
// again until it finds none, so that one that gets a new id meanwhile does not escape. A log-in that is under way at the same
// time may come after it. After an error some may be left: call it again. It does not heed the cancellation of ctx.
func (p *Provider) DestroyAll(ctx context.Context, user string, except ...string) (destroyed int, err error) {
	b, err := p.begin()
	if err != nil {
		return 0, err
	}
	defer b.gate.leave()
	ctx = detached(ctx)
	for range maxRounds {
		sessions, err := b.sessionsOf(ctx, user)
		if err != nil {
			return destroyed, b.fail("destroy the sessions of a user", "", err)
		}
		sessions = slices.DeleteFunc(sessions, func(s SessionInfo) bool { return slices.Contains(except, s.ID) })
		if len(sessions) == 0 {
			return destroyed, nil
		}
		for _, s := range sessions {
			if err := p.SessionDestroy(ctx, s.ID); err != nil {
				return destroyed, err
			}
			destroyed++
		}
	}
	return destroyed, b.fail("destroy the sessions of a user", "", errors.New("new ones keep being created: the user is logging in"))
}

// maxRounds is how often DestroyAll looks for what came while it destroyed what it had found.
const maxRounds = 16

// userOf returns whose a session is, empty for nobody's.
func (b *backend) userOf(values map[any]any) string {
	if b.userKey == "" {
		return ""
	}
	switch user := values[b.userKey].(type) {
	case nil:
		return ""
	case string:
		return user
	default:
		return fmt.Sprint(user)
	}
}

// list enters sessions in the index of their user. Whatever makes a session, renews it or makes it a user's does that first:
// an id in the index may point to nothing, but no session is missing there.
func (b *backend) list(ctx context.Context, user string, ids ...string) error {
	if user == "" {
		return nil
	}
	if err := b.commands.list(ctx, user, b.life, ids...); err != nil {
		return fmt.Errorf("enter it in the index of its user: %w", err)
	}
	return nil
}

// listMoving enters a session in the index that is about to move: under its new id, and under the old one, to which the move
// may be taken back. It returns whose it is.
func (b *backend) listMoving(ctx context.Context, oldsid, sid string) (user string, err error) {
	if b.userKey == "" {
		return "", nil
	}
	old, err := b.commands.read(ctx, b.key(oldsid))
	if err != nil {
		return "", err
	}
	values, err := old.value.Decode()
	if err != nil {
		return "", nil // nor is it moved
	}
	user = b.userOf(values)
	return user, b.list(ctx, user, sid, oldsid)
}

// listing returns what a session of a user is to be saved with, and whether it must be entered in the index before.
func (b *backend) listing(id, user string, before record.Value) (l record.Listing, enter bool) {
	l, now := before.Listing(), time.Now()
	switch {
	case b.userKey == "" || l.Since(id, user, now, listInterval(b.life)):
		return l, false
	case user == "":
		return "", false
	}
	return record.NewListing(id, user, now), true
}

// sessionsOf returns the sessions of a user, and drops from the index what is none.
func (b *backend) sessionsOf(ctx context.Context, user string) ([]SessionInfo, error) {
	if b.userKey == "" {
		return nil, errors.New("user_key is not configured: it names the key under which a session has its user")
	}
	entered, err := b.commands.listed(ctx, user)
	if err != nil {
		return nil, err
	}
	var sessions []SessionInfo
	var others []string
	for ids := range slices.Chunk(entered, inspected) {
		found, err := b.inspect(ctx, ids)
		if err != nil {
			return nil, err
		}
		for i, s := range found {
			// Of a session that does not decode here it is not known whose it is now: it is whose it was.
			if values, err := s.value.Decode(); s.present && (err != nil || b.userOf(values) == user) {
				sessions = append(sessions, b.info(ids[i], s))
			} else {
				others = append(others, ids[i])
			}
		}
	}
	slices.SortStableFunc(sessions, func(a, b SessionInfo) int { return b.LastSeen.Compare(a.LastSeen) })
	return sessions, b.commands.unlist(ctx, user, b.life, others)
}

// inspected is how many sessions are looked at in one round trip.
const inspected = 100

// inspect returns sessions as they are stored.
func (b *backend) inspect(ctx context.Context, ids []string) ([]stored, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = b.key(id)
	}
	return b.commands.readAll(ctx, keys)
}

func (b *backend) info(id string, s stored) SessionInfo {
	info := SessionInfo{ID: id, Created: s.value.Created(), Expires: s.expires, Size: len(s.value)}
	if b.life > 0 && !s.expires.IsZero() {
		info.LastSeen = s.expires.Add(-time.Duration(b.life) * time.Second)
	}
	return info
}

// checkIndex finds out whether there can be an index: where there cannot, no session that has a user could be saved.
func (b *backend) checkIndex(ctx context.Context) error {
	if b.userKey == "" {
		return nil
	}
	key := surveys + hex.EncodeToString([]byte(record.NewVersion()))
	err := b.commands.list(ctx, key, 1, key)
	if err == nil {
		_, err = b.commands.listed(ctx, key)
	}
	if err != nil {
		err = fmt.Errorf("user_key needs an index of users, which needs sorted sets and for an ACL user the rights that the README names: %w", err)
	}
	return err
}

// index is the key of the index of a user.
func (c *commands) index(user string) string { return c.prefix + indexes + user + "}" }

const (
	// centuries is the life time of an entry of a session that lives for ever, in seconds.
	centuries = 400 * 365 * 24 * 3600

	// maxListInterval is how long a session that is saved again and again is not entered in the index once more.
	maxListInterval = time.Hour
)

// listInterval is maxListInterval, or less for sessions that live shorter.
func listInterval(life int64) time.Duration {
	if life == 0 {
		return maxListInterval
	}
	return min(time.Duration(life)*time.Second/100, maxListInterval)
}

// entryLife is after how many seconds a session has ended that was entered in the index and not entered again. The clocks of
// the processes that save it may differ by as much as a tombstone lasts.
func (c *commands) entryLife(life int64) int64 {
	if life == 0 {
		life = centuries
	}
	return life + int64(listInterval(life)/time.Second) + 1 + c.tombstoneLife
}

// list enters sessions in the index of a user.
func (c *commands) list(ctx context.Context, user string, life int64, ids ...string) error {
	key, entryLife := c.index(user), c.entryLife(life)
	if !c.scriptless() {
		args := []any{entryLife}
		for _, id := range ids {
			args = append(args, id)
		}
		_, _, err := c.eval(ctx, run{script: listScript, keys: []string{key}, args: args, aside: true})
		if !refusesScripts(unwrap(err)) {
			return err
		}
	}
	now := time.Now().Unix() // which differs from one process to another
	add := []any{"zadd", key}
	for _, id := range ids {
		add = append(add, now+entryLife, id)
	}
	return c.do(ctx, redis.NewIntCmd(add...), redis.NewIntCmd("zremrangebyscore", key, "-inf", now), redis.NewIntCmd("expire", key, entryLife))
}

// listed returns the sessions in the index of a user.
func (c *commands) listed(ctx context.Context, user string) ([]string, error) {
	ids := redis.NewStringSliceCmd("zrange", c.index(user), 0, -1)
	err := c.do(ctx, ids)
	return ids.Val(), err
}

// unlist drops from the index of a user what was found to be none of theirs, but not what is about to become it. Without scripts
// it stays until it would have ended.
func (c *commands) unlist(ctx context.Context, user string, life int64, ids []string) error {
	if len(ids) == 0 || c.scriptless() {
		return nil
	}
	args := []any{c.entryLife(life), c.tombstoneLife}
	for _, id := range ids {
		args = append(args, id)
	}
	_, _, err := c.eval(ctx, run{script: unlistScript, keys: []string{c.index(user)}, args: args, aside: true})
	if refusesScripts(unwrap(err)) {
		return nil
	}
	return err
}
