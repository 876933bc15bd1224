// Sessions that only pass by: a request goes on with an empty one, of which nothing is ever saved, where beego would else give
// its visitor a new id. That is so for a while under an id that a session has moved away from (regenerate_grace), and while
// Redis cannot be reached (on_outage).

package redis

import (
	"context"
	"slices"
)

// passingStore is an empty session that is never saved, whatever happens to it, and that tells nobody so.
func (b *backend) passingStore(sid string) *SessionStore {
	return &SessionStore{backend: b, sid: sid, values: make(map[any]any), passing: true}
}

// overlooks tells whether a request is to go on in spite of the error of its look: Redis cannot be reached, and that is
// configured to cost nobody a page.
func (b *backend) overlooks(ctx context.Context, err error) bool {
	return b.onOutage == "anonymous" && ctx.Err() == nil && !b.gate.isShut() && unreached(err)
}

// unreached tells whether there was no server that serves.
func unreached(err error) bool {
	switch kindOf(err) {
	case KindUnreachable, KindTimeout:
		return true
	case KindRefused:
		return servesNobody(err)
	}
	return false
}

// graceKey is there as long as the id of a session that has moved away exists as an empty one.
func (c *commands) graceKey(key string) string { return c.prefix + graces + key + "}" }

// beginGrace is the command by which a key gets its grace, to be sent right before the session moves: from then on a late
// request may come at any time. There is none where no grace is configured.
func (c *commands) beginGrace(key string) []command {
	if c.graceLife == 0 {
		return nil
	}
	return []command{newAny("setex", c.graceKey(key), c.graceLife, "")}
}

// endGrace is the command that ends the grace of a key, if any is configured.
func (c *commands) endGrace(key string) []command {
	if c.graceLife == 0 {
		return nil
	}
	return []command{newInt("del", c.graceKey(key))}
}

// askGrace is the commands that ask for the grace of a session that is looked for, if any is configured: under the names under
// which it may have stood. known is that of find. They must not come before the look.
func (b *backend) askGrace(sid, name string, known bool) []command {
	if b.commands.graceLife == 0 {
		return nil
	}
	asked := []command{newString("get", b.commands.graceKey(b.key(name)))}
	if name != sid && (known || b.hashIDs != hashAll) {
		asked = append(asked, newString("get", b.commands.graceKey(b.key(sid))))
	}
	return asked
}

// answered tells whether the commands of askGrace have found a grace, after a round trip that succeeded.
func answered(asked []command) bool {
	return slices.ContainsFunc(asked, func(cmd command) bool { return cmd.Err() == nil })
}

// inGrace tells whether a session that was found to be absent has its grace.
func (b *backend) inGrace(ctx context.Context, sid, name string) (bool, error) {
	asked := b.askGrace(sid, name, true)
	if asked == nil {
		return false, nil
	}
	err := b.commands.do(ctx, asked...)
	return err == nil && answered(asked), err
}
