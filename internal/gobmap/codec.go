// Codecs for the types of a program: structs, types with a name of their own, and
// pointers, slices, arrays and maps of those. A codec is put together by reflect
// once, for a Go type and the definitions of a type of the wire, and consists of
// one step for each field. It serves both directions.
//
// Before there is a codec, encoding/gob itself has read or written a value of the
// same name, with the same definitions (see kept.go). So gob vouches for the name
// and for the types being compatible, whatever the value; what a codec has to know
// is how gob writes values. These are left to gob:
//
//   - types with an interface within, of which a value may bring further
//     definitions;
//   - recursive types, of which values may nest without limit;
//   - a Go type that stands for two types of the stream, which gob mixes up;
//   - fields that gob finds in an embedded struct, or finds twice;
//   - maps of what gob can encode only where it has an address;
//   - values that gob refuses, such as a nil pointer in a slice.

package gobmap

import (
	"encoding"
	"encoding/gob"
	"reflect"
	"time"
)

// codec reads and writes the values of a Go type as those of a type of the wire.
type codec struct {
	read  func(d *decoder, v reflect.Value) // v can be set, and is zero
	write func(e *encoder, b []byte, v reflect.Value) []byte
	omit  func(v reflect.Value) bool // whether gob leaves out a field with this value

	marshals bool // by methods of the type
	size     int  // in bytes, at least, of an array in a stream
}

// least returns the number of bytes that a value takes in a stream at least.
func (c *codec) least() int { return max(1, c.size) }

// program reads and writes interface values of one type.
type program struct {
	name  string // by which gob knows the type
	id    int32  // of the type on the wire
	base  reflect.Type
	codec *codec // for base; nil if the values are left to encoding/gob
	ref   bool   // the values are pointers to base
	bare  bool   // structs have no zero byte before them
}

// newProgram returns the program for values of type t, known as name, that are of
// the type id on the wire.
func newProgram(name string, t reflect.Type, id int32, types *reader) *program {
	p := &program{name: name, id: id, base: t}
	if p.ref = t.Kind() == reflect.Pointer && t.Name() == ""; p.ref {
		p.base = t.Elem()
	}
	if def := types.lookup(id); def != nil {
		p.bare = def.kinds == structKind
	}
	p.codec, _ = compile(p.base, id, types)
	return p
}

// read reads what follows the length of an interface value. It makes room anew
// for each value, since a method for decoding may keep a pointer to its receiver.
func (p *program) read(d *decoder) any {
	if !p.bare && d.uint() != 0 {
		fail()
	}
	v := reflect.New(p.base)
	p.codec.read(d, v.Elem())
	if p.ref {
		return v.Interface()
	}
	return v.Elem().Interface()
}

// write appends what follows the length of an interface value.
func (p *program) write(e *encoder, b []byte, v reflect.Value) []byte {
	if p.ref {
		if v.IsNil() {
			e.fail(errNotByHand)
			return b
		}
		v = v.Elem()
	}
	if !p.bare {
		b = append(b, 0)
	}
	return p.codec.write(e, b, v)
}

// compiler makes codecs.
type compiler struct {
	types *reader // with the definitions
	made  map[reflect.Type]madeCodec
}

type madeCodec struct {
	id    int32
	codec *codec // nil as long as it is being made
}

// compile returns the codec for values of type t that are of the type id on the
// wire, or an error if encoding/gob must be left to deal with them.
func compile(t reflect.Type, id int32, types *reader) (c *codec, err error) {
	defer rescue(&err)
	return (&compiler{types, make(map[reflect.Type]madeCodec)}).codec(t, id), nil
}

func (c *compiler) codec(t reflect.Type, id int32) *codec {
	if made, ok := c.made[t]; ok {
		must(made.id == id && made.codec != nil)
		return made.codec
	}
	c.made[t] = madeCodec{id: id}
	made := c.make(t, id)
	c.made[t] = madeCodec{id, made}
	return made
}

// must gives up a codec unless ok.
func must(ok bool) {
	if !ok {
		panic(errNotByHand)
	}
}

func (c *compiler) make(t reflect.Type, id int32) *codec {
	if t.Kind() == reflect.Pointer {
		return c.pointer(t, id)
	}
	def := new(wireType)
	if found := c.types.lookup(id); found != nil {
		def = found.wireType
	}
	if def.kinds == gobEncoderKind || def.kinds == binaryMarshalerKind {
		return marshaler(t, def.kinds)
	}
	switch t.Kind() {
	case reflect.Struct:
		must(def.kinds == structKind)
		return c.structure(t, def.fields)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			must(id == bytesID)
			return bytesCodec
		}
		must(def.kinds == sliceKind)
		return sliceOf(c.codec(t.Elem(), def.elem))
	case reflect.Array:
		must(def.kinds == arrayKind && def.length == uint64(t.Len()))
		return arrayOf(t.Len(), c.codec(t.Elem(), def.elem))
	case reflect.Map:
		must(def.kinds == mapKind && !needsAddress(t.Key()) && !needsAddress(t.Elem()))
		return mapOf(t, c.codec(t.Key(), def.key), c.codec(t.Elem(), def.elem))
	}
	basic := basicCodecs[t.Kind()]
	must(basic.codec != nil && basic.id == id)
	return basic.codec
}

func never(reflect.Value) bool { return false }

// basicCodecs holds the codecs of the kinds that are predeclared types on the wire.
var basicCodecs = func() (byKind [reflect.UnsafePointer + 1]struct {
	id    int32
	codec *codec
}) {
	add := func(id int32, codec *codec, kinds ...reflect.Kind) {
		for _, k := range kinds {
			byKind[k].id, byKind[k].codec = id, codec
		}
	}
	add(boolID, boolCodec, reflect.Bool)
	add(intID, intCodec, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64)
	add(uintID, uintCodec, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr)
	add(floatID, floatCodec, reflect.Float32, reflect.Float64)
	add(complexID, complexCodec, reflect.Complex64, reflect.Complex128)
	add(stringID, stringCodec, reflect.String)
	return byKind
}()

var (
	boolCodec = &codec{
		read: func(d *decoder, v reflect.Value) { v.SetBool(d.uint() != 0) },
		write: func(_ *encoder, b []byte, v reflect.Value) []byte {
			if v.Bool() {
				return append(b, 1)
			}
			return append(b, 0)
		},
		omit: func(v reflect.Value) bool { return !v.Bool() },
	}
	intCodec = &codec{
		read: func(d *decoder, v reflect.Value) {
			x := d.int()
			if v.OverflowInt(x) {
				fail()
			}
			v.SetInt(x)
		},
		write: func(_ *encoder, b []byte, v reflect.Value) []byte { return appendInt(b, v.Int()) },
		omit:  func(v reflect.Value) bool { return v.Int() == 0 },
	}
	uintCodec = &codec{
		read: func(d *decoder, v reflect.Value) {
			x := d.uint()
			if v.OverflowUint(x) {
				fail()
			}
			v.SetUint(x)
		},
		write: func(_ *encoder, b []byte, v reflect.Value) []byte { return appendUint(b, v.Uint()) },
		omit:  func(v reflect.Value) bool { return v.Uint() == 0 },
	}
	floatCodec = &codec{
		read: func(d *decoder, v reflect.Value) {
			x := d.float64()
			if v.OverflowFloat(x) {
				fail()
			}
			v.SetFloat(x)
		},
		write: func(_ *encoder, b []byte, v reflect.Value) []byte { return appendUint(b, floatBits(v.Float())) },
		omit:  func(v reflect.Value) bool { return v.Float() == 0 }, // also a negative zero
	}
	complexCodec = &codec{
		read: func(d *decoder, v reflect.Value) {
			re := d.float64()
			x := complex(re, d.float64())
			if v.OverflowComplex(x) {
				fail()
			}
			v.SetComplex(x)
		},
		write: func(_ *encoder, b []byte, v reflect.Value) []byte {
			x := v.Complex()
			return appendUint(appendUint(b, floatBits(real(x))), floatBits(imag(x)))
		},
		omit: func(v reflect.Value) bool { return v.Complex() == 0 },
	}
	stringCodec = &codec{
		read:  func(d *decoder, v reflect.Value) { v.SetString(d.string()) },
		write: func(_ *encoder, b []byte, v reflect.Value) []byte { return appendString(b, v.String()) },
		omit:  func(v reflect.Value) bool { return v.Len() == 0 },
	}
	bytesCodec = &codec{
		read: func(d *decoder, v reflect.Value) {
			if s := d.bytes(); s != "" {
				v.SetBytes([]byte(s))
			}
		},
		write: func(_ *encoder, b []byte, v reflect.Value) []byte {
			data := v.Bytes() // once: a handler may be changing it
			return append(appendUint(b, uint64(len(data))), data...)
		},
		omit: func(v reflect.Value) bool { return v.Len() == 0 },
	}
	timeCodec = &codec{
		read: func(d *decoder, v reflect.Value) { *v.Addr().Interface().(*time.Time) = d.time() },
		write: func(e *encoder, b []byte, v reflect.Value) []byte {
			if v.CanAddr() { // else Interface would make a copy
				return encodeTime(e, b, *v.Addr().Interface().(*time.Time))
			}
			return encodeTime(e, b, v.Interface().(time.Time))
		},
		omit:     reflect.Value.IsZero,
		marshals: true,
	}
)

// pointer returns the codec for a pointer, which gob writes as what it points to.
// In a struct it leaves out a nil pointer, and so one to what it would leave out;
// but a type's own method it calls with any pointer that is not nil.
func (c *compiler) pointer(t reflect.Type, id int32) *codec {
	elem := c.codec(t.Elem(), id)
	return &codec{
		size: elem.size,
		read: func(d *decoder, v reflect.Value) {
			v.Set(reflect.New(t.Elem()))
			elem.read(d, v.Elem())
		},
		write: func(e *encoder, b []byte, v reflect.Value) []byte {
			if v.IsNil() {
				e.fail(errNotByHand)
				return b
			}
			return elem.write(e, b, v.Elem())
		},
		omit: func(v reflect.Value) bool {
			return v.IsNil() || !elem.marshals && elem.omit(v.Elem())
		},
	}
}

// step is what there is to do for one field of a struct on the wire.
type step struct {
	index int // of the field in the Go struct
	codec *codec
	id    int32 // of the field's type, if the Go struct has no such field
}

func (c *compiler) structure(t reflect.Type, fields []structField) *codec {
	steps := make([]step, len(fields))
	taken := make(map[int]bool)
	for i, field := range fields {
		f, ok := t.FieldByName(field.name)
		if !ok || !f.IsExported() {
			steps[i].id = field.id
			continue
		}
		index := f.Index[0]
		must(len(f.Index) == 1 && !taken[index])
		taken[index] = true
		steps[i] = step{index: index, codec: c.codec(f.Type, field.id)}
	}
	types := c.types
	return &codec{
		read: func(d *decoder, v reflect.Value) {
			for i := -1; d.nextField(&i, len(steps)); {
				if s := &steps[i]; s.codec != nil {
					s.codec.read(d, v.Field(s.index))
				} else {
					d.skipAs(s.id, types)
				}
			}
		},
		write: func(e *encoder, b []byte, v reflect.Value) []byte {
			last := -1
			for i := range steps {
				s := &steps[i]
				field := v.Field(s.index)
				if !s.codec.omit(field) {
					b = s.codec.write(e, appendUint(b, uint64(i-last)), field)
					last = i
				}
			}
			return append(b, 0)
		},
		omit: never,
	}
}

// skipAs moves over a value of the type id of types, instead of the stream's own.
func (d *decoder) skipAs(id int32, types *reader) {
	own, index := d.defs, d.index
	d.defs, d.index = types.defs, types.index
	d.skipElement(id)
	d.defs, d.index = own, index
}

func sliceOf(elem *codec) *codec {
	return &codec{
		read: func(d *decoder, v reflect.Value) {
			if n := d.count(elem.least()); n > 0 {
				v.Grow(n)
				v.SetLen(n)
				for i := range n {
					d.promised -= elem.least()
					d.element(elem, v.Index(i))
				}
			}
		},
		write: elem.writeList,
		omit:  func(v reflect.Value) bool { return v.Len() == 0 },
	}
}

func arrayOf(length int, elem *codec) *codec {
	const enough = 1 << 15 // for the product to be an int
	return &codec{
		size: min(length, enough) * min(elem.least(), enough),
		read: func(d *decoder, v reflect.Value) {
			if d.uint() != uint64(length) {
				fail()
			}
			for i := range length {
				d.element(elem, v.Index(i))
			}
		},
		write: elem.writeList,
		omit:  never,
	}
}

// element reads an element of a slice or an array. Even a struct without fields
// has a byte there.
func (d *decoder) element(c *codec, v reflect.Value) {
	if d.pos == d.end {
		fail()
	}
	c.read(d, v)
}

func (c *codec) writeList(e *encoder, b []byte, v reflect.Value) []byte {
	n := v.Len() // once: a handler may be changing it, and what is announced must follow
	b = appendUint(b, uint64(n))
	for i := 0; i < n && e.err == nil; i++ {
		b = c.write(e, b, v.Index(i))
	}
	return b
}

func mapOf(t reflect.Type, key, elem *codec) *codec {
	return &codec{
		read: func(d *decoder, v reflect.Value) {
			least := key.least() + elem.least()
			n := d.count(least)
			v.Set(reflect.MakeMapWithSize(t, n))
			if n == 0 {
				return
			}
			k, e := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
			for range n {
				d.promised -= least
				key.read(d, k)
				elem.read(d, e)
				v.SetMapIndex(k, e)
				k.SetZero()
				e.SetZero()
			}
		},
		write: func(e *encoder, b []byte, v reflect.Value) []byte {
			left := v.Len()
			b = appendUint(b, uint64(left))
			if left == 0 {
				return b
			}
			k, val := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
			for entries := v.MapRange(); e.err == nil && entries.Next(); left-- {
				k.SetIterKey(entries)
				val.SetIterValue(entries)
				b = elem.write(e, key.write(e, b, k), val)
			}
			e.written(left)
			return b
		},
		omit: reflect.Value.IsNil,
	}
}

// marshaler returns the codec for a type with methods of its own. Those of a
// pointer include those of the type, and gob leaves out no field that only a
// pointer to it could encode.
func marshaler(t reflect.Type, kind uint8) *codec {
	c := &codec{read: readGob, write: writeGob, omit: never, marshals: true}
	method := marshalers[0]
	if kind == binaryMarshalerKind {
		c.read, c.write, method = readBinary, writeBinary, marshalers[1]
	} else if t == reflect.TypeFor[time.Time]() {
		return timeCodec
	}
	if t.Implements(method) {
		c.omit = reflect.Value.IsZero
	}
	return c
}

func readGob(d *decoder, v reflect.Value) {
	if err := v.Addr().Interface().(gob.GobDecoder).GobDecode([]byte(d.bytes())); err != nil {
		panic(err)
	}
}

func readBinary(d *decoder, v reflect.Value) {
	if err := v.Addr().Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary([]byte(d.bytes())); err != nil {
		panic(err)
	}
}

func writeGob(e *encoder, b []byte, v reflect.Value) []byte {
	data, err := receiver(v).(gob.GobEncoder).GobEncode()
	return e.marshaled(b, data, err)
}

func writeBinary(e *encoder, b []byte, v reflect.Value) []byte {
	data, err := receiver(v).(encoding.BinaryMarshaler).MarshalBinary()
	return e.marshaled(b, data, err)
}

// receiver returns what to call a method for encoding on: a pointer where one can
// be had, which has all methods and saves a copy.
func receiver(v reflect.Value) any {
	if v.CanAddr() {
		v = v.Addr()
	}
	return v.Interface()
}

func (e *encoder) marshaled(b, data []byte, err error) []byte {
	if err != nil {
		e.fail(err)
	}
	return append(appendUint(b, uint64(len(data))), data...)
}

// fail keeps the first error.
func (e *encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}
