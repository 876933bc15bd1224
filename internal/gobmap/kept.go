// What is kept for types of the program's own: the codecs (see codec.go), and for
// the first value, and values that have no codec, encoders and decoders of
// encoding/gob. These prepare themselves anew for every type they meet, which
// costs many times the value itself; so those that have met a type are kept, and
// fed with values only.

package gobmap

import (
	"bytes"
	"encoding/gob"
	"math/bits"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
)

// keptEncoder is an encoder that has written the definitions of one type.
type keptEncoder struct {
	enc *gob.Encoder
	out bytes.Buffer
}

// compiledValue appends an interface value by the program for its type, or else by
// an encoder that is kept for it.
func (e *encoder) compiledValue(b []byte, info *typeInfo, v any) []byte {
	p := info.program.Load()
	if p == nil || p.codec == nil {
		return e.keptValue(b, info, v)
	}
	before := len(b)
	b = appendString(b, p.name)
	b = appendInt(b, int64(info.id))
	start := len(b)
	b = p.write(e, b, reflect.ValueOf(v))
	if e.err == errNotByHand {
		e.err = nil
		return e.keptValue(b[:before], info, v)
	}
	e.use(info)
	return insertLength(b, start)
}

// keptValue appends an interface value by an encoder that is kept for its type.
func (e *encoder) keptValue(b []byte, info *typeInfo, v any) []byte {
	if e.err = info.err; e.err == nil && info.partial {
		e.err = errNotByHand
	}
	if e.err == nil {
		e.err = checkPointer(reflect.ValueOf(v))
	}
	if e.err == nil && info.recursive {
		e.err = checkWithin(reflect.ValueOf(v), 0)
	}
	if e.err != nil {
		return b
	}
	k, _ := info.encoders.Get().(*keptEncoder)
	if k == nil {
		k, e.err = newKeptEncoder(info, v)
	}
	if e.err == nil {
		k.out.Reset()
		e.err = k.enc.Encode(&v)
	}
	if e.err != nil {
		return b
	}
	e.use(info)
	// A message's length, the id of interface and a zero byte; name, id and value.
	message := k.out.Bytes()
	start := 1
	if message[0] >= 0x80 {
		start -= int(int8(message[0]))
	}
	b = append(b, message[start+2:]...)
	if k.out.Cap() <= maxKept {
		info.encoders.Put(k)
	}
	return b
}

func newKeptEncoder(info *typeInfo, v any) (*keptEncoder, error) {
	k := new(keptEncoder)
	k.enc = gob.NewEncoder(&k.out)
	if err := k.enc.Encode(&v); err != nil {
		return nil, err
	}
	r := reader{data: k.out.String()}
	r.typeID(false)
	r.uint()
	name := r.bytes()
	if r.typeID(true) != info.id || len(r.defs) != len(info.defs) {
		return nil, errNotByHand
	}
	if info.program.Load() == nil {
		info.program.Store(newProgram(name, reflect.TypeOf(v), info.id, &r))
	}
	return k, nil
}

// keptDecoder is a decoder that has read a certain set of definitions.
type keptDecoder struct {
	dec *gob.Decoder
	in  bytes.Reader
	buf []byte
}

// keptType is what is kept for a set of definitions: decoders that have read them,
// and the programs for the values of that type that such a decoder has decoded.
type keptType struct {
	decoders sync.Pool // of *keptDecoder
	programs atomic.Pointer[programList]
}

// programList has a program for each name under which the definitions were met,
// which is seldom more than one. A name that gob knows stays that of one type.
// Predeclared types need no definitions, so for these the ids differ.
type programList struct {
	*program
	next *programList
}

func (kept *keptType) program(name string, id int32) *program {
	for l := kept.programs.Load(); l != nil; l = l.next {
		if l.name == name && l.id == id {
			return l.program
		}
	}
	return nil
}

func (kept *keptType) add(p *program) {
	for {
		l := kept.programs.Load()
		if kept.program(p.name, p.id) != nil || kept.programs.CompareAndSwap(l, &programList{p, l}) {
			return
		}
	}
}

// keptTypes holds what is kept by the definitions, as messages.
var keptTypes struct {
	sync.Mutex
	types map[string]*keptType
	size  int // bytes in the keys
}

// Limits on keptTypes; beyond them it starts afresh.
const (
	maxKeptTypes = 256
	maxKeptKeys  = 256 << 10
)

func keptTypeFor(definitions []byte) *keptType {
	kept := &keptTypes
	kept.Lock()
	defer kept.Unlock()
	t := kept.types[string(definitions)]
	if t == nil {
		if len(kept.types) == maxKeptTypes || kept.size+len(definitions) > maxKeptKeys || kept.types == nil {
			kept.types, kept.size = make(map[string]*keptType), 0
		}
		t = new(keptType)
		kept.types[string(definitions)] = t
		kept.size += len(definitions)
	}
	return t
}

// other reads the interface value of the type called name by the program for it,
// or else by a decoder, that is kept for the definitions of id.
func (d *decoder) other(name string, id int32) any {
	kept := d.keptTypeOf(id)
	inDefinitions := min(id, firstUserID)
	p := kept.program(name, inDefinitions)
	if p != nil && p.codec != nil {
		return p.read(d)
	}
	v := d.keptValue(kept, name, id)
	if p == nil {
		types := definitionsIn(string(d.definitions(d.closure(id))))
		kept.add(newProgram(strings.Clone(name), reflect.TypeOf(v), inDefinitions, types))
	}
	return v
}

// definitionsIn returns a reader that has taken in definitions.
func definitionsIn(messages string) *reader {
	r := &reader{data: messages}
	for r.pos < len(r.data) {
		r.nextMessage()
		start := r.pos
		r.define(-r.int32(), start)
	}
	return r
}

// keptValue reads an interface value by a decoder.
func (d *decoder) keptValue(kept *keptType, name string, id int32) any {
	start := d.pos
	d.skip(id)
	value := d.data[start:d.pos]

	k, _ := kept.decoders.Get().(*keptDecoder)
	if k == nil {
		k = d.newKeptDecoder(id)
	}
	head := append(make([]byte, 0, 64), interfaceID<<1, 0)
	head = appendString(head, name)
	head = appendInt(head, int64(min(id, firstUserID))) // as in definitions
	head = appendUint(head, uint64(len(value)))
	k.buf = appendUint(k.buf, uint64(len(head)+len(value)))
	k.buf = append(append(k.buf, head...), value...)
	k.in.Reset(k.buf)
	var v any
	if err := k.dec.Decode(&v); err != nil {
		panic(err)
	}
	if len(k.buf) <= maxKept {
		k.buf = k.buf[:0]
		kept.decoders.Put(k)
	}
	return v
}

// keptTypeOf returns what is kept for the definitions of id.
func (d *decoder) keptTypeOf(id int32) *keptType {
	def := d.lookup(id)
	if def == nil {
		return keptTypeFor(nil)
	}
	if def.kept == nil {
		def.kept = d.metKept(def.wireType)
	}
	if def.kept == nil {
		closure := d.closure(id)
		def.kept = keptTypeFor(d.definitions(closure))
		meetKept(def.wireType, closure.defs, def.kept)
	}
	return def.kept
}

// closure returns what id needs, or fails if that cannot be told.
func (d *decoder) closure(id int32) closure {
	c := closure{defs: make([]*definition, 0, 8)}
	d.closureOf(id, &c)
	if c.partial {
		fail()
	}
	return c
}

// definitions returns the definitions of a closure as messages that depend on the
// type alone. In a stream, ids and some names depend on the order in which the
// writer met the types. Here the ids follow the closure, from firstUserID on, and
// types have no names, which matter to gob's errors only.
func (d *decoder) definitions(c closure) []byte {
	b := make([]byte, 0, c.size)
	for _, def := range c.defs {
		b = appendDefinition(b, def, d.canonicalID)
	}
	for _, def := range c.defs {
		def.number = 0
	}
	return b
}

// appendDefinition appends a definition as a message, with other ids.
func appendDefinition(b []byte, def *definition, number func(id int32) int32) []byte {
	start := len(b)
	b = appendInt(b, -int64(number(def.id)))
	b = append(b, byte(1+bits.TrailingZeros8(def.kinds)))
	switch def.kinds {
	case arrayKind:
		b = appendInt(append(b, 2), int64(number(def.elem)))
		b = appendInt(append(b, 1), int64(def.length))
	case sliceKind:
		b = appendInt(append(b, 2), int64(number(def.elem)))
	case structKind:
		b = appendUint(append(b, 2), uint64(len(def.fields)))
		for _, field := range def.fields {
			b = appendString(append(b, 1), field.name)
			b = appendInt(append(b, 1), int64(number(field.id)))
			b = append(b, 0)
		}
	case mapKind:
		b = appendInt(append(b, 2), int64(number(def.key)))
		b = appendInt(append(b, 1), int64(number(def.elem)))
	case gobEncoderKind, binaryMarshalerKind, textMarshalerKind:
	default:
		panic(errUnclear)
	}
	b = append(b, 0, 0)
	return insertLength(b, start)
}

// canonicalID returns the id of a type by its place in the closure at work.
func (d *decoder) canonicalID(id int32) int32 {
	if id < firstUserID {
		return id
	}
	def := d.lookup(id)
	if def == nil {
		fail()
	}
	return firstUserID - 1 + int32(def.number)
}

// newKeptDecoder returns a decoder that will first read the definitions of id.
func (d *decoder) newKeptDecoder(id int32) *keptDecoder {
	k := &keptDecoder{buf: d.definitions(d.closure(id))}
	// Where definitions have much in common this could go on and on.
	if d.prepared += len(k.buf); d.prepared > len(d.data) {
		fail()
	}
	k.dec = gob.NewDecoder(&k.in)
	return k
}
