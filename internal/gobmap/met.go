// Type definitions that were met before. Most streams bring definitions of the
// same few types, and parsing these takes longer than the values.

package gobmap

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// metTypes is a table of definitions by their bytes, in which new ones displace
// old ones. An id is a part of the bytes, so that each writer may have its own.
var metTypes [256][2]atomic.Pointer[wireType]

// maxMetType is the length in bytes up to which definitions are in the table.
const maxMetType = 1 << 10

var metSeed = maphash.MakeSeed()

func metSet(raw string) *[2]atomic.Pointer[wireType] {
	return &metTypes[maphash.String(metSeed, raw)%uint64(len(metTypes))]
}

// metType returns what the definition raw says if it was met before, or nil.
func metType(raw string) *wireType {
	if len(raw) > maxMetType {
		return nil
	}
	set := metSet(raw)
	for i := range set {
		if typ := set[i].Load(); typ != nil && typ.raw == raw {
			return typ
		}
	}
	return nil
}

// metCount numbers the types that were met. What is kept for one names others by their numbers, so that none stays in
// memory that is no longer in the table.
var metCount atomic.Uint64

// meet puts the definitions of a stream that was decoded into the table. They
// share no memory with the stream.
func (r *reader) meet() {
	for _, def := range r.defs {
		if def.met != 0 || len(def.raw) > maxMetType || metType(def.raw) != nil {
			continue
		}
		own := reader{data: strings.Clone(def.raw), end: len(def.raw)}
		own.int() // the id
		typ := own.wireType()
		typ.raw, typ.met = own.data, metCount.Add(1)
		set := metSet(typ.raw)
		set[1].Store(set[0].Load())
		set[0].Store(typ)
	}
}

// metClosure is what is kept for a type, given that the types within are these.
type metClosure struct {
	types []metMember
	kept  *keptType
}

type metMember struct {
	id  int32
	met uint64
}

// metKept returns what is kept for a type if that and all types within were met
// before, or nil.
func (r *reader) metKept(typ *wireType) *keptType {
	c := typ.closure.Load()
	if c == nil {
		return nil
	}
	for _, m := range c.types {
		if def := r.lookup(m.id); def == nil || def.met != m.met {
			return nil
		}
	}
	return c.kept
}

// meetKept has metKept return kept the next time, unless a type is not in the table.
func meetKept(typ *wireType, closure []*definition, kept *keptType) {
	c := &metClosure{kept: kept}
	for _, def := range closure {
		if def.met == 0 {
			return
		}
		c.types = append(c.types, metMember{def.id, def.met})
	}
	typ.closure.Store(c)
}
