// What this process's encoding/gob makes of a type: whether it can be saved, its
// name, id and definition. All of it is learned from what gob itself writes.

package gobmap

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// typeInfo describes a type as this process's encoding/gob writes it.
type typeInfo struct {
	err       error // why gob cannot write the type
	id        int32
	defs      []typeDef               // what a stream must define before a value of the type
	partial   bool                    // a value may need further definitions
	recursive bool                    // values may nest without limit
	encoders  sync.Pool               // of *keptEncoder
	program   atomic.Pointer[program] // once an encoder has written a value
}

// typeDef is a type definition as a message of a stream.
type typeDef struct {
	id      int32
	message string
}

var typeInfos sync.Map // reflect.Type to *typeInfo

func infoOf(t reflect.Type) *typeInfo {
	if info, ok := typeInfos.Load(t); ok {
		return info.(*typeInfo)
	}
	info := new(typeInfo)
	info.err = info.learn(t)
	actual, _ := typeInfos.LoadOrStore(t, info)
	return actual.(*typeInfo)
}

// learn has gob write an array of no elements of type t: that tells all about
// the type without a call of one of its methods.
func (info *typeInfo) learn(t reflect.Type) (err error) {
	defer rescue(&err)
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).EncodeValue(reflect.Zero(reflect.ArrayOf(0, t))); err != nil {
		return err
	}
	r := reader{data: b.String()}
	info.id = r.lookup(r.typeID(false)).elem
	var c closure
	r.closureOf(info.id, &c)
	for _, def := range c.defs {
		info.defs = append(info.defs, typeDef{def.id, string(appendString(nil, def.raw))})
	}
	info.partial, info.recursive = c.partial, c.recursive
	return nil
}

// verdict holds what Check found out about a type.
type verdict struct{ err error }

var verdicts sync.Map // reflect.Type to verdict

// checkType registers v's type and returns why no value of it can be saved.
func checkType(v any) error {
	t := reflect.TypeOf(v)
	if found, ok := verdicts.Load(t); ok {
		return found.(verdict).err
	}
	err := infoOf(t).err
	if err == nil && needsAddress(t) {
		err = errors.New("its methods for encoding have pointer receivers: save a pointer")
	}
	if err == nil {
		err = register(v)
	}
	verdicts.Store(t, verdict{err})
	return err
}

// register is gob.Register with an error where that panics.
func register(v any) (err error) {
	defer rescue(&err)
	gob.Register(v)
	return nil
}

var marshalers = [...]reflect.Type{reflect.TypeFor[gob.GobEncoder](), reflect.TypeFor[encoding.BinaryMarshaler]()}

// needsAddress reports whether gob would call a method of a pointer to a t, or
// to a field of it, which it cannot for a value in an interface.
func needsAddress(t reflect.Type) bool {
	if t.Kind() == reflect.Chan || t.Kind() == reflect.Func { // gob leaves out such fields
		return false
	}
	for _, m := range marshalers {
		if t.Implements(m) {
			return false
		}
		if t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(m) {
			return true
		}
	}
	switch t.Kind() {
	case reflect.Array:
		return t.Len() > 0 && needsAddress(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && needsAddress(f.Type) {
				return true
			}
		}
	}
	return false
}

// checkPointer returns an error where v is a pointer that leads to nil. At the
// second one gob does not notice, and writes a stream that cannot be read.
func checkPointer(v reflect.Value) error {
	for ; v.Kind() == reflect.Pointer; v = v.Elem() {
		if v.IsNil() {
			return errors.New("nil pointer")
		}
	}
	return nil
}

// checkWithin looks at all of v, except where it encodes itself: it returns an
// error for values nested deeper than maxDepth, as those that contain themselves
// are, on which gob would overflow the stack, and for what checkPointer finds in
// an interface.
func checkWithin(v reflect.Value, depth int) (err error) {
	if depth > maxDepth {
		return errNested
	}
	if !nests(v.Kind()) {
		return nil
	}
	for _, m := range marshalers {
		if v.Type().Implements(m) || reflect.PointerTo(v.Type()).Implements(m) {
			return nil
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		err = checkWithin(v.Elem(), depth+1)
	case reflect.Interface:
		if err = checkPointer(v.Elem()); err == nil {
			err = checkWithin(v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := 0; i < v.NumField() && err == nil; i++ {
			if v.Type().Field(i).IsExported() {
				err = checkWithin(v.Field(i), depth+1)
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next() && err == nil; {
			if err = checkWithin(it.Key(), depth+1); err == nil {
				err = checkWithin(it.Value(), depth+1)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := 0; i < v.Len() && err == nil && nests(v.Type().Elem().Kind()); i++ {
			err = checkWithin(v.Index(i), depth+1)
		}
	}
	return err
}

func nests(k reflect.Kind) bool {
	switch k {
	case reflect.Pointer, reflect.Interface, reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
		return true
	}
	return false
}

// known is a type that gob does not know by itself. It is read and written by
// hand if it was registered under its usual name.
type known struct {
	name   string
	zero   any
	decode func(d *decoder, id int32) any
	encode func(e *encoder, b []byte, v any) []byte
	info   atomic.Pointer[typeInfo]
}

var (
	knownNames = make(map[string]*known)
	knownTypes = make(map[reflect.Type]*known)
)

func know[T any](decode func(*decoder, int32) T, encode func(*encoder, []byte, T) []byte) {
	var zero T
	k := &known{
		name:   fmt.Sprintf("%T", zero),
		zero:   zero,
		decode: func(d *decoder, id int32) any { return decode(d, id) },
		encode: func(e *encoder, b []byte, v any) []byte { return encode(e, b, v.(T)) },
	}
	knownNames[k.name], knownTypes[reflect.TypeOf(zero)] = k, k
}

func knowSlice[V any](elem element[V]) {
	know(
		func(d *decoder, id int32) []V { return decodeSlice(d, id, elem) },
		func(e *encoder, b []byte, s []V) []byte { return encodeSlice(e, b, s, elem) },
	)
}

func knowMap[K comparable, V any](key element[K], elem element[V]) {
	know(
		func(d *decoder, id int32) map[K]V { return decodeMap(d, id, key, elem) },
		func(e *encoder, b []byte, m map[K]V) []byte { return encodeMap(e, b, m, key, elem) },
	)
}

// element is what known slices and maps consist of.
type element[T any] struct {
	id    int32
	read  func(*decoder) T
	write func(*encoder, []byte, T) []byte
}

var (
	anyElement    = element[any]{interfaceID, (*decoder).value, (*encoder).value}
	stringElement = element[string]{stringID, (*decoder).string, writeString}
	intElement    = element[int]{intID, (*decoder).nativeInt, writeInt[int]}
	int64Element  = element[int64]{intID, func(d *decoder) int64 { return d.int() }, writeInt[int64]}
)

func writeString(_ *encoder, b []byte, s string) []byte { return appendString(b, s) }

func writeInt[T int | int64 | time.Duration](_ *encoder, b []byte, x T) []byte {
	return appendInt(b, int64(x))
}

func init() {
	know(decodeTime, encodeTime)
	know(decodeDuration, writeInt[time.Duration])
	knowSlice(anyElement)
	knowSlice(stringElement)
	knowMap(anyElement, anyElement)
	knowMap(stringElement, anyElement)
	knowMap(stringElement, stringElement)
	knowMap(intElement, anyElement)
	knowMap(intElement, stringElement)
	knowMap(intElement, intElement)
	knowMap(intElement, int64Element)
}

// load returns what there is to know about the type, or nil as long as gob does
// not know it by its usual name.
func (k *known) load() *typeInfo {
	info := k.info.Load()
	if info == nil && k.registered() {
		info = infoOf(reflect.TypeOf(k.zero))
		k.info.Store(info)
	}
	return info
}

func (k *known) registered() bool {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(&k.zero); err != nil {
		return false
	}
	r := reader{data: b.String()}
	r.typeID(false)
	r.uint()
	if r.bytes() != k.name {
		return false
	}
	var back any
	err := gob.NewDecoder(&b).Decode(&back)
	return err == nil && reflect.TypeOf(back) == reflect.TypeOf(k.zero)
}
