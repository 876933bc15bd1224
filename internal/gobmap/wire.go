// The wire format: reader walks a gob stream by the type definitions that the
// stream itself carries. It knows no Go types and makes no values, so it can
// vouch for a stream before encoding/gob sees it.

package gobmap

import (
	"errors"
	"math"
	"math/bits"
	"sync/atomic"
)

// Ids of gob's predeclared types; a stream defines its own from firstUserID on.
const (
	boolID      = 1
	intID       = 2
	uintID      = 3
	floatID     = 4
	bytesID     = 5
	stringID    = 6
	complexID   = 7
	interfaceID = 8
	firstUserID = 64
)

// What a definition describes, one bit for each field of gob's wireType.
const (
	arrayKind uint8 = 1 << iota
	sliceKind
	structKind
	mapKind
	gobEncoderKind
	binaryMarshalerKind
	textMarshalerKind
)

// fieldCounts holds the number of fields of each alternative of wireType.
var fieldCounts = [...]int{3, 2, 2, 3, 1, 1, 1}

// maxDepth bounds the nesting of a value that is saved. What is read may nest
// four times deeper: the two directions do not count quite the same things,
// and whatever was saved must be readable.
const maxDepth = 10_000

// maxHandDepth bounds the nesting of what is read or written by hand.
const maxHandDepth = 100

var (
	errMalformed = errors.New("malformed or truncated gob stream")
	errNested    = errors.New("refused: nested too deep")
	errUnclear   = errors.New("refused: a type of several kinds at once, or of none")
	errCostly    = errors.New("refused: type definitions out of proportion to the stream")
	errEndless   = errors.New("refused: a map with more entries than bytes")
	errUnsure    = errors.New("refused: malformed, unless that is in a value to be passed over")
)

// wireType is what a type definition says.
type wireType struct {
	kinds     uint8
	name      string // without that of a package; empty where the type has none, or the encoder sent none
	key, elem int32
	length    uint64
	fields    []structField
	raw       string // from the negated id to the end of the wireType
	met       uint64 // see meet; 0: not met
	closure   atomic.Pointer[metClosure]
}

// definition is a type definition of the stream at hand.
type definition struct {
	*wireType
	id     int32
	number int16 // place in the closure at work, from 1; maxClosure keeps it small
	onPath bool
	kept   *keptType // if already looked up
}

type structField struct {
	name string
	id   int32 // of its type
}

// reader reads one value from a stream. Its methods panic with an error on
// anything that is not well formed.
type reader struct {
	data     string
	pos, end int // the unread part of the current message; the next begins at end
	defs     []definition
	index    map[int32]int // positions in defs, once they are many
	depth    int
	budget   int  // see weigh, and spend of describer
	structs  int  // how many of the enclosing values are structs
	unsure   bool // an interface within a struct was met, of which gob may look at the length only
	copier   *copier
}

func fail() { panic(errMalformed) }

func (r *reader) uint() uint64 {
	if i := r.pos; i < r.end && r.data[i] < 0x80 {
		r.pos = i + 1
		return uint64(r.data[i])
	}
	return r.longUint()
}

func (r *reader) longUint() uint64 {
	if r.pos >= r.end {
		fail()
	}
	n := -int(int8(r.data[r.pos]))
	if n > 8 || n > r.end-r.pos-1 {
		fail()
	}
	var x uint64
	for _, b := range []byte(r.data[r.pos+1 : r.pos+1+n]) {
		x = x<<8 | uint64(b)
	}
	r.pos += 1 + n
	return x
}

func (r *reader) int() int64 {
	x := r.uint()
	if x&1 != 0 {
		return ^int64(x >> 1)
	}
	return int64(x >> 1)
}

func (r *reader) int32() int32 {
	x := r.int()
	if int64(int32(x)) != x {
		fail()
	}
	return int32(x)
}

func (r *reader) float64() float64 {
	return math.Float64frombits(bits.ReverseBytes64(r.uint()))
}

// bytes reads a length and that many bytes.
func (r *reader) bytes() string {
	n := r.uint()
	if n > uint64(r.end-r.pos) {
		fail()
	}
	s := r.data[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return s
}

func (r *reader) nextMessage() {
	r.end = len(r.data)
	n := r.uint()
	if n > uint64(r.end-r.pos) {
		fail()
	}
	r.end = r.pos + int(n)
}

// nextField moves *field to the next field present of a struct that has n of
// them, and reports whether there is one.
func (r *reader) nextField(field *int, n int) bool {
	if r.pos == r.end {
		if r.copier != nil { // elsewhere it would go on
			fail()
		}
		return false
	}
	delta := r.uint()
	if delta > uint64(n-1-*field) {
		fail()
	}
	*field += int(delta)
	return delta != 0
}

// typeID reads the id of the value that follows, taking in the type definitions
// before it. Inside an interface value these may stand in the same message.
func (r *reader) typeID(inInterface bool) int32 {
	for {
		if r.pos == r.end {
			r.nextMessage()
		}
		start := r.pos
		id := int32(r.int()) // gob cuts off the upper bits, too
		if id >= 0 {
			return id
		}
		r.define(-id, start)
		if r.pos < r.end {
			if !inInterface {
				fail()
			}
			r.uint() // the length of the rest of the message
		}
	}
}

// define takes in the definition of id, which begins at start.
func (r *reader) define(id int32, start int) {
	if id < firstUserID || r.lookup(id) != nil {
		fail()
	}
	typ := metType(r.data[start:r.end])
	if typ != nil {
		r.pos = r.end
	} else {
		typ = r.wireType()
		typ.raw = r.data[start:r.pos]
	}
	r.defs = append(r.defs, definition{wireType: typ, id: id})
	if r.index != nil {
		r.index[id] = len(r.defs) - 1
	}
}

func (r *reader) wireType() *wireType {
	typ := new(wireType)
	for kind := -1; r.nextField(&kind, len(fieldCounts)); {
		typ.kinds |= 1 << kind
		for field := -1; r.nextField(&field, fieldCounts[kind]); {
			switch {
			case field == 0:
				typ.name = r.nameAndID().name
			case 1<<kind == structKind:
				typ.fields = r.structFields()
			case 1<<kind == arrayKind && field == 2:
				typ.length = uint64(r.int())
			case 1<<kind == mapKind && field == 1:
				typ.key = r.int32()
			default:
				typ.elem = r.int32()
			}
		}
	}
	return typ
}

// nameAndID reads the name and the id of a type, or the name of a field and the
// id of its type.
func (r *reader) nameAndID() (f structField) {
	for field := -1; r.nextField(&field, 2); {
		if field == 0 {
			f.name = r.bytes()
		} else {
			f.id = r.int32()
		}
	}
	return f
}

func (r *reader) structFields() []structField {
	n := r.uint()
	if n > uint64(r.end-r.pos) { // each takes a byte at least
		fail()
	}
	fields := make([]structField, n)
	for i := range fields {
		if r.pos == r.end {
			fail()
		}
		fields[i] = r.nameAndID()
	}
	return fields
}

// lookup returns the definition of id, or nil.
func (r *reader) lookup(id int32) *definition {
	const few = 16
	if len(r.defs) <= few {
		for i := range r.defs {
			if r.defs[i].id == id {
				return &r.defs[i]
			}
		}
		return nil
	}
	if r.index == nil {
		r.index = make(map[int32]int)
		for i := range r.defs {
			r.index[r.defs[i].id] = i
		}
	}
	if i, ok := r.index[id]; ok {
		return &r.defs[i]
	}
	return nil
}

// scan returns an error unless data begins with a value that is well formed and
// that gob can decode at a cost in proportion to its length.
func scan(data string) (err error) {
	r := reader{data: data}
	defer func() {
		if r.unsure && err == errMalformed {
			err = errUnsure
		}
	}()
	defer rescue(&err)
	r.skip(r.typeID(false))
	r.budget = r.limit()
	for i := range r.defs {
		r.weigh(&r.defs[i])
	}
	return nil
}

// limit returns what the budget for weigh begins with. The definitions of real
// types stay far below.
func (r *reader) limit() int { return 4*len(r.data) + 1000 }

// weigh takes from the budget what gob does to prepare for a struct: for each
// field that it has no room for it goes through all of the field's type, except
// for structs within. A few definitions can make that the square of their size.
func (r *reader) weigh(def *definition) {
	for _, field := range def.fields {
		r.weighField(field.id)
	}
}

func (r *reader) weighField(id int32) {
	if r.budget--; r.budget < 0 {
		panic(errCostly)
	}
	def := r.lookup(id)
	if def == nil || def.onPath || def.kinds&structKind != 0 {
		return
	}
	r.enter()
	def.onPath = true
	r.weighField(def.key)
	r.weighField(def.elem)
	def.onPath = false
	r.depth--
}

func (r *reader) enter() {
	if r.depth++; r.depth > 4*maxDepth {
		panic(errNested)
	}
}

// skip moves over a value as it stands alone in a message or an interface.
func (r *reader) skip(id int32) {
	r.alone(id)
	r.skipElement(id)
}

// alone reads what comes before a value that stands alone: a zero byte, unless it
// is a struct.
func (r *reader) alone(id int32) {
	if (id <= interfaceID || r.composite(id).kinds != structKind) && r.uint() != 0 {
		fail()
	}
}

// composite returns the definition of id, which must be one that a gob encoder
// could have written.
func (r *reader) composite(id int32) *definition {
	def := r.lookup(id)
	switch {
	case def != nil && bits.OnesCount8(def.kinds) != 1, interfaceID < id && id < firstUserID:
		panic(errUnclear)
	case def == nil:
		fail()
	}
	return def
}

func (r *reader) skipElement(id int32) {
	switch id {
	case boolID, intID, uintID, floatID:
		r.uint()
		return
	case complexID:
		r.uint()
		r.uint()
		return
	case bytesID, stringID:
		r.bytes()
		return
	}
	r.enter()
	if id == interfaceID {
		r.unsure = r.unsure || r.structs > 0
		switch name := r.bytes(); {
		case name == "":
		case r.copier != nil:
			r.copier.named(r)
		default:
			id := r.typeID(true)
			r.uint() // the length of the value
			r.skip(id)
		}
	} else {
		r.skipComposite(id)
	}
	r.depth--
}

func (r *reader) skipComposite(id int32) {
	def := r.composite(id) // which an interface within moves if it adds to r.defs
	switch kinds, elem := def.kinds, def.elem; kinds {
	case arrayKind, sliceKind:
		n := r.uint()
		if kinds == arrayKind && n != def.length {
			fail()
		}
		for i := int64(0); i < int64(n); i++ {
			if r.pos == r.end {
				fail()
			}
			r.skipElement(elem)
		}
	case mapKind:
		key := def.key
		for n := int64(r.uint()); n > 0; n-- {
			before := r.pos
			r.skipElement(key)
			r.skipElement(elem)
			if r.pos == before { // structs at the end of a message may take no bytes
				panic(errEndless)
			}
		}
	case structKind:
		fields := def.fields
		r.structs++
		for field := -1; r.nextField(&field, len(fields)); {
			r.skipElement(fields[field].id)
		}
		r.structs--
	case gobEncoderKind, binaryMarshalerKind, textMarshalerKind:
		r.bytes()
	}
}

// closure is what a type needs to be read: its definition and those of the types
// within, in an order that depends on the type alone.
type closure struct {
	defs      []*definition
	size      int  // in bytes, as messages
	partial   bool // more may be needed: an interface is within, or it became too large
	recursive bool // values may nest without limit
}

// maxClosure is the size in bytes up to which definitions are collected.
const maxClosure = 16 << 10

// closureOf collects the definitions that id needs into c, and numbers them.
func (r *reader) closureOf(id int32, c *closure) {
	r.collect(id, c)
	r.budget = r.limit()
	for _, def := range c.defs {
		r.weigh(def)
	}
}

func (r *reader) collect(id int32, c *closure) {
	if id == interfaceID || c.size > maxClosure {
		c.partial = true
		return
	}
	def := r.lookup(id)
	if def == nil {
		return
	}
	c.recursive = c.recursive || def.onPath
	if def.number != 0 {
		return
	}
	c.defs = append(c.defs, def)
	c.size += uintSize(uint64(len(def.raw))) + len(def.raw)
	def.number = int16(len(c.defs))
	def.onPath = true
	if def.key != 0 {
		r.collect(def.key, c)
	}
	if def.elem != 0 {
		r.collect(def.elem, c)
	}
	for _, field := range def.fields {
		r.collect(field.id, c)
	}
	def.onPath = false
}

func appendUint(b []byte, x uint64) []byte {
	if x < 0x80 {
		return append(b, byte(x))
	}
	n := (bits.Len64(x) + 7) / 8
	b = append(b, byte(-n))
	for n--; n >= 0; n-- {
		b = append(b, byte(x>>(8*n)))
	}
	return b
}

func appendInt(b []byte, x int64) []byte { return appendUint(b, zigzag(x)) }

func zigzag(x int64) uint64 { return uint64(x<<1) ^ uint64(x>>63) }

func appendString(b []byte, s string) []byte {
	return append(appendUint(b, uint64(len(s))), s...)
}

// uintSize returns the number of bytes that appendUint adds.
func uintSize(x uint64) int {
	if x < 0x80 {
		return 1
	}
	return 1 + (bits.Len64(x)+7)/8
}
