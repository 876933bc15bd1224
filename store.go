// SessionStore: one request's view of one session, and what it writes back.

package redis

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/beego-session/redis/internal/gobmap"
	"github.com/beego/beego/v2/server/web/session"
)

var _ session.Store = (*SessionStore)(nil)

// SessionStore is a session as one request sees it: a copy in memory, from Provider's SessionRead or SessionRegenerate,
// whose changes SessionRelease brings into Redis. Its methods may be called at the same time.
type SessionStore struct {
	backend *backend
	sid     string
	moment  uint64 // of the read, for removals.since

	mu     sync.Mutex // protects what follows
	values map[any]any
	base   stored           // the session as it was read or saved last
	edits  edits            // what Set, Delete and Flush did to values since base
	shared map[any]struct{} // keys whose value a handler holds too and may change in place
	gone   bool             // a release found that the session no longer exists
}

// Set puts a value under a key. A value that could not be saved is refused here: one under a key that is not hashable
// or is NaN, and one of a type that encoding/gob does not know how to write, like a chan or a func. A nil value deletes
// the key, because Get could not tell the two apart.
func (s *SessionStore) Set(ctx context.Context, key, value any) error {
	if value == nil {
		return s.Delete(ctx, key)
	}
	if !hashable(key) || key != key {
		return fmt.Errorf("session/redis: a key of type %T cannot be found again in a session: use a string", key)
	}
	if err := gobmap.Check(key); err != nil {
		return fmt.Errorf("session/redis: a key of type %T cannot be saved in a session: %w", key, err)
	}
	if err := gobmap.Check(value); err != nil {
		return fmt.Errorf("session/redis: a value of type %T cannot be saved in a session: %w", value, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
	s.edits.add(key)
	s.share(key, value)
	return nil
}

// Get returns the value under a key, or nil. A map, slice or pointer may be changed in place: it is saved like one that
// was Set.
func (s *SessionStore) Get(_ context.Context, key any) any {
	if !hashable(key) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	value := s.values[key]
	s.share(key, value)
	return value
}

// Delete removes a key. It is no change, and no error, where there is none.
func (s *SessionStore) Delete(_ context.Context, key any) error {
	if !hashable(key) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.values[key]; ok {
		delete(s.values, key)
		s.edits.add(key)
	}
	return nil
}

// Flush removes all keys, also those that another request is adding.
func (s *SessionStore) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = make(map[any]any)
	s.edits = edits{flushed: true}
	s.shared = nil
	return nil
}

// SessionID returns the id of the session.
func (s *SessionStore) SessionID(context.Context) string { return s.sid }

// SessionRelease saves what the request changed into the session as it now stands in Redis, in one atomic step, and
// creates the session if it is new. A session that was only read has its life time renewed when that is due. One that
// was destroyed, regenerated or has expired meanwhile stays so. It does not heed the cancellation of ctx. It may be
// called several times. An error is logged to session.SLogger, as beego's interface has no place for it.
func (s *SessionStore) SessionRelease(ctx context.Context, _ http.ResponseWriter) {
	s.release(ctx, true)
}

// SessionReleaseIfPresent is SessionRelease, but it never creates a session.
func (s *SessionStore) SessionReleaseIfPresent(ctx context.Context, _ http.ResponseWriter) {
	s.release(ctx, false)
}

func (s *SessionStore) release(ctx context.Context, create bool) {
	b := s.backend
	ctx = detached(ctx)
	due, err := s.due()
	switch {
	case err != nil || due == nothing:
	case due == touch:
		if err := s.touch(ctx); err != nil {
			b.log(b.wrap("renew the life time of", s.sid, err))
		}
	case due == save:
		err = b.exclusively(s.sid, func() error { return s.save(b.commands.bounded(ctx), create) })
	}
	if err != nil {
		b.log(b.wrap("save", s.sid, fmt.Errorf("the changes of this request are lost: %w", err)))
	}
}

// action is what a release has to do.
type action int

const (
	nothing action = iota
	touch          // renew the life time
	save
)

// due finds what a release has to do. A value that was changed in place is found by comparing it with what was read.
func (s *SessionStore) due() (action, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nothing, nil
	}
	if !s.base.present || !s.edits.none() {
		return save, nil
	}
	if len(s.shared) > 0 {
		original, err := decode(s.base.data)
		if err != nil {
			return nothing, err
		}
		for key := range s.shared {
			if !reflect.DeepEqual(original[key], s.values[key]) {
				s.edits.add(key)
			}
		}
		if !s.edits.none() {
			return save, nil
		}
	}
	expires, life := s.base.expires, s.backend.life
	if expires.IsZero() && life == 0 {
		return nothing, nil
	}
	passed := time.Duration(life)*time.Second - time.Until(expires)
	if expires.IsZero() || life == 0 || passed >= s.backend.touchInterval {
		return touch, nil
	}
	return nothing, nil
}

func (s *SessionStore) touch(ctx context.Context) error {
	b := s.backend
	if err := b.commands.touch(ctx, b.key(s.sid), b.life); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base.expires = written("", b.life).expires
	return nil
}

// draft is what a release is about to write.
type draft struct {
	base  stored // what Redis must hold for it
	data  string
	edits edits
	empty bool // it holds no keys
}

// save brings the changes into Redis. The caller holds the lock of the id, so that there is one draft at a time.
func (s *SessionStore) save(ctx context.Context, create bool) error {
	b := s.backend
	d, err := s.draft()
	if !d.base.present && (d.empty && b.skipEmpty || d.edits.none() && !create || b.removed.since(s.sid, s.moment)) {
		return s.undo(d, err)
	}
	for tries := 0; err == nil; tries++ {
		var verdict verdict
		var theirs string
		verdict, theirs, err = b.commands.save(ctx, b.key(s.sid), d.base, d.data, b.life, create)
		switch {
		case err != nil:
		case verdict == saved:
			s.mu.Lock()
			s.base = written(d.data, b.life)
			s.mu.Unlock()
			return nil
		case verdict == gone:
			s.mu.Lock()
			s.gone = d.base.present
			s.mu.Unlock()
			return s.undo(d, nil)
		default:
			if d, err = s.rebase(d, theirs); d.edits.none() {
				return err // it was new and unchanged, and another request has created it
			}
			if ended := b.commands.pause(ctx, tries); err == nil && ended != nil {
				err = fmt.Errorf("other requests kept changing the session: %w", ended)
			}
		}
	}
	return s.undo(d, err)
}

// draft takes the edits out of the store and encodes the values.
func (s *SessionStore) draft() (draft, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := draft{base: s.base, edits: s.edits, empty: len(s.values) == 0}
	s.edits = edits{}
	var err error
	d.data, err = s.encode()
	return d, err
}

// undo puts the edits of a draft that was not saved back, for the next release.
func (s *SessionStore) undo(d draft, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edits = s.edits.after(d.edits)
	return err
}

// rebase takes over what another request saved, keeps what was edited here, and makes a draft of the result.
func (s *SessionStore) rebase(d draft, data string) (draft, error) {
	original, err := decode(d.base.data)
	if err != nil {
		return d, err
	}
	theirs, err := decode(data)
	if err != nil {
		return d, err
	}
	s.mu.Lock()
	s.edits = s.edits.after(d.edits)
	s.values = merge(original, s.values, theirs, s.edits)
	s.base = written(data, s.backend.life) // by another request, a moment ago
	s.mu.Unlock()
	return s.draft()
}

// encode encodes the values. One that cannot be encoded is lost: it stays as it is in what is stored, and does not take
// the others with it. The caller holds mu.
func (s *SessionStore) encode() (string, error) {
	data, err := gobmap.Encode(s.values)
	if err == nil {
		return string(data), nil
	}
	old, err := decode(s.base.data)
	if err != nil {
		return "", err
	}
	values := maps.Clone(s.values)
	for key, reason := range gobmap.Failing(values) {
		s.backend.log(s.backend.wrap("save", s.sid, fmt.Errorf("the change of the key %.60q is lost: %w", fmt.Sprint(key), reason)))
		if value, ok := old[key]; ok {
			values[key] = value
		} else {
			delete(values, key)
		}
	}
	data, err = gobmap.Encode(values)
	return string(data), err
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

// decode reads what Redis holds. Nothing is an empty session: beego's own provider reserves a new id so.
func decode(data string) (map[any]any, error) {
	if data == "" {
		return make(map[any]any), nil
	}
	return gobmap.Decode(data)
}
