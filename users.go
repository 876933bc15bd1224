// The index of the sessions of each user, by which all of them are found without a look at those of others.

package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/beego-session/redis/internal/gobmap"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego/beego/v2/server/web/session"
)

var (
	//go:embed list.lua
	listSource string
	//go:embed unlist.lua
	unlistSource string

	listScript   = newScript(listSource)
	unlistScript = newScript(unlistSource)
)

// SessionInfo is what is known of a session beside its values. Created is by the clock of the process that has made the session, the
// other times are by that of this one.
type SessionInfo struct {
	// ID is the session's id, which is as good as a password. With hash_ids it is "sha256:…", with which SessionDestroy ends the session and
	// nobody logs in.
	ID string

	Created  time.Time // or when its age began anew, to a second; zero if that is not known, as of a session that beego's provider has made
	LastSeen time.Time // when its life time was last renewed, which is done once in touch_interval; zero if it does not expire
	Expires  time.Time // zero if it does not expire
	Size     int       // in bytes, as it is stored

	// LifeTime is that of SetLifeTime, or 0. If max_age is to end the session before its life time does, LastSeen is the earliest time
	// that it can have been.
	LifeTime time.Duration
}

// SessionsOf returns the sessions of a user, the one that was last seen first, without those that have reached max_age. The user is
// the value under the session's user_key, as a string; there it may also be an integer of any kind. It is an error if no user_key
// is configured, and ErrUnreachable or ErrClosed as everywhere.
//
// A session is found from its first save on in which it has the user; one that gets a new id at this very moment may be missing
// once. One that a process without this user_key, or beego's provider, has saved or renewed is found after it was next saved, or
// renewed once touch_interval has passed. So is one whose entry in the index was lost, because the server evicts keys or was
// replaced by one that had not yet received it, if an hour, or a hundredth of the life time, has passed since it was last entered.
func (p *Provider) SessionsOf(ctx context.Context, user string) ([]SessionInfo, error) {
	asked, refused := p.lifeHook.ask(ctx)
	b, err := p.begin()
	if err != nil {
		return nil, err
	}
	if refused != nil {
		defer b.tell(ctx, askLife, "", refused) // when the gate is left
	}
	defer b.gate.leave()
	sessions, _, err := b.sessionsOf(background(ctx), user, b.lives(asked))
	if err != nil {
		return nil, b.fail("list a user's sessions", "", err)
	}
	return slices.DeleteFunc(sessions, func(s SessionInfo) bool { return b.past(s.Created) }), nil
}

// DestroyAll destroys the sessions of a user, except those with the given ids (their own, or as SessionsOf returns them), and
// returns how many it has destroyed. It looks again until it finds no more, so that one that gets a new id meanwhile does not
// escape; a log-in that is under way at the same time may come after it. After an error some may be left: call it again. It is an
// error if no user_key is configured. It does not heed the cancellation of ctx.
func (p *Provider) DestroyAll(ctx context.Context, user string, except ...string) (destroyed int, err error) {
	b, err := p.begin()
	if err != nil {
		return 0, err
	}
	defer b.gate.leave()
	if destroyed, err = b.destroyAll(detached(ctx), user, except); err != nil {
		return destroyed, b.fail("destroy the sessions of a user", "", err)
	}
	return destroyed, nil
}

// maxRounds is how often DestroyAll looks for what came while it destroyed what it had found.
const maxRounds = 16

func (b *backend) destroyAll(ctx context.Context, user string, except []string) (destroyed int, err error) {
	var known []string // that were in the index already when it was looked at the last time
	kept := make(map[string]bool)
	for _, sid := range except {
		kept[b.name(sid)] = true
	}
	for range maxRounds {
		sessions, entered, err := b.sessionsOf(ctx, user, b.lives(0))
		if err != nil {
			return destroyed, err
		}
		sessions = slices.DeleteFunc(sessions, func(s SessionInfo) bool { return kept[b.name(s.ID)] })
		for _, s := range sessions {
			if err := b.destroy(ctx, s.ID); err != nil {
				return destroyed, err
			}
			destroyed++
		}
		// A session may have moved from an id at which it was yet to be looked for to one at which it no longer was. Both were in the
		// index by then, so that there the next round finds it.
		slices.Sort(entered)
		if len(sessions) == 0 && slices.Equal(entered, known) {
			return destroyed, nil
		}
		known = entered
	}
	return destroyed, errors.New("new ones keep being created: the user is logging in")
}

// userOf returns whose a session is, empty for nobody's.
func (b *backend) userOf(values map[any]any) string {
	if b.userKey == "" {
		return ""
	}
	value := values[b.userKey]
	if carried, ok := value.(gobmap.Carried); ok {
		value = carried.Basic()
	}
	switch v := reflect.ValueOf(value); {
	case value == nil:
		return ""
	case v.Kind() == reflect.String:
		return v.String()
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	}
	b.noUser.Do(func() {
		session.SLogger.Printf("session/redis: sessions with a %T under the user_key %q are nobody's: "+
			"put a string or an integer there that says who the user is", value, b.userKey)
	})
	return ""
}

// userStored is userOf of what is stored under a key, and empty where that does not decode. Without an index nothing is decoded.
func (b *backend) userStored(key string, value record.Value) string {
	if b.userKey == "" {
		return ""
	}
	values, err := b.decode(key, value)
	if err != nil {
		return ""
	}
	return b.userOf(values)
}

// list enters sessions in the index of their user. Whatever makes a session, renews it or makes it a user's does that first:
// an id in the index may point to nothing, but no session is missing there.
func (b *backend) list(ctx context.Context, user string, life int64, ids ...string) error {
	if user == "" {
		return nil
	}
	if err := b.commands.list(ctx, user, life, ids...); err != nil {
		return fmt.Errorf("enter it in the index of its user: %w", err)
	}
	return nil
}

// listStored enters a session as it is stored now, and under the same user the id to which it is about to move: the move may be
// taken back, so that both are needed. It returns whose it is, and what it is now.
func (b *backend) listStored(ctx context.Context, sid string, l lives, next ...string) (user string, value record.Value, err error) {
	if b.userKey == "" {
		return "", "", nil
	}
	now, err := b.commands.read(ctx, b.key(sid))
	if err != nil {
		return "", "", err
	}
	values, err := b.decode(b.key(sid), now.value)
	if err != nil {
		return "", "", err
	}
	user = b.userOf(values)
	return user, now.value, b.list(ctx, user, l.of(now.value), append(next, sid)...)
}

// listing returns what a session of a user and life time is to be saved with, and whether it must be entered in the index before.
func (b *backend) listing(id, user string, life int64, before record.Value) (l record.Listing, enter bool) {
	l, now := before.Listing(), time.Now()
	switch {
	case user == "":
		return "", false
	case l.Since(id, user, life, now, listInterval(life)):
		return l, false
	}
	return record.NewListing(id, user, life, now), true
}

// sessionsOf returns the sessions of a user, and what was entered in the index. It drops from that what is none.
func (b *backend) sessionsOf(ctx context.Context, user string, l lives) (sessions []SessionInfo, entered []string, err error) {
	if b.userKey == "" {
		return nil, nil, errors.New("user_key is not configured: it names the key under which a session has its user")
	}
	if entered, err = b.commands.listed(ctx, user); err != nil {
		return nil, nil, err
	}
	var others []string
	for ids := range slices.Chunk(entered, inspected) {
		found, names, err := b.inspect(ctx, ids)
		if err != nil {
			return nil, nil, err
		}
		for i, s := range found {
			// Of a session that does not decode here it is not known whose it is now: it is whose it was.
			values, _, err := b.decodeStrictly(b.key(names[i]), s.value)
			theirs, moved := s.present && (err != nil || b.unknownUser(values) || b.userOf(values) == user), names[i] != ids[i]
			if theirs {
				sessions = append(sessions, info(names[i], s, l))
			}
			// Its id is needed as long as that is all that leads to what waits or, entered by who cannot tell whose it is, to the hash.
			if moved && (theirs && !slices.Contains(entered, names[i]) || !b.endMove(ctx, ids[i])) {
				continue
			}
			if !theirs || moved {
				others = append(others, ids[i])
			}
		}
	}
	for ids := range slices.Chunk(others, inspected) {
		if err := b.commands.unlist(ctx, user, ids); err != nil {
			break // they are dropped the next time
		}
	}
	if b.hashIDs != hashNone {
		sessions = b.onceEach(sessions)
	}
	slices.SortStableFunc(sessions, func(a, b SessionInfo) int { return b.LastSeen.Compare(a.LastSeen) })
	return sessions, entered, nil
}

// inspected is how many sessions are looked at in one round trip.
const inspected = 100

// inspect returns sessions as they are stored, and the names under which they stand.
func (b *backend) inspect(ctx context.Context, ids []string) (found []stored, names []string, err error) {
	if b.hashIDs != hashNone {
		return b.inspectEither(ctx, ids)
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = b.key(id)
	}
	found, err = b.commands.readAll(ctx, keys)
	return found, ids, err
}

func info(id string, s stored, l lives) SessionInfo {
	info := SessionInfo{
		ID: id, Created: s.value.Created(), Expires: s.expires, Size: len(s.value),
		LifeTime: time.Duration(s.value.OwnLife()) * time.Second,
	}
	if life := l.of(s.value); life > 0 && !s.expires.IsZero() {
		info.LastSeen = s.expires.Add(-time.Duration(life) * time.Second)
		if l.maxAge != 0 && info.LastSeen.Before(info.Created) { // that is to end it
			info.LastSeen = info.Created
		}
	}
	return info
}

// checkIndex finds out whether there can be an index: where there cannot, no session that has a user could be saved.
func (b *backend) checkIndex(ctx context.Context) error {
	if b.userKey == "" {
		return nil
	}
	user := surveyName()
	err := b.commands.list(ctx, user, 1, user)
	if err == nil {
		_, err = b.commands.listed(ctx, user)
	}
	if err == nil {
		err = b.commands.do(ctx, newInt("del", b.commands.index(user)))
	}
	if isReply(err, "") && !retryable(err) {
		err = fmt.Errorf("user_key needs sorted sets, and for an ACL user the rights that docs/configuration.md names: %w", err)
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
		err := c.evalIndex(ctx, listScript, key, entryLife, ids)
		if !refusesScripts(unwrap(err)) {
			return err
		}
	}
	// The same, with the clock of this process, and with a look before it.
	look := []command{newInt("pttl", key)}
	for _, id := range ids {
		look = append(look, newString("zscore", key, id))
	}
	if err := c.do(ctx, look...); err != nil {
		return err
	}
	now := time.Now().Unix()
	add := []any{"zadd", key}
	for i, id := range ids {
		score, _ := strconv.ParseFloat(look[1+i].(*stringCmd).Val(), 64) // 0 where there is none
		ends := max(float64(now+entryLife), math.Floor(score))
		add = append(add, strconv.FormatFloat(ends+float64(now%(1<<18))/(1<<18), 'g', 17, 64), id)
	}
	write := []command{newInt(add...), newInt("zremrangebyscore", key, "-inf", now)}
	if look[0].(*intCmd).Val() < entryLife*1000 {
		write = append(write, newInt("expire", key, entryLife))
	}
	return c.do(ctx, write...)
}

// listed returns the sessions in the index of a user.
func (c *commands) listed(ctx context.Context, user string) ([]string, error) {
	ids := newAny("zrange", c.index(user), 0, -1)
	if err := c.do(ctx, ids); err != nil {
		return nil, err
	}
	return ids.strings()
}

// unlist drops from the index of a user what was found to be none of theirs, but not what is about to become it. Without scripts
// it stays until it would have ended.
func (c *commands) unlist(ctx context.Context, user string, ids []string) error {
	if c.scriptless() {
		return nil
	}
	return c.evalIndex(ctx, unlistScript, c.index(user), c.tombstoneLife, ids)
}

// evalIndex runs list.lua or unlist.lua.
func (c *commands) evalIndex(ctx context.Context, s script, key string, seconds int64, ids []string) error {
	args := []any{seconds}
	for _, id := range ids {
		args = append(args, id)
	}
	_, _, err := c.eval(ctx, run{script: s, keys: []string{key}, args: args, aside: true})
	return err
}
