// The keys of sessions, most of which have the same few.

package gobmap

import (
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync/atomic"
)

// Limits on knownKeys: how many keys it holds, and how long each may be, in bytes.
const (
	maxKeys      = 1024
	maxKeyLength = 32
)

// knownKeys holds strings as interface values, so that a key that was met before takes no room of its own in a map that
// is decoded. Its places are found by hash; keySeed makes it impossible to choose keys that share one.
var (
	knownKeys [maxKeys]atomic.Pointer[any]
	keySeed   = maphash.MakeSeed()
)

// seldom tells whether a key that finds its place taken takes it over: where keys never come again, as ids do not,
// remembering each would cost more than it saves.
func seldom() bool { return rand.Uint32()%64 == 0 }

// sharedKey returns s as an interface value.
func (d *decoder) sharedKey(s string) any {
	if len(s) > maxKeyLength {
		return d.kept(s)
	}
	place := &knownKeys[maphash.String(keySeed, s)%maxKeys]
	last := place.Load()
	if last != nil {
		if *last == any(s) {
			return *last
		} else if !seldom() {
			return d.kept(s)
		}
	}
	var key any = strings.Clone(s) // not to keep the stream
	place.Store(&key)
	return key
}

// key reads an interface value that is a key.
func (d *decoder) key() any {
	if !strings.HasPrefix(d.data[d.pos:d.end], stringHead) {
		return d.value()
	}
	d.pos += len(stringHead)
	d.uint() // the length of the value
	d.expect(stringID, stringID)
	return d.sharedKey(d.bytes())
}

// keyElement is that of a session's map.
var keyElement = element[any]{interfaceID, (*decoder).key, (*encoder).value}
