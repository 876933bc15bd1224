// Package gobmap encodes and decodes the values of a session,
// map[interface{}]interface{}, in the format of encoding/gob. It exchanges
// streams with session.EncodeGob and session.DecodeGob of beego at a fraction of
// their cost, most of which is that encoding/gob prepares itself for the types
// in each stream anew.
//
// The basic types, []byte, []string, time.Time, time.Duration and the slices and
// maps that beego registers are handled here, at any depth. So are structs and
// other types of the program's own, after the first value of each, which
// encoding/gob has to do (see codec.go); recursive types, and the little else that
// gob treats in a way of its own, always go through gob encoders and decoders that
// are kept. A map goes through encoding/gob as a whole if it holds a struct, or
// another such type, that has an interface within. What this program cannot
// decode can be carried along (see carried.go). The outcome is that of
// encoding/gob, except that nothing panics and that these are refused with an error:
//
//   - values that nest deeper than 10,000 levels, and so those that contain
//     themselves: they would end the process;
//   - pointers to nil pointers, of which gob writes what cannot be read;
//   - streams that claim to hold more than they do, or whose type definitions no
//     encoder writes or cost out of proportion.
package gobmap

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Encode returns m as a gob stream. Like session.EncodeGob it registers the type
// of each value of m with gob; types of keys and of values within values must be
// registered already. Values may be nil. If Encode fails, Failing tells which
// entries are to blame.
func Encode(m map[any]any) ([]byte, error) {
	data, err := EncodeBefore(m, nil)
	if err != nil {
		return nil, err
	}
	return []byte(data), nil
}

// EncodeBefore is Encode, and returns the stream with the tail behind it.
func EncodeBefore(m map[any]any, tail []byte) (string, error) {
	data, err := encodeByHand(m, tail)
	if errors.Is(err, errNotByHand) {
		data, err = encodeByGob(m, tail)
	}
	if errors.Is(err, errCarried) {
		data, err = encodeCarrying(m, tail)
	}
	if err != nil {
		return "", fmt.Errorf("gobmap: encode: %w", err)
	}
	return data, nil
}

func encodeByGob(m map[any]any, tail []byte) (data string, err error) {
	defer rescue(&err)
	for k, v := range m {
		if IsCarried(k) || IsCarried(v) {
			return "", errCarried
		}
		if err := Check(v); err != nil {
			return "", fmt.Errorf("entry %#v: %w", k, err)
		}
	}
	if err := checkWithin(reflect.ValueOf(m), 0); err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(m); err != nil {
		return "", err
	}
	b.Write(tail)
	return b.String(), nil
}

// Failing returns the keys of those entries of m that cannot be encoded, each
// with the reason.
func Failing(m map[any]any) map[any]error {
	failing := make(map[any]error)
	for k, v := range m {
		if _, err := Encode(map[any]any{k: v}); err != nil {
			failing[k] = err
		}
	}
	return failing
}

// Check returns an error if values of v's type can never be encoded, or if v is a
// nil pointer; a nil v can be encoded. Else it registers the type with gob under
// its usual name, so that it can be that of a key, too. It does not look at what
// v contains.
func Check(v any) error {
	switch v.(type) {
	case nil, bool, string, []byte, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, uintptr,
		float32, float64, complex64, complex128:
		return nil
	}
	if IsCarried(v) {
		return nil
	}
	err := checkType(v)
	if err == nil {
		err = checkPointer(reflect.ValueOf(v))
	}
	if err != nil {
		return fmt.Errorf("%T cannot be saved: %w", v, err)
	}
	return nil
}

// Decode returns the map that data holds; what follows it in data is ignored.
// Strings in the map may share the memory of data if that is at most 32 KiB
// long. Errors include those of encoding/gob, as for a name that is not
// registered; an empty stream is an error, too.
func Decode(data string) (map[any]any, error) {
	m, err := decodeByHand(data)
	if err == nil {
		return m, nil
	}
	if err = scan(data); err == nil {
		m, err = decodeByGob(data)
	}
	if err != nil {
		return nil, fmt.Errorf("gobmap: decode: %w", err)
	}
	return m, nil
}

func decodeByGob(data string) (m map[any]any, err error) {
	defer rescue(&err)
	err = gob.NewDecoder(strings.NewReader(data)).Decode(&m)
	return m, err
}

// rescue turns a panic into an error.
func rescue(err *error) {
	switch p := recover().(type) {
	case nil:
	case error:
		*err = p
	default:
		*err = fmt.Errorf("panic: %v", p)
	}
}
