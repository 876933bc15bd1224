// How long a session has to live: by its own life time, the application's or the configured one, and by its age.

package redis

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/record"
)

// keepLife, in the place of a life time, is what is left of the one that the session has.
const keepLife = -1

// lives tells how long sessions live, in seconds, where 0 is for ever.
type lives struct {
	usual  int64 // those that have no life time of their own
	maxAge time.Duration
}

// of returns the life time of a session, whatever its age.
func (l lives) of(value record.Value) int64 { return cmp.Or(value.OwnLife(), l.usual) }

// now returns how long a session has to live from now on: its life time, at most what is left of max_age, and a second at least. One
// whose age is not known is as old as a new one. (So is one that is younger than that, because clocks differ.)
func (l lives) now(value record.Value) int64 {
	life := l.of(value)
	if l.maxAge == 0 {
		return life
	}
	left := l.maxAge
	if created := value.Created(); !created.IsZero() {
		left = min(left, time.Until(created.Add(l.maxAge)))
	}
	if seconds := max(roundUp(left), 1); life == 0 || seconds < life {
		return seconds
	}
	return life
}

// roundUp returns whole seconds.
func roundUp(d time.Duration) int64 {
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return seconds
}

// agedOut tells whether a session has reached max_age.
func (c *config) agedOut(value record.Value) bool {
	return c.maxAge != 0 && c.past(value.Created())
}

// past is agedOut of a session that was created at a time, or zero where that is not known.
func (c *config) past(created time.Time) bool {
	return c.maxAge != 0 && !created.IsZero() && time.Since(created) >= c.maxAge
}

// ageless tells whether a session that has to have an age has none: beego's provider has made or saved it.
func (c *config) ageless(s stored) bool {
	return c.maxAge != 0 && s.present && s.value.Created().IsZero()
}

// renewAfter is how much of a life time may pass before it is renewed. touch_interval is for the configured one: for a shorter one it
// may be too long.
func (b *backend) renewAfter(life int64) time.Duration {
	hundredth := time.Duration(life) * time.Second / 100
	switch {
	case b.touchInterval == defaultTouchInterval:
		return hundredth
	case life == 0 || b.life != 0 && life >= b.life:
		return b.touchInterval
	}
	return min(b.touchInterval, hundredth)
}

// agingSlack is by how much what is left of max_age may differ from what Redis has: both are rounded, and clocks differ.
const agingSlack = 5 * time.Second

// overdue tells whether a session is to have another life time from now on than it has: it has more, or a part of that has passed.
func (b *backend) overdue(s stored, l lives) bool {
	life, now := l.of(s.value), l.now(s.value)
	if now == life {
		return s.off(life, 0, b.renewAfter(life))
	}
	return s.off(now, agingSlack, max(b.renewAfter(now), agingSlack))
}

// off tells whether a session has another life time than it should, in seconds, by so much more or so much less.
func (s stored) off(life int64, more, less time.Duration) bool {
	if s.expires.IsZero() || life == 0 {
		return !s.expires.IsZero() || life != 0
	}
	left, should := time.Until(s.expires), time.Duration(life)*time.Second
	return left-should > more || should-left >= less
}

// timing is what a request says of the life time and the age of its session.
type timing struct {
	ownLife *int64 // in seconds, 0 for none; nil: nothing
	newAge  bool
}

// then returns t followed by later.
func (t timing) then(later timing) timing {
	return timing{ownLife: cmp.Or(later.ownLife, t.ownLife), newAge: t.newAge || later.newAge}
}

// SetLifeTime gives this session a life time of its own, as for "remember me", in the place of the configured one. It is rounded up
// to whole seconds; 0 takes it back. A negative one, or one of more than 292 years, is an ErrRefusedValue.
//
// It stays until it is set again, also under a new id, and counts from each time that the session is saved or its life time is
// renewed. One that is shorter than the configured one is renewed when a hundredth of it has passed. max_age may end the session
// before. Like a key it is saved by SessionRelease, and of two requests that set it the later release wins. The browser keeps the
// cookie for beego's SessionCookieLifeTime, which has to be as long as the longest life time.
func (s *SessionStore) SetLifeTime(_ context.Context, d time.Duration) error {
	seconds := roundUp(d)
	if d < 0 || seconds > record.MaxLife {
		return refused("a life time of %v is not possible: give up to %d seconds, or 0 for that of the provider", d, record.MaxLife)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.base.value.OwnLife()
	if s.set.ownLife != nil {
		now = *s.set.ownLife
	}
	if now != seconds {
		s.set.ownLife = &seconds
		s.timed(timing{ownLife: &seconds})
	}
	if seconds != 0 {
		s.backend.requests.ownLives.Store(true)
	}
	return nil
}

// ResetAge begins the age of this session anew, which max_age limits. Call it where a user logs in, so that the time before the
// log-in does not count; SessionRegenerate does not do it. It is saved by SessionRelease, even if nothing else has changed.
func (s *SessionStore) ResetAge(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set.newAge = true
	s.timed(timing{newAge: true})
}

// timed takes note of what was set. The caller holds mu.
func (s *SessionStore) timed(t timing) {
	s.edits.timing = s.edits.timing.then(t)
	for since := range s.updates {
		since.timing = since.timing.then(t)
	}
	s.refused = false
}

// NoActivity says that this request is no use of the session, like that of a page that polls: its release does not renew the life
// time, and saves what was changed with what is left of that. A new session has all of its life time all the same, and so have one
// whose life time this request sets and one that gets a new id.
func (s *SessionStore) NoActivity(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inactive = true
}

// life returns the life time of the session as it is to be saved. The caller holds mu.
func (s *SessionStore) life(l lives) int64 {
	if s.set.ownLife != nil {
		return cmp.Or(*s.set.ownLife, l.usual)
	}
	return l.of(s.base.value)
}

// time says how long the session is to live that a draft saves. The caller holds mu.
func (s *SessionStore) time(d *draft, l lives) {
	d.past = s.backend.agedOut(d.base.value) && !s.set.newAge
	if d.life = l.now(d.value); s.inactive && d.base.present && s.set.ownLife == nil {
		d.life = keepLife
	}
}

// written is what the session is after the draft was saved now.
func (d *draft) written() stored {
	if d.life == keepLife {
		return stored{value: d.value, present: true, expires: d.base.expires}
	}
	return written(d.value, d.life)
}

// renew begins the life time of a session anew that was value when it was read, and does nothing where there is none. It tells
// whether there is one, as far as that shows, and how long it has to live.
func (b *backend) renew(ctx context.Context, sid string, value record.Value, l lives) (there bool, life int64, err error) {
	for {
		if _, now, err := b.listStored(ctx, sid, l); err != nil { // which another request may have made a user's
			return false, 0, err
		} else if now != "" {
			value = now
		}
		if life = l.now(value); b.agedOut(value) {
			return false, life, nil
		}
		if b.maxAge == 0 && value.OwnLife() == 0 && !b.requests.ownLives.Load() {
			there, err = b.commands.renew(ctx, b.key(sid), life)
			return there, life, err
		}
		get := newString("get", b.key(sid))
		if there, err = b.commands.renew(ctx, b.key(sid), life, get); err != nil || get.Err() != nil {
			return there, life, err
		}
		// Another request may have given it another life time, or age, since it was read.
		now := record.Value(get.Val())
		if now.OwnLife() == value.OwnLife() && now.Created().Equal(value.Created()) {
			return there, life, nil
		}
		value = now
	}
}

// renewable tells whether the life time is due to be renewed. The caller holds mu.
func (s *SessionStore) renewable(l lives) bool {
	return !s.inactive && !s.backend.agedOut(s.base.value) && s.backend.overdue(s.base, l)
}

// lifeHook is the function of LifeTime. It outlives a SessionInit.
type lifeHook struct {
	f    atomic.Pointer[func(context.Context) time.Duration]
	told atomic.Int64 // when of a life time that is not possible, by sinceStart; 0: not yet
}

// LifeTime has f asked for the life time of sessions that have none of their own, in the place of beego's SessionGCMaxLifetime. It
// is asked once in each release, Update, SessionRegenerate and SessionsOf, within the request; ctx has the values of the request's
// context, and is not cancelled. It may use the provider and the session, but not release that, and several calls may be under way
// at a time.
//
// The answer is rounded up to whole seconds. 0 stands for the configured life time. So does an answer below a second or above 292
// years, of which OnError is told once a minute. When the answer becomes shorter, a session is shortened when it is next used; when
// it becomes longer, it is lengthened then.
//
// It may be set at any time, and stays over a SessionInit. With nil, as at first, nothing is asked.
func (p *Provider) LifeTime(f func(ctx context.Context) time.Duration) {
	if f == nil {
		p.lifeHook.f.Store(nil)
	} else {
		p.lifeHook.f.Store(&f)
	}
}

// ask returns the life time that the application wants, in seconds, or 0 for the configured one. It is not to be called within the
// gate or under a lock.
func (h *lifeHook) ask(ctx context.Context) (life int64, err error) {
	f := h.f.Load()
	if f == nil {
		return 0, nil
	}
	d := (*f)(detached(ctx))
	if life = roundUp(d); d == 0 || d >= time.Second && life <= record.MaxLife {
		return life, nil
	}
	last, now := h.told.Load(), sinceStart()
	if last == 0 || now-last >= int64(time.Minute) {
		if h.told.CompareAndSwap(last, now) {
			err = fmt.Errorf("the function of LifeTime gave %v: 1 second to 292 years are possible, and the configured life time is used", d)
		}
	}
	return 0, err
}

// lives is how long sessions live by what was asked.
func (b *backend) lives(asked int64) lives { return lives{cmp.Or(asked, b.life), b.maxAge} }

// askLife is the operation that fails where the function of LifeTime gives what cannot be.
const askLife = "ask for the life time of"

// end removes a session that has reached max_age, unless its age has begun anew since it was found, and returns what there is then. It
// is not only left out: a request that creates a session under this id would find it, and take over what it holds.
func (b *backend) end(ctx context.Context, sid string, found stored) (stored, error) {
	key := b.key(sid)
	err := b.exclusively(ctx, sid, func(ctx context.Context) (err error) {
		for b.agedOut(found.value) {
			if _, _, _, err = b.commands.removeCopied(ctx, key, found.value, record.NewVersion()); err != nil {
				return err
			} else if found, err = b.commands.look(ctx, key); err != nil {
				return err
			} else if over(ctx) {
				return fmt.Errorf("it has reached max_age, and others keep changing it: %w", context.DeadlineExceeded)
			}
		}
		return nil
	})
	return found, err
}

// settleMoved gives a session that was moved what the move has not: the life time of its own, or what is left of its age. One that
// has reached max_age is not moved, but an empty one is made. Where the life time fails it is mended when it is next renewed.
func (b *backend) settleMoved(ctx context.Context, sid string, moved stored, l lives, failures *untold) (stored, error) {
	key, life := b.key(sid), l.now(moved.value)
	switch {
	case b.agedOut(moved.value):
		return b.commands.place(ctx, key, moved, record.Empty(record.NewVersion()), l)
	case life == l.now(""), !moved.off(life, agingSlack, agingSlack):
		return moved, nil
	}
	if _, err := b.commands.renew(ctx, key, life); err != nil {
		failures.add("renew the life time of", sid, err)
		return moved, nil
	}
	return written(moved.value, life), nil
}
