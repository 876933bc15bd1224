// What of a session this program cannot decode: entries of types that it does not know, or knows otherwise, as after a deploy,
// which are carried along as they are; and what is no session at all.

package redis

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"unicode"

	"github.com/beego-session/redis/internal/gobmap"
	"github.com/beego-session/redis/internal/record"
)

// errNoSession is wrapped by the error for a value that nobody could decode. It is not that of a value which this program lacks the
// means to read: what another could read is never taken for an empty session.
var errNoSession = errors.New("the value in Redis is no session, or a damaged one")

// decodeStrictly decodes what is stored under a key, and returns what of it is carried along.
func (b *backend) decodeStrictly(key string, value record.Value) (map[any]any, []gobmap.Undecoded, error) {
	value, err := b.unseal(key, value)
	if err != nil {
		return nil, nil, err
	}
	values, undecoded, err := value.Decode()
	if err != nil {
		return nil, nil, failing{KindUndecodable, fmt.Errorf("%w: %w", errNoSession, err)}
	}
	return values, undecoded, nil
}

// decode decodes what is stored under a key. What is no session is an empty one if on_undecodable says so.
func (b *backend) decode(key string, value record.Value) (map[any]any, error) {
	values, _, err := b.decodeStrictly(key, value)
	if b.replaces(err) {
		return make(map[any]any), nil
	}
	return values, err
}

func (b *backend) replaces(err error) bool {
	return b.onUndecodable == "new" && errors.Is(err, errNoSession)
}

// decodeTelling is decode, for a request that begins with the session: it adds to failures what an operator has to know of it.
func (b *backend) decodeTelling(key, sid string, value record.Value, failures *untold) (map[any]any, error) {
	values, undecoded, err := b.decodeStrictly(key, value)
	if b.replaces(err) {
		failures.add("read", sid, fmt.Errorf("%w; it is read as an empty session, and replaced when that is saved", err))
		return make(map[any]any), nil
	}
	for _, u := range undecoded {
		if b.failures.undecoded.add(u) {
			failures.add("read", sid, carriedAlong(u))
		}
	}
	return values, err
}

// carriedAlong says what to do about a type that does not decode.
func carriedAlong(u gobmap.Undecoded) error {
	const so = "such entries are carried along as they are, and Get of them returns nil"
	_, name, unregistered := strings.Cut(u.Err.Error(), "name not registered for interface: ")
	if !unregistered {
		return failing{KindUndecodable, fmt.Errorf("sessions have a %s that does not decode here: the type has changed, or that of another program "+
			"has its name; %s: %w", shown{u.Type}, so, foreign{u.Err})}
	}
	name = strings.Trim(name, `"`)
	value := name + "{}"
	if pointed, ok := strings.CutPrefix(name, "*"); ok {
		value = "&" + pointed + "{}"
	}
	return failing{KindUndecodable, fmt.Errorf("sessions have a %s, a type that this program has not registered: call gob.Register(%s) "+
		"when it starts; %s: %w", shown{name}, shown{value}, so, foreign{u.Err})}
}

// foreign is an error with names from a stream.
type foreign struct{ error }

func (e foreign) Error() string { return shown{e.error.Error()}.String() }

func (e foreign) Unwrap() error { return e.error }

// shown is text from a stream, as a line of a log may show it.
type shown struct{ text string }

func (s shown) String() string {
	return fmt.Sprintf("%.300s", strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s.text))
}

// maxUndecoded is of how many types, and what is wrong with each, it is told that they do not decode. Names come from what is stored.
const maxUndecoded = 256

// undecodedTypes are those of which it was told.
type undecodedTypes struct {
	mu   sync.Mutex
	told map[uint64]struct{} // digests
}

var undecodedSeed = maphash.MakeSeed()

// add tells whether it is new.
func (t *undecodedTypes) add(u gobmap.Undecoded) bool {
	what := u.Type
	if cause := u.Err.Error(); strings.HasPrefix(cause, "gob: ") { // else it is that of a method, which may tell of the value
		what += "\x00" + cause
	}
	digest := maphash.String(undecodedSeed, what)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.told[digest]; ok || len(t.told) == maxUndecoded {
		return false
	}
	if t.told == nil {
		t.told = make(map[uint64]struct{})
	}
	t.told[digest] = struct{}{}
	return true
}

// unknownUser tells whether a session is a user's, and this program cannot read whose.
func (b *backend) unknownUser(values map[any]any) bool {
	if b.userKey == "" {
		return false
	}
	carried, ok := values[b.userKey].(gobmap.Carried)
	return ok && carried.Basic() == nil
}
