// Encoding by hand: values of the kinds that sessions hold. The definitions of
// all types go before the map, where every gob decoder takes them.

package gobmap

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// errNotByHand tells that the map has to be written by encoding/gob.
var errNotByHand = errors.New("not for encoding by hand")

// encoder appends values to a stream. After an error, which it keeps, what it
// has appended is void.
type encoder struct {
	used  []*typeInfo // the types that the stream must define
	depth int
	err   error
	buf   []byte // kept for the next stream
}

var (
	encoders = sync.Pool{New: func() any { return new(encoder) }}
	mapInfo  = sync.OnceValue(func() *typeInfo { return infoOf(reflect.TypeFor[map[any]any]()) })
)

// maxKept is the size in bytes up to which buffers are kept for reuse.
const maxKept = 64 << 10

func encodeByHand(m map[any]any, tail []byte) (data string, err error) {
	defer rescue(&err)
	e := encoders.Get().(*encoder)
	defer e.free()
	top := mapInfo()
	e.use(top)
	b := appendInt(e.buf, int64(top.id))
	b = append(b, 0)
	b = appendUint(b, uint64(len(m)))
	for k, v := range m {
		if b = e.value(b, k); e.err == nil {
			e.err = Check(v)
		}
		if e.err == nil {
			b = e.value(b, v)
		}
		if e.err != nil {
			return "", fmt.Errorf("entry %#v: %w", k, e.err)
		}
	}
	if cap(b) <= maxKept {
		e.buf = b[:0]
	}
	return e.stream(b, tail), nil
}

// free hands e back for reuse.
func (e *encoder) free() {
	clear(e.used)
	e.used, e.depth, e.err = e.used[:0], 0, nil
	encoders.Put(e)
}

func (e *encoder) use(info *typeInfo) {
	if !slices.Contains(e.used, info) {
		e.used = append(e.used, info)
	}
}

// stream returns the definitions of the types used, each once, the message and the tail.
func (e *encoder) stream(message, tail []byte) string {
	var few [8]typeDef
	defs := few[:0]
	var room [9]byte
	length := appendUint(room[:0], uint64(len(message)))
	size := len(length) + len(message) + len(tail)
	for _, info := range e.used {
		for _, def := range info.defs {
			if !defines(defs, def.id) {
				defs = append(defs, def)
				size += len(def.message)
			}
		}
	}
	var out strings.Builder // the string is made of it without a copy
	out.Grow(size)
	for _, def := range defs {
		out.WriteString(def.message)
	}
	out.Write(length)
	out.Write(message)
	out.Write(tail)
	return out.String()
}

// defines reports whether id is defined already. The messages may differ: where gob
// meets a type with methods behind a pointer, it gives the definition another name.
func defines(defs []typeDef, id int32) bool {
	return slices.ContainsFunc(defs, func(def typeDef) bool { return def.id == id })
}

// value appends an interface value: the name and the id of its type, the length
// of what follows, and unless that is a struct a zero byte before it.
func (e *encoder) value(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 0)
	case string:
		b = appendHead(b, "\x06string\x0c", uintSize(uint64(len(v)))+len(v))
		return appendString(b, v)
	case bool:
		if v {
			return append(b, "\x04bool\x02\x02\x00\x01"...)
		}
		return append(b, "\x04bool\x02\x02\x00\x00"...)
	case int:
		return appendSigned(b, "\x03int\x04", int64(v))
	case int8:
		return appendSigned(b, "\x04int8\x04", int64(v))
	case int16:
		return appendSigned(b, "\x05int16\x04", int64(v))
	case int32:
		return appendSigned(b, "\x05int32\x04", int64(v))
	case int64:
		return appendSigned(b, "\x05int64\x04", v)
	case uint:
		return appendUnsigned(b, "\x04uint\x06", uint64(v))
	case uint8:
		return appendUnsigned(b, "\x05uint8\x06", uint64(v))
	case uint16:
		return appendUnsigned(b, "\x06uint16\x06", uint64(v))
	case uint32:
		return appendUnsigned(b, "\x06uint32\x06", uint64(v))
	case uint64:
		return appendUnsigned(b, "\x06uint64\x06", v)
	case uintptr:
		return appendUnsigned(b, "\x07uintptr\x06", uint64(v))
	case float32:
		return appendUnsigned(b, "\x07float32\x08", floatBits(float64(v)))
	case float64:
		return appendUnsigned(b, "\x07float64\x08", floatBits(v))
	case complex64:
		return appendComplex(b, "\x09complex64\x0e", complex128(v))
	case complex128:
		return appendComplex(b, "\x0acomplex128\x0e", v)
	case []byte:
		b = appendHead(b, "\x07[]uint8\x0a", uintSize(uint64(len(v)))+len(v))
		return append(appendUint(b, uint64(len(v))), v...)
	}
	return e.other(b, v)
}

// appendHead appends what precedes a value of size bytes that is not a struct.
func appendHead(b []byte, head string, size int) []byte {
	b = append(b, head...)
	return append(appendUint(b, uint64(1+size)), 0)
}

func appendSigned(b []byte, head string, x int64) []byte {
	return appendUnsigned(b, head, zigzag(x))
}

func appendUnsigned(b []byte, head string, x uint64) []byte {
	b = append(b, head...)
	b = append(b, byte(1+uintSize(x)), 0)
	return appendUint(b, x)
}

func appendComplex(b []byte, head string, x complex128) []byte {
	re, im := floatBits(real(x)), floatBits(imag(x))
	b = appendHead(b, head, uintSize(re)+uintSize(im))
	return appendUint(appendUint(b, re), im)
}

func floatBits(x float64) uint64 { return bits.ReverseBytes64(math.Float64bits(x)) }

// other appends an interface value of a type that gob does not know by itself.
func (e *encoder) other(b []byte, v any) []byte {
	if IsCarried(v) {
		e.err = errCarried
		return b
	}
	t := reflect.TypeOf(v)
	k := knownTypes[t]
	if k == nil || k.load() == nil {
		return e.compiledValue(b, infoOf(t), v)
	}
	if e.depth++; e.depth > maxHandDepth {
		e.err = errNotByHand
		return b
	}
	info := k.load()
	e.use(info)
	b = appendString(b, k.name)
	b = appendInt(b, int64(info.id))
	start := len(b)
	b = k.encode(e, append(b, 0), v)
	e.depth--
	return insertLength(b, start)
}

// insertLength puts the number of bytes from start on before them.
func insertLength(b []byte, start int) []byte {
	n := len(b) - start
	var room [9]byte
	b = append(b, room[:uintSize(uint64(n))]...)
	copy(b[len(b)-n:], b[start:start+n])
	appendUint(b[:start], uint64(n))
	return b
}

func encodeTime(e *encoder, b []byte, t time.Time) []byte {
	data, err := t.MarshalBinary()
	if err != nil {
		e.err = err
	}
	return append(appendUint(b, uint64(len(data))), data...)
}

// written says that a map was written whose announced entries are missing by so many.
func (e *encoder) written(missing int) {
	if missing != 0 {
		e.fail(errors.New("a map was changed while it was being saved"))
	}
}

func encodeMap[K comparable, V any](e *encoder, b []byte, m map[K]V, key element[K], elem element[V]) []byte {
	left := len(m)
	b = appendUint(b, uint64(left))
	for k, v := range m {
		if b = elem.write(e, key.write(e, b, k), v); e.err != nil {
			return b
		}
		left--
	}
	e.written(left)
	return b
}

func encodeSlice[V any](e *encoder, b []byte, s []V, elem element[V]) []byte {
	b = appendUint(b, uint64(len(s)))
	for _, v := range s {
		if b = elem.write(e, b, v); e.err != nil {
			break
		}
	}
	return b
}
