// Whether two values are stored alike. What is in memory says more than what is
// stored: fields that gob leaves out, a NaN that equals nothing, the nil slice
// that an empty one becomes, a clock reading in a time.

package gobmap

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"math"
	"reflect"
	"slices"
)

// Equal reports whether v is still what was read: if it was saved, it would read
// back the same. NaN equals NaN. What cannot be encoded equals only what is the
// same in memory.
func Equal(read, v any) bool {
	if IsCarried(read) || IsCarried(v) {
		return read == v
	}
	if Same(read, v) {
		return true
	}
	back, err := Copy(v)
	return err == nil && Same(read, back)
}

// Same is Equal of two values that were read. Of others it may find a difference
// where there is none.
func Same(a, b any) bool { return same(reflect.ValueOf(a), reflect.ValueOf(b), 0) }

// Copy returns what a reader gets who finds v in a session. It shares nothing
// with v but strings. An error is that of Encode.
func Copy(v any) (any, error) {
	data, err := Encode(map[any]any{"": v})
	if err != nil {
		return nil, err
	}
	m, err := Decode(string(data))
	return m[""], err
}

// same compares what gob would write of two values. It may find a difference
// where there is none, which going through the codec then takes away, but never
// the other way round.
func same(a, b reflect.Value, depth int) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Type() != b.Type() || depth > maxDepth {
		return false
	}
	if encodedA, ok := encodesItself(a); ok {
		encodedB, ok := encodesItself(b)
		return ok && bytes.Equal(encodedA, encodedB)
	}
	switch a.Kind() {
	case reflect.Bool:
		return a.Bool() == b.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return a.Int() == b.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return a.Uint() == b.Uint()
	case reflect.Float32, reflect.Float64:
		return sameFloat(a.Float(), b.Float())
	case reflect.Complex64, reflect.Complex128:
		return sameFloat(real(a.Complex()), real(b.Complex())) && sameFloat(imag(a.Complex()), imag(b.Complex()))
	case reflect.String:
		return a.String() == b.String()
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() && b.IsNil()
		}
		return same(a.Elem(), b.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i), depth+1) {
				return false
			}
		}
		return true
	case reflect.Map:
		return a.IsNil() == b.IsNil() && a.Len() == b.Len() && sameEntries(a, b, depth+1)
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Type().Field(i).IsExported() && !same(a.Field(i), b.Field(i), depth+1) {
				return false
			}
		}
		return true
	}
	return true // a chan or a func in a struct, which gob leaves out
}

// sameEntries compares maps of the same length. A key that cannot be looked up, a
// NaN or a pointer, is looked for. So is one with a zero in it, because looking it
// up finds that of the other sign as well.
func sameEntries(a, b reflect.Value, depth int) bool {
	var rest [][2]reflect.Value // of b
	for entries := b.MapRange(); entries.Next(); {
		if !lookUp(a, entries.Key()).IsValid() {
			rest = append(rest, [2]reflect.Value{entries.Key(), entries.Value()})
		}
	}
	for entries := a.MapRange(); entries.Next(); {
		if found := lookUp(b, entries.Key()); found.IsValid() {
			if !same(entries.Value(), found, depth) {
				return false
			}
			continue
		}
		i := slices.IndexFunc(rest, func(other [2]reflect.Value) bool {
			return same(entries.Key(), other[0], depth) && same(entries.Value(), other[1], depth)
		})
		if i < 0 {
			return false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return true
}

func lookUp(m, key reflect.Value) reflect.Value {
	if holdsZero(key) {
		return reflect.Value{}
	}
	return m.MapIndex(key)
}

// holdsZero tells whether a key has a number in it of which there are two zeros.
func holdsZero(key reflect.Value) bool {
	switch key.Kind() {
	case reflect.Float32, reflect.Float64:
		return key.Float() == 0
	case reflect.Complex64, reflect.Complex128:
		return real(key.Complex()) == 0 || imag(key.Complex()) == 0
	case reflect.Interface:
		return holdsZero(key.Elem())
	case reflect.Array:
		for i := range key.Len() {
			if holdsZero(key.Index(i)) {
				return true
			}
		}
	case reflect.Struct:
		for i := range key.NumField() {
			if holdsZero(key.Field(i)) {
				return true
			}
		}
	}
	return false
}

func sameFloat(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}

// encodesItself returns what v's own method for encoding makes of it, if gob
// would call one. (It calls that of a pointer only for what it can address,
// which Check does not let pass outside of pointers.)
func encodesItself(v reflect.Value) (data []byte, ok bool) {
	if v.Kind() == reflect.Pointer && v.IsNil() || v.Kind() == reflect.Interface || !v.CanInterface() {
		return nil, false
	}
	if v.Kind() != reflect.Pointer && v.CanAddr() {
		v = v.Addr()
	}
	var err error
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	switch v := v.Interface().(type) {
	case gob.GobEncoder:
		data, err = v.GobEncode()
	case encoding.BinaryMarshaler:
		data, err = v.MarshalBinary()
	default:
		return nil, false
	}
	return data, err == nil
}
