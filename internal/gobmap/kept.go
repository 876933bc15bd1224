// The road of encoding/gob for single values. A gob encoder or decoder prepares
// itself anew for every type it meets, which costs many times the value itself;
// so those that have met a type are kept, and fed with values only.

package gobmap

import (
	"bytes"
	"encoding/gob"
	"math/bits"
	"reflect"
	"sync"
)

// keptEncoder is an encoder that has written the definitions of one type.
type keptEncoder struct {
	enc *gob.Encoder
	out bytes.Buffer
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
	r.bytes()
	if r.typeID(true) != info.id || len(r.defs) != len(info.defs) {
		return nil, errNotByHand
	}
	return k, nil
}

// keptDecoder is a decoder that has read a certain set of definitions.
type keptDecoder struct {
	dec *gob.Decoder
	in  bytes.Reader
	buf []byte
}

// keptDecoders holds the decoders by the definitions they have read, as messages.
var keptDecoders struct {
	sync.Mutex
	pools map[string]*sync.Pool // of *keptDecoder
	size  int                   // bytes in the keys
}

// Limits on keptDecoders; beyond them it starts afresh.
const (
	maxPools    = 256
	maxPoolKeys = 256 << 10
)

func poolFor(definitions []byte) *sync.Pool {
	kept := &keptDecoders
	kept.Lock()
	defer kept.Unlock()
	pool := kept.pools[string(definitions)]
	if pool == nil {
		if len(kept.pools) == maxPools || kept.size+len(definitions) > maxPoolKeys || kept.pools == nil {
			kept.pools, kept.size = make(map[string]*sync.Pool), 0
		}
		pool = new(sync.Pool)
		kept.pools[string(definitions)] = pool
		kept.size += len(definitions)
	}
	return pool
}

// other reads the interface value of the type called name by a decoder that is
// kept for the definitions of id.
func (d *decoder) other(name string, id int32) any {
	pool := d.decodersFor(id)
	start := d.pos
	d.skip(id)
	value := d.data[start:d.pos]

	k, _ := pool.Get().(*keptDecoder)
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
		pool.Put(k)
	}
	return v
}

// decodersFor returns the pool of decoders for the definitions of id.
func (d *decoder) decodersFor(id int32) *sync.Pool {
	def := d.lookup(id)
	if def != nil && def.decoders != nil {
		return def.decoders
	}
	pool := poolFor(d.definitions(id))
	if def != nil {
		def.decoders = pool
	}
	return pool
}

// definitions returns the definitions of id as messages that depend on the type
// alone. In a stream, ids and some names depend on the order in which the writer
// met the types. Here the ids follow the closure, from firstUserID on, and types
// have no names, which matter to gob's errors only.
func (d *decoder) definitions(id int32) []byte {
	c := closure{defs: make([]*definition, 0, 8)}
	d.closureOf(id, &c)
	if c.partial {
		fail()
	}
	b := make([]byte, 0, c.size)
	for _, def := range c.defs {
		b = d.appendDefinition(b, def)
	}
	for _, def := range c.defs {
		def.number = 0
	}
	return b
}

func (d *decoder) appendDefinition(b []byte, def *definition) []byte {
	start := len(b)
	b = appendInt(b, -int64(d.canonicalID(def.id)))
	b = append(b, byte(1+bits.TrailingZeros8(def.kinds)))
	switch def.kinds {
	case arrayKind:
		b = appendInt(append(b, 2), int64(d.canonicalID(def.elem)))
		b = appendInt(append(b, 1), int64(def.length))
	case sliceKind:
		b = appendInt(append(b, 2), int64(d.canonicalID(def.elem)))
	case structKind:
		b = appendUint(append(b, 2), uint64(len(def.fields)))
		for _, field := range def.fields {
			b = appendString(append(b, 1), field.name)
			b = appendInt(append(b, 1), int64(d.canonicalID(field.id)))
			b = append(b, 0)
		}
	case mapKind:
		b = appendInt(append(b, 2), int64(d.canonicalID(def.key)))
		b = appendInt(append(b, 1), int64(d.canonicalID(def.elem)))
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
	k := &keptDecoder{buf: d.definitions(id)}
	// Where definitions have much in common this could go on and on.
	if d.prepared += len(k.buf); d.prepared > len(d.data) {
		fail()
	}
	k.dec = gob.NewDecoder(&k.in)
	return k
}
