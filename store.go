// SessionStore: one request's view of one session, and what it writes back.

package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/gobmap"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego/beego/v2/server/web/session"
)

var _ session.Store = (*SessionStore)(nil)

// SessionStore is a session as one request sees it: a copy in memory, from [Provider.SessionRead] or [Provider.SessionRegenerate],
// whose changes SessionRelease brings into Redis. In a controller it is c.StartSession().(*redis.SessionStore). Its methods may be
// called concurrently, and take a nil context for [context.Background]. All but the two releases and Update work in memory alone.
type SessionStore struct {
	backend   *backend
	sid       string
	firstName string      // the name under which the session was found, or is created
	hashed    atomic.Bool // it has moved from there to its hash
	passing   bool        // it stands for no session: it is never saved, and that is told to nobody
	view      bool        // of an Update, which alone saves it

	mu       sync.Mutex // protects what follows
	values   map[any]any
	base     stored              // the session as it was read or saved last
	set      timing              // what SetLifeTime and ResetAge have set since base
	edits    edits               // what Set, Delete and Flush did to values since base, or since the last draft in doubtful
	doubtful []draft             // saves since base of which it is not known whether they were done, the oldest first
	faded    []record.Version    // of further ones, of which no more is known
	revision int                 // how often base and doubtful have changed
	updates  map[*edits]struct{} // which note edits as well, for an Update that is under way
	shared   map[any]struct{}    // keys whose value a handler holds too and may change in place
	gone     bool                // the session existed and does no longer: it is never saved
	told     bool                // that its changes are lost
	refused  bool                // and told so, because it is too large; until something is set or deleted
	inactive bool                // the request is no use of the session
	unfit    map[any]error       // keys of which it was told that they cannot be encoded, until they are set or deleted
}

// Set puts a value under a key, to be saved by SessionRelease. What could not be saved is an ErrRefusedValue, and changes nothing:
// a key that is not hashable or is NaN, and a key or value that [encoding/gob] cannot write, like a chan or a func. A nil value
// deletes the key, because Get could not tell the two apart. Types of the application are registered with gob.Register when the
// program starts.
func (s *SessionStore) Set(ctx context.Context, key, value any) error {
	if value == nil {
		return s.Delete(ctx, key)
	}
	if !hashable(key) || key != key {
		return refused("a key of type %T cannot be found again in a session: use a string", key)
	}
	if err := gobmap.Check(key); err != nil {
		return refused("a key of type %T cannot be saved in a session: %w", key, err)
	}
	if err := gobmap.Check(value); err != nil {
		return refused("a value of type %T cannot be saved in a session: %w", value, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
	s.edit(key)
	s.share(key, value)
	return nil
}

// refused is the error for what cannot be kept in a session.
func refused(format string, args ...any) error {
	return also{ErrRefusedValue, fmt.Errorf("session/redis: "+format, args...)}
}

// Get returns the value under a key, or nil. It is nil also for a value of a type that this program does not know, which is saved
// as it was unless the key is set or deleted. A map, slice or pointer may be changed in place, and is saved then like one that was
// Set. Get it again after a release or an Update, which may have put what others saved into a new one.
func (s *SessionStore) Get(_ context.Context, key any) any {
	if !hashable(key) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	value := s.values[key]
	if gobmap.IsCarried(value) {
		return nil
	}
	s.share(key, value)
	return value
}

// Delete removes a key; there need be none. It returns nil.
func (s *SessionStore) Delete(_ context.Context, key any) error {
	if !hashable(key) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.values[key]; ok {
		delete(s.values, key)
		s.edit(key)
	}
	return nil
}

// edit takes note of a key that was set or deleted. The caller holds mu.
func (s *SessionStore) edit(key any) {
	s.edits.add(key)
	for since := range s.updates {
		since.add(key)
	}
	s.refused = false
	delete(s.unfit, key)
}

// Flush removes all keys, also those that another request is adding at the same time. A life time of the session's own stays. It
// returns nil.
func (s *SessionStore) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = make(map[any]any)
	s.edits = edits{flushed: true, timing: s.edits.timing}
	for since := range s.updates {
		*since = edits{flushed: true, timing: since.timing}
	}
	s.shared, s.unfit, s.refused = nil, nil, false
	return nil
}

// SessionID returns the id of the session.
func (s *SessionStore) SessionID(context.Context) string { return s.sid }

// name is under which name the session stands.
func (s *SessionStore) name() string {
	if s.hashed.Load() {
		return s.backend.name(s.sid)
	}
	return s.firstName
}

func (s *SessionStore) key() string { return s.backend.key(s.name()) }

// SessionRelease saves what the request has changed into the session as it now stands in Redis, in one atomic step, and creates the
// session if it is new. If nothing was changed it renews the life time when that is due. A session that was destroyed, has got a
// new id or has expired meanwhile stays so. The response writer is not used.
//
// It does not heed the cancellation of ctx, and ends within the time limit. An error goes to [Provider.OnError], as beego's
// interface has no place for one. It may be called several times; after each the store has what others have saved meanwhile, so
// that values are to be got again.
func (s *SessionStore) SessionRelease(ctx context.Context, _ http.ResponseWriter) {
	s.release(ctx, true)
}

// SessionReleaseIfPresent is SessionRelease, but never creates a session.
func (s *SessionStore) SessionReleaseIfPresent(ctx context.Context, _ http.ResponseWriter) {
	s.release(ctx, false)
}

func (s *SessionStore) release(ctx context.Context, create bool) {
	if s.view {
		return
	}
	var failures untold
	asked, err := s.backend.lifeHook.ask(ctx)
	if err != nil {
		failures.add(askLife, s.sid, err)
	}
	s.finish(ctx, create, s.backend.lives(asked), &failures)
	s.backend.tellAll(ctx, failures)
}

// finish does what a release has to do.
func (s *SessionStore) finish(ctx context.Context, create bool, l lives, failures *untold) {
	b := s.backend
	due, err := s.due(create, l)
	switch {
	case due == giveUp:
		b.counters.gone.Add(1)
	case err != nil:
	case due == doNothing:
		b.counters.unchanged.Add(1)
	case !b.gate.enter():
		err = ErrClosed
	case due == doTouch:
		defer b.gate.leave()
		err = s.touch(limit(detached(ctx), time.Now().Add(b.commands.timeLimit)), l)
	default:
		defer b.gate.leave()
		begun := time.Now()
		var merges *merging
		defer func() { b.leaveTurn(merges, s.sid) }() // also where a function ends its goroutine
		for again := true; again; {
			m := merges
			err = b.exclusivelyUntil(ctx, s.sid, begun.Add(b.commands.timeLimit), func(ctx context.Context) error {
				return s.save(ctx, create, m, l, failures)
			})
			merges, again = b.wants(err, s.sid, merges, failures)
		}
		b.counters.save.since(begun)
	}
	switch {
	case err == nil:
	case due == doTouch:
		failures.add("renew the life time of", s.sid, err)
	default:
		failures.add("save", s.sid, s.lost(err))
	}
}

// lost says what an error means for the changes of a request.
func (s *SessionStore) lost(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.doubtful) > 0 || errors.Is(err, errUnknown) {
		return fmt.Errorf("the changes of this request may be lost: %w", err)
	}
	return fmt.Errorf("the changes of this request are lost: %w", err)
}

// action is what a release has to do.
type action int

const (
	doNothing action = iota
	doTouch          // renew the life time
	doSave
	giveUp // there is no session to save into any more
)

// errVanished is the error of a request that changed a session which nobody has destroyed as far as is known.
var errVanished = failing{KindVanished, fmt.Errorf("%w: it has expired, was evicted, or another program has removed it", ErrGone)}

// due finds what a release has to do.
func (s *SessionStore) due(create bool, l lives) (action, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.passing, s.gone && s.edits.none():
		return doNothing, nil
	case s.gone && (s.told || s.base.tombstone != ""):
		return giveUp, nil
	case s.gone:
		s.told = true
		return giveUp, errVanished
	}
	switch edited := !s.edits.none() || len(s.doubtful) > 0; {
	case edited, !s.base.present && s.creates(create), s.backend.ageless(s.base):
		return doSave, nil
	case !s.base.present:
		return doNothing, nil
	}
	if changed, err := s.changedInPlace(); changed || err != nil {
		return doSave, err
	}
	if s.renewable(l) {
		return doTouch, nil
	}
	return doNothing, nil
}

// creates tells whether a release creates a session that there is not. The caller holds mu.
func (s *SessionStore) creates(create bool) bool {
	return create && !(s.backend.skipEmpty && len(s.values) == 0)
}

// changedInPlace compares the values that a handler may have changed with those that were read. The caller holds mu.
func (s *SessionStore) changedInPlace() (bool, error) {
	if len(s.shared) == 0 {
		return false, nil
	}
	original, err := s.backend.decode(s.key(), s.base.value)
	if err != nil {
		return false, err
	}
	for key := range s.shared {
		if !gobmap.Equal(original[key], s.values[key]) {
			return true, nil
		}
	}
	return false, nil
}

func (s *SessionStore) touch(ctx context.Context, l lives) error {
	b := s.backend
	s.mu.Lock()
	value := s.base.value
	s.mu.Unlock()
	there, life, err := b.renew(ctx, s.name(), value, l)
	if err != nil {
		return err
	}
	if !there {
		if became, _, err := s.follow(ctx, ""); err != nil {
			return err
		} else if became == conflict {
			return s.touch(ctx, l)
		}
	}
	if there {
		b.counters.touched.Add(1)
	} else {
		b.counters.gone.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base.expires = written("", life).expires
	return nil
}

// draft is what a release is about to write.
type draft struct {
	value record.Value
	base  stored // what Redis must hold for it
	edits edits  // since the draft before
	life  int64  // that it is to have, or keepLife
	past  bool   // base has reached max_age, and does not begin anew

	origin record.Value // what the store had when an Update made value of that; empty: value

	user    string        // whose the session is then, who must first
	enter   bool          // have it entered in the index
	dropped map[any]error // keys whose change is not in value, because it cannot be encoded
}

// save brings the changes into Redis. The caller holds the lock of the id, so that there is one draft at a time. Where merge functions
// are to be called before, the error is a merging, with which it goes on after that.
func (s *SessionStore) save(ctx context.Context, create bool, m *merging, l lives, failures *untold) error {
	b := s.backend
	theirs, conflict := s.foundBy(m)
	for {
		if conflict {
			if m == nil {
				m = &merging{of: b.merges.all()}
			}
			if changed, err := s.rebase(theirs, m, l, failures); err != nil {
				return err
			} else if !changed {
				b.counters.unchanged.Add(1)
				return nil // it was new and unchanged, and another request has created it; or it had been saved before
			}
			b.counters.merged.Add(1)
			if ended := b.commands.pause(ctx, m.conflicts); ended != nil {
				return fmt.Errorf("other requests kept changing the session: %w", ended)
			}
			m.conflicts++
		}
		d, create, err := s.draft(create, l)
		if err != nil || d == nil {
			return err
		}
		var became verdict
		var refusal error
		became, theirs, refusal, err = s.write(ctx, d, create, l)
		switch {
		case err != nil:
			if unknown := new(inDoubt); errors.As(err, unknown) {
				s.doubt(*d)
				return err
			}
			return s.putBack(*d, err)
		case refusal != nil && became == saved: // else there may be room in what the session is by now
			return s.refuse(ctx, *d, refusal, l, failures)
		case became == saved:
			b.counters.wrote(d)
			for key, reason := range s.settle(d.written(), d.dropped) {
				b.counters.dropped.Add(1)
				failures.add("save", s.sid, unencodable(key, reason))
			}
			return nil
		case became == missing:
			b.counters.unchanged.Add(1)
			return s.putBack(*d, nil)
		case became == gone:
			return s.bury(ctx, *d)
		}
		conflict = true
		_ = s.putBack(*d, nil)
	}
}

// unencodable is the failure of an entry.
func unencodable(key any, reason error) error {
	return failing{KindUnencodable, fmt.Errorf("the change of the key %.60q is lost: %w", fmt.Sprint(key), reason)}
}

// write sends a draft. One that is too large it refuses, and tells what would have become of it.
func (s *SessionStore) write(ctx context.Context, d *draft, create bool, l lives) (became verdict, theirs record.Value, refusal, err error) {
	b := s.backend
	if refusal = b.fits(s.key(), d); refusal != nil || d.past {
		became, theirs, err = b.commands.foresee(ctx, s.key(), d.base, create)
		if became == saved && d.past { // else its age may have begun anew in what it is by now
			became = gone
		}
	} else {
		if d.enter {
			if err = b.list(ctx, d.user, l.of(d.value), s.name()); err != nil {
				return 0, "", nil, err
			}
		}
		became, theirs, err = b.commands.save(ctx, s.key(), d.base, d.value, d.life, create)
	}
	if err == nil && became == gone {
		became, theirs, err = s.follow(ctx, d.value.Version())
	}
	return became, theirs, refusal, err
}

// draft takes the edits out of the store and encodes the values. It returns nil where nothing is to be saved, and whether
// the session may be created.
func (s *SessionStore) draft(create bool, l lives) (*draft, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	create = s.creates(create)
	if !s.base.present && !create && s.edits.none() && len(s.doubtful) == 0 {
		return nil, false, nil
	}
	d := &draft{base: s.base, edits: s.edits}
	var err error
	if err = s.encode(d, l); err == nil {
		s.edits = edits{}
		s.time(d, l)
	}
	return d, create, err
}

// settle says that the session was saved, so that no earlier draft is in doubt any more, but for keys that were dropped. It returns
// those of which it is not told yet.
func (s *SessionStore) settle(base stored, dropped map[any]error) (untold map[any]error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base, s.doubtful, s.faded, s.refused, s.set = base, nil, nil, false, s.edits.timing
	s.revision++
	untold = maps.Clone(dropped)
	maps.DeleteFunc(untold, func(key any, _ error) bool { return s.unfit[key] != nil })
	s.unfit = dropped
	maps.DeleteFunc(s.unfit, func(key any, _ error) bool { // set again meanwhile
		_, edited := s.edits.keys[key]
		return edited || s.edits.flushed
	})
	return untold
}

// maxDoubtful is how many releases of one store may fail before one of them, that after the first, is known by its version alone.
const maxDoubtful = 8

// doubt remembers a draft of which it is not known whether it was saved. The next release finds out.
func (s *SessionStore) doubt(d draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubtful = append(s.doubtful, d)
	s.revision++
	if len(s.doubtful) > maxDoubtful {
		s.faded = append(s.faded, s.doubtful[1].value.Version())
		s.doubtful[2].edits = s.doubtful[1].edits.then(s.doubtful[2].edits)
		s.doubtful = slices.Delete(s.doubtful, 1, 2)
	}
}

// putBack undoes draft.
func (s *SessionStore) putBack(d draft, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edits = d.edits.then(s.edits)
	return err
}

// refuse undoes draft, which is too large. That is told once, until something else is set or deleted. The session is in use all the
// same: its life time is renewed if that is due.
func (s *SessionStore) refuse(ctx context.Context, d draft, refusal error, l lives, failures *untold) error {
	s.mu.Lock()
	if s.refused {
		refusal = nil
	}
	s.refused = s.edits.none()
	s.edits = d.edits.then(s.edits)
	renew := s.base.present && s.renewable(l)
	s.mu.Unlock()
	if renew {
		if err := s.touch(ctx, l); err != nil {
			failures.add("renew the life time of", s.sid, err)
		}
	} else if refusal == nil {
		s.backend.counters.unchanged.Add(1)
	}
	return refusal
}

// bury finds out why there is no session any more.
func (s *SessionStore) bury(ctx context.Context, d draft) error {
	removed, err := true, error(nil)
	if d.base.present {
		removed, err = s.removed(ctx)
	}
	s.backend.counters.gone.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone, s.told = true, true
	if err == nil && removed {
		return nil
	}
	return errors.Join(errVanished, err)
}

// foundBy returns what a merging found that was saved by others, if the store is still what it was then.
func (s *SessionStore) foundBy(m *merging) (theirs record.Value, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m == nil || m.wanted == nil || m.revision != s.revision {
		return "", false
	}
	return m.theirs, true
}

// rebase takes over what another request saved, and keeps what was edited here. changed tells whether that is still to be
// saved. Where merge functions are to be called before, nothing is done, and the error is m.
func (s *SessionStore) rebase(data record.Value, m *merging, l lives, failures *untold) (changed bool, err error) {
	theirs, err := s.backend.decodeTelling(s.key(), s.sid, data, failures)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	base, drafts := s.base.value, s.doubtful
	known := len(s.doubtful) == 0
	for i, earlier := range s.doubtful {
		if data.Holds(earlier.value.Version()) { // it was saved, and what came after it was not
			base, drafts, known = cmp.Or(earlier.origin, earlier.value), drafts[i+1:], true
			break
		}
	}
	if !known && (!s.base.leadsTo(data) || len(m.of) > 0 && slices.ContainsFunc(s.faded, data.Holds)) {
		return false, errUnknown // whose changes a function could add once more
	}
	original, err := s.backend.decode(s.key(), base)
	if err != nil {
		return false, err
	}
	var all edits
	for _, draft := range drafts {
		all = all.then(draft.edits)
	}
	all = all.then(s.edits)
	m.begin(data, s.revision)
	values, changed := merge(original, s.values, theirs, all, m.both)
	if len(m.wanted) > 0 {
		return false, m
	}
	for key, call := range m.results {
		if call.result == nil {
			all.add(key)
		}
	}
	s.values, s.edits = values, all
	s.base, s.doubtful, s.faded, s.set = written(data, l.now(data)), nil, nil, s.edits.timing // by another request, a moment ago
	s.revision++
	return changed || s.backend.ageless(s.base), nil
}

// encode encodes the values into a draft, under a new version. One that cannot be encoded is dropped: it stays as it is in what
// is stored, and does not take the others with it. The caller holds mu.
func (s *SessionStore) encode(d *draft, l lives) error {
	version := record.NewVersion()
	encode := func(values map[any]any) (err error) {
		m := record.Meta{OwnLife: s.set.ownLife, NewAge: s.set.newAge || s.backend.ageless(s.base)}
		d.user = s.backend.userOf(values)
		m.Listing, d.enter = s.backend.listing(s.name(), d.user, s.life(l), s.base.value)
		if s.backend.unknownUser(values) {
			m.Listing = s.base.value.Listing()
		}
		d.value, err = s.backend.encode(s.key(), values, s.base.value, m, version)
		return err
	}
	if encode(s.values) == nil {
		return nil
	}
	old, err := s.backend.decode(s.key(), s.base.value)
	if err != nil {
		return err
	}
	values := maps.Clone(s.values)
	d.dropped = gobmap.Failing(values)
	for key := range d.dropped {
		if value, ok := old[key]; ok {
			values[key] = value
		} else {
			delete(values, key)
		}
	}
	return encode(values)
}

// fits refuses a draft that is larger than a session may be, unless what is stored is no smaller.
func (b *backend) fits(key string, d *draft) error {
	size := d.value.Size()
	if b.maxSize == 0 || size <= b.maxSize || size <= d.base.value.Size() {
		return nil
	}
	values, err := b.decode(key, d.value)
	if err != nil {
		return err
	}
	type part struct {
		key  any
		size int
	}
	var parts []part
	for key, value := range values {
		if data, err := gobmap.Encode(map[any]any{key: value}); err == nil {
			parts = append(parts, part{key, len(data)})
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return b.size - a.size })
	var largest []string
	for _, p := range parts[:min(3, len(parts))] {
		largest = append(largest, fmt.Sprintf("%.60q with %d", fmt.Sprint(p.key), p.size))
	}
	return failing{KindTooLarge, fmt.Errorf("it has grown to %d bytes, and max_session_bytes is %d; its largest keys are %s",
		size, b.maxSize, strings.Join(largest, ", "))}
}

// share remembers that a handler holds a value which it can change in place. The caller holds mu.
func (s *SessionStore) share(key, value any) {
	switch value.(type) {
	case nil, string, bool, int, int64, uint64, float64, time.Time:
		return
	}
	if kind := reflect.TypeOf(value).Kind(); kind <= reflect.Complex128 || kind == reflect.String {
		return
	}
	if s.shared == nil {
		s.shared = make(map[any]struct{})
	}
	s.shared[key] = struct{}{}
}

// hashable tells whether a value can be a key of a map.
func hashable(key any) bool {
	switch key.(type) {
	case nil, string, int, int64:
		return true
	}
	return reflect.ValueOf(key).Comparable()
}
