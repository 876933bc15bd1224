// Decoding by hand: values of the kinds that sessions hold. A stream that it
// does not take, for whatever reason, is left to encoding/gob.

package gobmap

import (
	"math"
	"math/bits"
	"strings"
	"sync"
	"time"
)

// maxShared is the length in bytes up to which the strings of a decoded map
// share the memory of the stream.
const maxShared = 32 << 10

// decoder builds values from a stream. Its methods panic with an error, also
// where encoding/gob might have accepted the stream.
type decoder struct {
	reader
	promised int // bytes that the open containers need for what they announced
	prepared int // bytes of definitions given to new decoders
	first    [8]definition
}

func decodeByHand(data string) (m map[any]any, err error) {
	d := decoders.Get().(*decoder)
	defer d.free()
	defer rescue(&err)
	d.data, d.defs = data, d.first[:0]
	m = decodeMap(d, d.typeID(false), keyElement, anyElement)
	d.meet()
	return m, nil
}

// decoders are kept: one takes as much room as a small session.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

// free hands d back for reuse, with nothing in it.
func (d *decoder) free() {
	*d = decoder{}
	decoders.Put(d)
}

// stringHead is how most values begin, and nearly all keys.
const stringHead = "\x06string\x0c"

// value reads an interface value.
func (d *decoder) value() any {
	if strings.HasPrefix(d.data[d.pos:d.end], stringHead) {
		d.pos += len(stringHead)
		d.uint() // the length of the value
		d.expect(stringID, stringID)
		return d.string()
	}
	name := d.bytes()
	if name == "" {
		return nil
	}
	id := d.typeID(true)
	d.uint() // the length of the value
	switch name {
	case "string":
		d.expect(id, stringID)
		return d.string()
	case "bool":
		d.expect(id, boolID)
		return d.uint() != 0
	case "int":
		d.expect(id, intID)
		return d.nativeInt()
	case "int8":
		return int8(d.intOf(id, 8))
	case "int16":
		return int16(d.intOf(id, 16))
	case "int32":
		return int32(d.intOf(id, 32))
	case "int64":
		return d.intOf(id, 64)
	case "uint":
		return uint(d.uintOf(id, bits.UintSize))
	case "uint8":
		return uint8(d.uintOf(id, 8))
	case "uint16":
		return uint16(d.uintOf(id, 16))
	case "uint32":
		return uint32(d.uintOf(id, 32))
	case "uint64":
		return d.uintOf(id, 64)
	case "uintptr":
		return uintptr(d.uintOf(id, bits.UintSize))
	case "float32":
		d.expect(id, floatID)
		return d.float32()
	case "float64":
		d.expect(id, floatID)
		return d.float64()
	case "complex64":
		d.expect(id, complexID)
		re := d.float32()
		return complex(re, d.float32())
	case "complex128":
		d.expect(id, complexID)
		re := d.float64()
		return complex(re, d.float64())
	case "[]uint8":
		d.expect(id, bytesID)
		if s := d.bytes(); s != "" {
			return []byte(s)
		}
		return []byte(nil) // as encoding/gob
	}
	if k := knownNames[name]; k != nil && k.load() != nil {
		return k.decode(d, id)
	}
	return d.other(name, id)
}

// expect reads the byte before a value that is no struct, of type id.
func (d *decoder) expect(id, want int32) {
	if id != want || d.uint() != 0 {
		fail()
	}
}

func (d *decoder) intOf(id int32, size int) int64 {
	d.expect(id, intID)
	x := d.int()
	if unused := 64 - size; x<<unused>>unused != x {
		fail()
	}
	return x
}

func (d *decoder) uintOf(id int32, size int) uint64 {
	d.expect(id, uintID)
	x := d.uint()
	if unused := 64 - size; x<<unused>>unused != x {
		fail()
	}
	return x
}

func (d *decoder) nativeInt() int {
	x := d.int()
	if int64(int(x)) != x {
		fail()
	}
	return int(x)
}

func (d *decoder) float32() float32 {
	x := d.float64()
	if abs := math.Abs(x); math.MaxFloat32 < abs && abs <= math.MaxFloat64 {
		fail()
	}
	return float32(x)
}

func (d *decoder) string() string {
	return d.kept(d.bytes())
}

// kept returns a string of the stream as one that does not keep a long stream in memory.
func (d *decoder) kept(s string) string {
	if len(d.data) > maxShared {
		return strings.Clone(s)
	}
	return s
}

func decodeTime(d *decoder, id int32) time.Time {
	def := d.lookup(id)
	if def == nil || def.kinds != gobEncoderKind || d.uint() != 0 {
		fail()
	}
	return d.time()
}

func (d *decoder) time() (t time.Time) {
	if err := t.UnmarshalBinary([]byte(d.bytes())); err != nil {
		panic(err)
	}
	return t
}

func decodeDuration(d *decoder, id int32) time.Duration {
	return time.Duration(d.intOf(id, 64))
}

func decodeMap[K comparable, V any](d *decoder, id int32, key element[K], elem element[V]) map[K]V {
	if def := d.lookup(id); def == nil || def.kinds != mapKind || def.key != key.id || def.elem != elem.id {
		fail()
	}
	const least = 2 // bytes that an entry takes
	n := d.open(least)
	m := make(map[K]V, n)
	for range n {
		d.promised -= least
		k := key.read(d)
		m[k] = elem.read(d)
	}
	d.depth--
	return m
}

func decodeSlice[V any](d *decoder, id int32, elem element[V]) []V {
	if def := d.lookup(id); def == nil || def.kinds != sliceKind || def.elem != elem.id {
		fail()
	}
	n := d.open(1)
	var s []V // nil if there are no elements, as encoding/gob has it
	if n > 0 {
		s = make([]V, n)
	}
	for i := range s {
		d.promised--
		s[i] = elem.read(d)
	}
	d.depth--
	return s
}

// open enters a container and reads the number of its elements.
func (d *decoder) open(width int) int {
	if d.depth++; d.depth > maxHandDepth {
		panic(errNested)
	}
	if d.uint() != 0 {
		fail()
	}
	return d.count(width)
}

// count reads the number of a container's elements, which take at least width
// bytes each. All open containers together cannot announce more than there is
// to read, so that the room made for them stays in proportion to the stream.
func (d *decoder) count(width int) int {
	n := d.uint()
	if left := len(d.data) - d.pos - d.promised; left < 0 || n > uint64(left/width) {
		fail()
	}
	d.promised += int(n) * width
	return int(n)
}
