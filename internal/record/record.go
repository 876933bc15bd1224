// Package record owns what is stored for a session.
//
//	value   = stream entry...
//	stream  = map[interface{}]interface{} in the format of encoding/gob, as session.EncodeGob writes it
//	entry   = tag (1 byte, 0x80 to 0xf7), payload (8 bytes)
//
// A gob decoder reads one value and never looks at what follows it, so that beego's provider reads such a value as its
// own. A stream is a sequence of messages, each with its length before it, and no length begins with a byte that is a
// tag: so the end of the stream is found without reading it, whatever a session holds.
//
// Where values are encrypted there is one message in the place of the stream, an envelope: a byte 0, where a message of a gob
// stream has the number of a type, and what is sealed. The entries are as they are elsewhere, and not encrypted.
//
// An entry of the tag 0xf6 is a version: random bytes, drawn anew for each save. The last entry is the version of the
// value itself, those before it are the versions of the saves that led to it, the oldest first. What beego's provider
// wrote has no entries, and is its own version as a whole; an empty value is an empty session, as which beego's provider
// reserves an id.
//
// In front of the versions there may be an entry of the tag 0xe3, when the session was created or its age began anew, in
// seconds since 1970; one of 0xe4, a life time of its own, in seconds; and one of 0xec, for whom and when it was entered in the index
// of its user: four bytes of a digest of id, user and life time, and four of seconds since 1970. Entries of other tags are kept
// there as they are: they are for what a session may come to have.
//
// Versions answer what a client must know whose request was executed and whose reply was lost: a value whose versions
// hold the one that was to be saved has been saved. And they tell in a few bytes whether a session still is what was read.
package record

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/beego-session/redis/internal/gobmap"
)

// Kept is how many versions a saved value has at the most, with its own. A browser has six requests to a host under way
// at a time over HTTP/1.1: a save is still found when all others have saved after it.
const Kept = 8

const (
	entrySize  = 9
	versionTag = 'v' | 0x80
	createdTag = 'c' | 0x80
	ownLifeTag = 'd' | 0x80
	listingTag = 'l' | 0x80
)

// Value is what is stored for one session.
type Value string

// Version is an entry of a version, or empty.
type Version string

// Listing is an entry that says that a session is in the index of its user, or empty.
type Listing string

// NewListing returns the listing of a session that is entered in the index of its user now, for a life time in seconds.
func NewListing(id, user string, life int64, now time.Time) Listing {
	digest := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s", id, life, user))
	entry := append([]byte{listingTag}, digest[:4]...)
	return Listing(binary.BigEndian.AppendUint32(entry, uint32(now.Unix())))
}

// Since tells whether the listing is that of a session, user and life time that began within an interval before or after now.
// (Clocks differ.)
func (l Listing) Since(id, user string, life int64, now time.Time, interval time.Duration) bool {
	if l == "" {
		return false
	}
	listed := time.Unix(int64(binary.BigEndian.Uint32([]byte(l[5:]))), 0)
	return l == NewListing(id, user, life, listed) && now.Sub(listed).Abs() < interval
}

func created(now time.Time) string { return number(createdTag, now.Unix()) }

// number is an entry of a number.
func number(tag byte, n int64) string {
	return string(binary.BigEndian.AppendUint64([]byte{tag}, uint64(n)))
}

// NewVersion draws a version.
func NewVersion() Version {
	var entry [entrySize]byte
	entry[0] = versionTag
	_, _ = rand.Read(entry[1:]) // never fails
	return Version(entry[:])
}

// emptyStream is the stream of an empty session.
var emptyStream = func() string {
	data, err := gobmap.Encode(nil)
	if err != nil {
		panic(err)
	}
	return string(data)
}()

// Empty returns a new session that holds nothing.
func Empty(v Version) Value { return Value(emptyStream + created(time.Now()) + string(v)) }

// Meta is what is stored of a session beside its values.
type Meta struct {
	Listing Listing
	NewAge  bool   // it counts as created now
	OwnLife *int64 // a life time of its own, in seconds, or 0 for none; nil: as it was before
}

// Encode returns the value of a session that follows on another, or is created now if that is empty. An error is that of
// gobmap.Encode.
func Encode(values map[any]any, before Value, m Meta, v Version) (Value, error) {
	entries := before.entries()
	surplus := versions(entries) - (Kept - 1)
	var room [16 * entrySize]byte
	tail := append(room[:0], m.Listing...)
	m.NewAge = m.NewAge || before == ""
	if m.NewAge {
		tail = append(tail, created(time.Now())...)
	}
	if m.OwnLife != nil && *m.OwnLife != 0 {
		tail = append(tail, number(ownLifeTag, *m.OwnLife)...)
	}
	for ; entries != ""; entries = entries[entrySize:] {
		switch {
		case entries[0] == listingTag, m.NewAge && entries[0] == createdTag, m.OwnLife != nil && entries[0] == ownLifeTag:
		case entries[0] == versionTag && surplus > 0:
			surplus--
		default:
			tail = append(tail, entries[:entrySize]...)
		}
	}
	value, err := gobmap.EncodeBefore(values, append(tail, v...))
	return Value(value), err
}

// Decode returns the values of a session, and what of it is carried along. An error is that of gobmap.Carry.
func (v Value) Decode() (map[any]any, []gobmap.Undecoded, error) {
	if v == "" {
		return make(map[any]any), nil, nil
	} else if _, ok := v.Sealed(); ok {
		return nil, nil, errSealed
	}
	return gobmap.Carry(string(v))
}

// Describe returns the values of a session for encoding/json, also those of types that this program does not know. An error is that
// of gobmap.Describe.
func (v Value) Describe() (map[string]any, error) {
	if v == "" {
		return make(map[string]any), nil
	} else if _, ok := v.Sealed(); ok {
		return nil, errSealed
	}
	return gobmap.Describe(string(v))
}

// Moved returns the value with one more version, that of a move to another id. It leaves the stream as it is, also one
// that does not decode.
func (v Value) Moved(version Version) Value {
	if v == "" {
		v = Empty(version) // beego's provider reads what is empty, or a stream
	}
	return v + Value(version)
}

// Unmoved returns the value that became v when it was moved.
func (v Value) Unmoved() Value { return v[:max(len(v)-entrySize, 0)] }

// Version returns the version, which is empty where the value has none.
func (v Value) Version() Version {
	entries := v.entries()
	return Version(entries[max(len(entries)-entrySize, 0):])
}

// Listing returns the listing, which is empty where the value has none.
func (v Value) Listing() Listing { return Listing(v.entry(listingTag)) }

// MaxLife is how long a life time may be, in seconds: 292 years, as a time.Duration.
const MaxLife = int64(1<<63-1) / int64(time.Second)

// OwnLife returns the life time that the session has of its own, in seconds, or 0 where it has none.
func (v Value) OwnLife() int64 {
	entry := v.entry(ownLifeTag)
	if entry == "" {
		return 0
	}
	life := int64(binary.BigEndian.Uint64([]byte(entry[1:])))
	if life < 0 || life > MaxLife {
		return 0
	}
	return life
}

// Created returns when the session was created, to a second, or zero where that is not known, as beego's provider does not
// say it.
func (v Value) Created() time.Time {
	entry := v.entry(createdTag)
	if entry == "" {
		return time.Time{}
	}
	return time.Unix(int64(binary.BigEndian.Uint64([]byte(entry[1:]))), 0)
}

func (v Value) entry(tag byte) string {
	for entries := v.entries(); entries != ""; entries = entries[entrySize:] {
		if entries[0] == tag {
			return entries[:entrySize]
		}
	}
	return ""
}

// Size returns how many bytes the session itself has, without the entries behind it.
func (v Value) Size() int { return len(v) - len(v.entries()) }

// Holds tells whether the version is that of the value, or of a save that led to it.
func (v Value) Holds(version Version) bool {
	for entries := v.entries(); entries != ""; entries = entries[entrySize:] {
		if entries[:entrySize] == string(version) {
			return true
		}
	}
	return false
}

// Complete tells whether the versions are all that the value ever had.
func (v Value) Complete() bool {
	n := versions(v.entries())
	return 0 < n && n < Kept
}

// entries returns what follows the stream, if it is entries that end with a version.
func (v Value) entries() string {
	last := len(v) - entrySize
	if last <= 0 || v[last] != versionTag {
		return ""
	}
	end := streamEnd(string(v))
	if end <= 0 || end > last || (len(v)-end)%entrySize != 0 {
		return ""
	}
	return string(v[end:])
}

// streamEnd returns where the messages end that a value begins with, or -1 if they do not.
func streamEnd(v string) (end int) {
	for 0 <= end && end < len(v) && (v[end] < 0x80 || v[end] > 0xf7) {
		_, end = message(v, end)
	}
	return end
}

// message returns where the message begins and ends whose length stands at a place in a value, or -1 if it does not end. A length
// below 128 is one byte; else it has up to eight, and one before them that holds their number, negated.
func message(v string, at int) (begin, end int) {
	length := uint64(v[at])
	if begin = at + 1; length >= 0x80 {
		size := int(0x100 - length)
		if size > len(v)-begin {
			return 0, -1
		}
		length = 0
		for _, b := range []byte(v[begin : begin+size]) {
			length = length<<8 | uint64(b)
		}
		begin += size
	}
	if length > uint64(len(v)-begin) {
		return 0, -1
	}
	return begin, begin + int(length)
}

// versions counts them.
func versions(entries string) (n int) {
	for ; entries != ""; entries = entries[entrySize:] {
		if entries[0] == versionTag {
			n++
		}
	}
	return n
}
