// Sealed values: what is stored in the place of the stream where values are encrypted.

package record

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// sealedType begins an envelope, where a message of a gob stream has the number of a type. No type has this one, so that a gob
// decoder refuses an envelope, and no stream is taken for one.
const sealedType = 0

// errSealed is the error of reading a sealed value like a stream.
var errSealed = errors.New("it is encrypted")

// Sealed returns what is sealed in the place of the stream, and whether something is. It may be damaged.
func (v Value) Sealed() (sealed string, ok bool) {
	if v == "" || 0x80 <= v[0] && v[0] <= 0xf7 {
		return "", false
	}
	begin, end := message(string(v), 0)
	if begin >= end || v[begin] != sealedType {
		return "", false
	}
	return string(v[begin+1 : end]), true
}

// Seal returns the value with an envelope in the place of the stream, and the same entries behind it. seal appends to dst what
// is to be in the envelope; that is overhead bytes more than the stream has.
func (v Value) Seal(overhead int, seal func(dst []byte, stream Value) []byte) Value {
	size := v.Size()
	length := uint64(1 + overhead + size)
	b := make([]byte, 0, 9+int(length)+len(v)-size)
	if length < 0x80 {
		b = append(b, byte(length))
	} else {
		n := (bits.Len64(length) + 7) / 8
		var bytes [8]byte
		binary.BigEndian.PutUint64(bytes[:], length)
		b = append(append(b, byte(-n)), bytes[8-n:]...)
	}
	b = seal(append(b, sealedType), v[:size])
	return Value(append(b, v[size:]...))
}

// Unseal returns the value with a stream in the place of the envelope.
func (v Value) Unseal(stream []byte) Value { return Value(append(stream, v.entries()...)) }

// Blank tells whether the value is known to hold nothing without opening it: it is what a regenerate or beego's provider leaves under
// an id that is reserved.
func (v Value) Blank() bool { return v == "" || v[:v.Size()] == Value(emptyStream) }
