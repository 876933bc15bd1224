// Update: changes that depend on what others have saved.

package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/beego-session/redis/internal/record"
	"github.com/beego/beego/v2/server/web/session"
)

// Update has f change the session as it now stands in Redis, together with what was changed in s before, and saves that at once. If
// another request saves meanwhile, what f did is dropped, and f is called again with what there is by then. So f may decide by what
// it reads, as for a counter or a stock. When Update returns nil, the changes are in Redis, and s has them too: values are to be
// got again. A new session is created.
//
// f changes the store that it gets, whose values are copies. That store is of no use after it, and its release does nothing. f may
// be called several times, and may do anything with s and the provider, except save this session each time or close the provider.
// If f returns an error, or panics, nothing is saved; the error is returned as it is.
//
// Update ends when ctx does, or after one time limit, to which the time that f takes does not count. What it has begun to save it
// finishes. Nothing is saved if an entry cannot be encoded (ErrRefusedValue), or if the session would grow beyond max_session_bytes
// (ErrTooLarge) or no longer exists (ErrGone). After any other error the message says where the changes may have been saved all the
// same; s then neither makes them again nor takes them back.
func (s *SessionStore) Update(ctx context.Context, f func(session.Store) error) error {
	b := s.backend
	switch {
	case s.view:
		return errors.New("session/redis: the store of an Update cannot be updated itself")
	case s.passing:
		return b.wrap("update", s.sid, fmt.Errorf("%w: this request goes on without", ErrGone))
	}
	var failures untold
	asked, err := b.lifeHook.ask(ctx)
	if err != nil {
		failures.add(askLife, s.sid, err)
	}
	if !b.gate.enter() {
		return b.fail("update", s.sid, ErrClosed)
	}
	defer func() { b.tellAll(ctx, failures) }()
	defer b.gate.leave()
	u := &update{SessionStore: s, begun: time.Now(), lives: b.lives(asked), merges: &merging{of: b.merges.all()}, failures: &failures}
	defer b.leaveTurn(u.merges, s.sid)
	u.watch()
	defer u.unwatch()
	for {
		v, err := u.look(background(ctx))
		if err != nil {
			return u.failed(err)
		}
		begun := time.Now()
		err = f(v.store)
		u.begun = u.begun.Add(time.Since(begun))
		if err != nil {
			return err
		}
		if done, err := u.keep(background(ctx), v); err != nil {
			return u.failed(err)
		} else if done {
			return nil
		}
		b.counters.merged.Add(1)
		b.takeTurn(u.merges, s.sid)
		if ended := b.commands.pause(limit(background(ctx), u.deadline()), u.merges.conflicts); ended != nil {
			return u.failed(fmt.Errorf("other requests kept changing the session: %w", ended))
		}
		u.merges.conflicts++
	}
}

// update is an Update under way.
type update struct {
	*SessionStore
	begun    time.Time // later by as much as the function took
	lives    lives
	merges   *merging
	since    edits        // of the store, since the last view
	kept     record.Value // what is in Redis now and the store is yet to take over
	failures *untold
}

// view is what the function of an Update gets.
type view struct {
	store    *SessionStore
	revision int          // that of the store of which it is a view
	edits    edits        // of that, since its last draft in doubt
	origin   record.Value // what was in that
}

func (u *update) watch() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.updates == nil {
		u.updates = make(map[*edits]struct{})
	}
	u.updates[&u.since] = struct{}{}
}

func (u *update) unwatch() {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.updates, &u.since)
}

func (u *update) deadline() time.Time { return u.begun.Add(u.backend.commands.timeLimit) }

func (u *update) failed(err error) error {
	if errors.Is(err, ErrGone) && !errors.Is(err, errVanished) {
		return u.backend.wrap("update", u.sid, err) // which is no failure
	}
	return u.backend.fail("update", u.sid, err)
}

// locked runs a step under the lock of the id, and again when the merge functions have been called that it wants.
func (u *update) locked(ctx context.Context, step func(context.Context) error) (err error) {
	for again := true; again; {
		if err := ctx.Err(); err != nil && u.kept == "" {
			return err
		}
		err = u.backend.exclusivelyUntil(ctx, u.sid, u.deadline(), step)
		u.merges, again = u.backend.wants(err, u.sid, u.merges, u.failures)
	}
	return err
}

// look has the store take over what is in Redis, and makes a view of it.
func (u *update) look(ctx context.Context) (v *view, err error) {
	err = u.locked(ctx, func(saving context.Context) error {
		u.mu.Lock()
		base, isGone := u.base, u.gone
		u.mu.Unlock()
		if isGone {
			return ErrGone
		}
		became := conflict
		theirs, found := u.foundBy(u.merges)
		if !found {
			begun, ctx := time.Now(), limit(ctx, u.deadline())
			if became, theirs, err = u.backend.commands.foresee(ctx, u.key(), base, true); err == nil && became == gone {
				became, theirs, err = u.follow(ctx, "")
			}
			u.backend.counters.load.since(begun)
			if err != nil {
				return err
			}
		}
		switch became {
		case gone:
			return u.buried(saving, base)
		case conflict:
			if _, err := u.rebase(theirs, u.merges, u.lives, u.failures); err != nil {
				return err
			}
		}
		v, err = u.newView()
		return err
	})
	return v, err
}

func (u *update) buried(ctx context.Context, base stored) error {
	if err := u.bury(ctx, draft{base: base}); err != nil {
		return err
	}
	return fmt.Errorf("%w: it was destroyed, or has got a new id", ErrGone)
}

// newView makes a view of the store as it is.
func (u *update) newView() (*view, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d := draft{base: u.base}
	if err := u.encode(&d, u.lives); err != nil {
		return nil, err
	}
	if err := d.incomplete(); err != nil {
		return nil, err
	}
	values, err := u.backend.decode(u.key(), d.value)
	if err != nil {
		return nil, err
	}
	v := &view{revision: u.revision, origin: d.value, edits: u.edits.clone()}
	var all edits
	for _, earlier := range u.doubtful {
		all = all.then(earlier.edits)
	}
	all = all.then(u.edits.clone())
	v.store = &SessionStore{backend: u.backend, sid: u.sid, firstName: u.name(), view: true, values: values, base: u.base, set: u.set,
		edits: all, shared: maps.Clone(u.shared), inactive: u.inactive}
	u.since = edits{}
	return v, nil
}

// incomplete is the failure of a draft from which entries were dropped.
func (d *draft) incomplete() error {
	for key, reason := range d.dropped {
		return unencodable(key, reason)
	}
	return nil
}

// keep saves what the function made of its view, if that still is the session, and tells whether it has.
func (u *update) keep(ctx context.Context, v *view) (done bool, err error) {
	err = u.locked(ctx, func(ctx context.Context) (err error) {
		if u.kept == "" {
			if done, err = u.attempt(ctx, v); u.kept == "" {
				return err
			}
		}
		if !u.awaits(u.kept) {
			return nil // a merge function has had the store released
		}
		_, err = u.rebase(u.kept, u.merges, u.lives, u.failures)
		return err
	})
	if u.kept != "" {
		return true, nil // its next release takes it over, where that could not be done now
	}
	return done, err
}

// awaits tells whether the store has yet to find out that a value was saved.
func (u *update) awaits(kept record.Value) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.ContainsFunc(u.doubtful, func(d draft) bool { return d.value == kept })
}

// attempt is keep, once.
func (u *update) attempt(ctx context.Context, v *view) (done bool, err error) {
	u.mu.Lock()
	stale := v.revision != u.revision
	u.mu.Unlock()
	if stale {
		return false, nil // by a release of the same store
	}
	if due, err := v.store.due(true, u.lives); due != doSave || err != nil {
		return err == nil, err
	}
	d, create, err := v.store.draft(true, u.lives)
	if err != nil || d == nil {
		return err == nil, err
	}
	if err := d.incomplete(); err != nil {
		return false, err
	}
	became, _, refusal, err := u.write(ctx, d, create, u.lives)
	var unknown inDoubt
	switch {
	case errors.As(err, &unknown):
		u.doubtKept(v, d)
		return false, fmt.Errorf("the changes may have been saved: %w", err)
	case err != nil:
		return false, err
	case refusal != nil && became == saved:
		return false, refusal
	case became == saved:
		u.backend.counters.wrote(d)
		u.doubtKept(v, d)
		u.kept = d.value
	case became == gone:
		return false, u.buried(ctx, d.base)
	}
	return became != conflict, nil
}

// doubtKept remembers what was made of a view as a draft of the store: whatever comes of it, what was changed in the store before the
// view is in there, and what was changed since is not.
func (u *update) doubtKept(v *view, d *draft) {
	u.doubt(draft{value: d.value, base: d.base, edits: v.edits, origin: v.origin})
	u.mu.Lock()
	defer u.mu.Unlock()
	u.edits, u.since = u.since, edits{}
}
