// Carrying along: entries of a map that this program cannot decode, as those of a type that another version of it has.

package gobmap

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Carried is a key or a value of a map that this program could not decode. It is encoded as it was read. The same value
// read from two streams is the same Carried, whatever ids the writers gave to its types.
type Carried struct {
	types string // the definitions, as messages; ids count from firstUserID on in the order in which the value needs them
	value string // the interface value: name, id and length of the value, and what follows
}

// Undecoded is why a value was not decoded.
type Undecoded struct {
	Type string // the name under which the type of the key or value is registered where it was written
	Err  error  // that of encoding/gob
}

// IsCarried tells whether v is a Carried.
func IsCarried(v any) bool {
	_, ok := v.(Carried)
	return ok
}

// Type returns the name under which the type is registered where the value was written.
func (c Carried) Type() string {
	r := reader{data: c.value, end: len(c.value)}
	return r.bytes()
}

// String returns the name of the type: what the value holds is for nobody's log.
func (c Carried) String() string { return fmt.Sprintf("(a %.200s that is not decoded)", c.Type()) }

// GoString is String.
func (c Carried) GoString() string { return c.String() }

// Basic returns what the value holds as an int64, uint64 or string if its type is one of integers or strings that does
// not encode itself, and nil if it is another.
func (c Carried) Basic() any {
	r := reader{data: c.value, end: len(c.value)}
	if strings.HasPrefix(r.bytes(), "*") {
		return nil
	}
	id := r.int32()
	r.uint() // the length
	r.uint() // a zero byte
	switch id {
	case intID:
		return r.int()
	case uintID:
		return r.uint()
	case stringID:
		return r.bytes()
	}
	return nil
}

// Carry is Decode, except that a key or value that cannot be decoded is in the map as a Carried. It returns why, once for
// each type that is to blame as a whole, else for each value; nothing where Decode would do. It is an error if data is no
// stream of such a map, or one whose structure is damaged.
func Carry(data string) (map[any]any, []Undecoded, error) {
	m, err := decodeByHand(data)
	if err == nil {
		return m, nil, nil
	}
	byHand := err
	if err = scan(data); err != nil {
		return nil, nil, fmt.Errorf("gobmap: decode: %w", err)
	}
	if notRegistered(byHand) == "" {
		if m, err = decodeByGob(data); err == nil {
			return m, nil, nil
		}
	}
	m, undecoded, err := decodeEntries(data, byHand)
	if err != nil {
		return nil, nil, fmt.Errorf("gobmap: decode: %w", err)
	}
	return m, undecoded, nil
}

// notRegistered returns the name of encoding/gob's error for one that is not registered, and nothing for other errors.
func notRegistered(err error) string {
	if quoted, ok := strings.CutPrefix(err.Error(), "gob: name not registered for interface: "); ok {
		if name, err := strconv.Unquote(quoted); err == nil {
			return name
		}
	}
	return ""
}

// mismatched recognises encoding/gob's errors for a type that differs from what the stream has, whatever the value.
func mismatched(err error) bool {
	for _, beginning := range [...]string{"gob: wrong type (", "gob: decoding into local type ", "gob: type mismatch: "} {
		if strings.HasPrefix(err.Error(), beginning) {
			return true
		}
	}
	return false
}

// errKey is why a value that can be decoded is carried along.
var errKey = errors.New("its type cannot be that of a key")

// decodeEntries decodes a map that does not decode by hand, for a reason which may be that of a name.
func decodeEntries(data string, reason error) (m map[any]any, undecoded []Undecoded, err error) {
	defer rescue(&err)
	e := &entries{
		canonizer: canonizer{reader: &reader{data: data}, types: make(map[string]string)},
		budget:    64*len(data) + 1000*attemptCost,
		missing:   make(map[string]error),
		refused:   make(map[refusedType]bool),
	}
	e.misses(reason)
	id := e.typeID(false)
	def := e.lookup(id)
	if def == nil || def.kinds != mapKind || def.key != interfaceID || def.elem != interfaceID {
		fail()
	}
	e.alone(id)
	m = make(map[any]any)
	for n := int64(e.uint()); n > 0; n-- {
		key := e.next(true)
		m[key] = e.next(false)
	}
	return m, e.undecoded, nil
}

// entries decodes the keys and values of a map one by one.
type entries struct {
	canonizer
	undecoded []Undecoded
	budget    int              // see spend
	missing   map[string]error // names that are not registered
	refused   map[refusedType]bool
}

// refusedType is a type of which no value can be decoded, which is in undecoded; whatever its definitions are if it has none.
type refusedType struct{ name, types string }

// Attempts to decode a value that need encoding/gob take from the budget attemptCost, and attemptFactor for each byte: gob prepares
// itself anew each time.
const (
	attemptCost   = 4 << 10
	attemptFactor = 16
)

// spend takes from the budget what there is to do in addition to one pass over the stream. Values of one type have its
// definitions each, so that this could be the square of the stream's length.
func (e *entries) spend(n int) {
	if e.budget -= n; e.budget < 0 {
		panic(errCostly)
	}
}

// next decodes the interface value that comes next.
func (e *entries) next(isKey bool) any {
	if v, ok := e.basic(); ok {
		return v
	}
	c, closed := e.carried()
	if c.value == "\x00" {
		return nil
	}
	e.spend(len(c.types) + len(c.value))
	name := c.Type()
	if e.refused[refusedType{name: name}] || closed && e.refused[refusedType{name, c.types}] {
		return c
	}
	v, err := any(nil), e.missing[name]
	if err == nil {
		v, err = e.attempt(c)
	}
	if err == nil && isKey && !reflect.ValueOf(v).Comparable() {
		err = errKey
	}
	if err == nil {
		return v
	}
	e.misses(err)
	e.undecoded = append(e.undecoded, Undecoded{name, err})
	switch {
	case e.missing[name] != nil:
		e.refused[refusedType{name: name}] = true
	case closed && mismatched(err):
		e.refused[refusedType{name, c.types}] = true
	}
	return c
}

// misses takes note of a name that is not registered.
func (e *entries) misses(err error) {
	if name := notRegistered(err); name != "" {
		e.missing[name] = err
	}
}

// basic decodes the interface value that comes next if it is one of the simplest, which are most of them.
func (e *entries) basic() (v any, ok bool) {
	rest := e.data[e.pos:e.end]
	for _, head := range [...]string{stringHead, "\x04bool\x02", "\x03int\x04", "\x05int64\x04"} {
		if strings.HasPrefix(rest, head) {
			d := decoder{reader: reader{data: e.data, pos: e.pos, end: e.end}}
			defer func() { ok = recover() == nil }()
			v = d.value()
			e.pos = d.pos
			break
		}
	}
	return v, v != nil
}

// attempt decodes a value, standing alone in a stream.
func (e *entries) attempt(c Carried) (any, error) {
	stream := c.stream()
	m, err := decodeByHand(stream)
	if err != nil {
		e.spend(attemptCost + attemptFactor*len(stream))
	}
	if err != nil && notRegistered(err) == "" {
		m, err = decodeByGob(stream)
	}
	return m[nil], err
}

// aloneID is the id of the map in a stream of one value. It is none of those that the value needs.
const aloneID = 1 << 30

// stream returns a stream of a map that has the value under the key nil.
func (c Carried) stream() string {
	b := make([]byte, 0, len(c.types)+len(c.value)+40)
	b = append(b, c.types...)
	b = appendDefinition(b, &definition{wireType: &wireType{kinds: mapKind, key: interfaceID, elem: interfaceID}, id: aloneID}, itself)
	start := len(b)
	b = appendInt(b, aloneID)
	b = append(b, 0, 1, 0)
	b = append(b, c.value...)
	return string(insertLength(b, start))
}

func itself(id int32) int32 { return id }

// canonizer makes Carried of what its reader reads.
type canonizer struct {
	*reader
	types   map[string]string // the definitions of all that it made, which share their memory
	numbers map[int32]int32   // canonical ids by those of the stream
	ids     []int32           // of the stream, in the order of their canonical ids
}

// carried reads an interface value. closed tells whether no other is within.
func (c *canonizer) carried() (v Carried, closed bool) {
	if c.numbers == nil {
		c.numbers = make(map[int32]int32)
	}
	clear(c.numbers)
	c.ids = c.ids[:0]
	values := 0
	v.value = string(c.copyValue(func(id int32) int32 {
		values++
		c.need(id)
		return c.canonical(id)
	}))
	var types []byte
	for _, id := range c.ids {
		types = appendDefinition(types, c.lookup(id), c.canonical)
	}
	shared, ok := c.types[string(types)]
	if !ok {
		shared = string(types)
		c.types[shared] = shared
	}
	v.types = shared
	return v, values <= 1
}

// need numbers a type and those within it.
func (c *canonizer) need(id int32) {
	if _, ok := c.numbers[id]; ok || id < firstUserID {
		return
	}
	typ := c.composite(id).wireType
	c.numbers[id] = firstUserID + int32(len(c.ids))
	c.ids = append(c.ids, id)
	c.enter()
	c.need(typ.key)
	c.need(typ.elem)
	for _, field := range typ.fields {
		c.need(field.id)
	}
	c.depth--
}

func (c *canonizer) canonical(id int32) int32 {
	if id < firstUserID {
		return id
	}
	return c.numbers[id]
}

// copier copies interface values as a reader passes over them, with other ids, and without the definitions among them.
type copier struct {
	number func(id int32) int32
	begun  int // where in the stream what is not yet copied begins
	pieces []piece
	size   int // of the copy, in bytes
}

// piece is a part of a copy: what is copied as it is, or else an id or a length.
type piece struct {
	text   string
	number uint64
}

// copyValue moves over an interface value and returns a copy of it.
func (r *reader) copyValue(number func(id int32) int32) []byte {
	c := &copier{number: number, begun: r.pos}
	r.copier = c
	r.skipElement(interfaceID)
	r.copier = nil
	c.text(r)
	b := make([]byte, 0, c.size)
	for _, p := range c.pieces {
		if p.text != "" {
			b = append(b, p.text...)
		} else {
			b = appendUint(b, p.number)
		}
	}
	return b
}

// text copies what the reader has passed.
func (c *copier) text(r *reader) {
	if s := r.data[c.begun:r.pos]; s != "" {
		c.pieces = append(c.pieces, piece{text: s})
		c.size += len(s)
	}
}

// named copies an interface value, of which the reader has passed the name.
func (c *copier) named(r *reader) {
	c.text(r)
	id := r.typeID(true)
	r.uint() // a length that does not hold for the copy
	inCopy := zigzag(int64(c.number(id)))
	length := len(c.pieces) + 1
	c.pieces = append(c.pieces, piece{number: inCopy}, piece{})
	c.size += uintSize(inCopy)
	before := c.size
	c.begun = r.pos
	r.skip(id)
	c.text(r)
	c.begun = r.pos
	c.pieces[length].number = uint64(c.size - before)
	c.size += uintSize(uint64(c.size - before))
}

// errCarried tells that a map has a Carried in it.
var errCarried = errors.New("carried along")

// encodeCarrying encodes a map that has Carried in it: the others, and before them in the same message these.
func encodeCarrying(m map[any]any, tail []byte) (data string, err error) {
	defer rescue(&err)
	own := make(map[any]any, len(m))
	var carried []Carried // keys, and after each its value
	for k, v := range m {
		if !IsCarried(k) && !IsCarried(v) {
			own[k] = v
			continue
		}
		for _, half := range [...]any{k, v} {
			c, err := carriedOf(half)
			if err != nil {
				return "", fmt.Errorf("entry %#v: %w", k, err)
			}
			carried = append(carried, c)
		}
	}
	if data, err = EncodeBefore(own, nil); err != nil {
		return "", errors.Unwrap(err)
	}
	return splice(data, carried, tail), nil
}

// carriedOf returns a Carried as it is, and any other value as one.
func carriedOf(v any) (Carried, error) {
	if c, ok := v.(Carried); ok {
		return c, nil
	}
	data, err := EncodeBefore(map[any]any{nil: v}, nil)
	if err != nil {
		return Carried{}, errors.Unwrap(err)
	}
	c := canonizer{reader: &reader{data: data}, types: make(map[string]string)}
	c.alone(c.typeID(false))
	c.uint()  // the number of entries
	c.bytes() // the key
	whole, _ := c.carried()
	return whole, nil
}

// splice puts carried keys and values into a stream that this program has written.
func splice(data string, carried []Carried, tail []byte) string {
	r := &reader{data: data}
	var start int // of the first message of the map
	id := int32(-1)
	for id < 0 {
		start, r.pos = r.end, r.end
		r.nextMessage()
		begun := r.pos
		if id = r.int32(); id < 0 {
			r.define(-id, begun)
		}
	}
	r.alone(id)
	n := r.uint()
	rest := data[r.pos:r.end]
	after := data[r.end:]
	for range 2 * n {
		r.skipElement(interfaceID)
	}
	next := int32(firstUserID)
	for _, def := range r.defs {
		next = max(next, def.id+1)
	}

	out := []byte(data[:start])
	message := appendInt(nil, int64(id))
	message = appendUint(append(message, 0), n+uint64(len(carried)/2))
	first := make(map[string]int32) // the first id of those that have the same definitions
	for _, c := range carried {
		types := definitionsIn(c.types)
		shift, defined := first[c.types]
		if !defined {
			shift = next - firstUserID
			first[c.types] = shift
			next += int32(len(types.defs))
		}
		number := func(id int32) int32 {
			if id < firstUserID {
				return id
			}
			return id + shift
		}
		if !defined {
			for i := range types.defs {
				out = appendDefinition(out, &types.defs[i], number)
			}
		}
		types.data, types.pos, types.end = c.value, 0, len(c.value)
		message = append(message, types.copyValue(number)...)
	}
	out = appendUint(out, uint64(len(message)+len(rest)))
	out = append(append(out, message...), rest...)
	return string(append(append(out, after...), tail...))
}
