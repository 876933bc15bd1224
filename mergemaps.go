// How the changes of two requests to one map are brought together, at any depth.

package redis

import (
	"encoding"
	"encoding/gob"
	"reflect"

	"github.com/beego-session/redis/internal/gobmap"
)

// mergeMaps returns what becomes of a value that I changed and that they may have changed too: of two maps of one type a new one,
// and else mine. was is what both began with, or nil. An entry that I added, changed or deleted is mine, all others are theirs; where
// both are maps again, so are these. No argument is written to: a handler may hold it.
func mergeMaps(was, mine, theirs any) any {
	w, m, t := reflect.ValueOf(was), reflect.ValueOf(mine), reflect.ValueOf(theirs)
	if !byEntry(w, m, t) || gobmap.Same(was, theirs) { // both were read
		return mine
	}
	return mergeEntries(w, m, t).Interface()
}

// mergeEntries is mergeMaps of maps that byEntry has found to be so.
func mergeEntries(was, mine, theirs reflect.Value) reflect.Value {
	merged := reflect.MakeMapWithSize(mine.Type(), max(mine.Len(), theirs.Len()))
	for added := theirs.MapRange(); added.Next(); {
		if key := added.Key(); !entryOf(was, key).IsValid() {
			merged.SetMapIndex(key, added.Value())
		}
	}
	for entries := mine.MapRange(); entries.Next(); {
		key, value := entries.Key(), entries.Value()
		old, now := entryOf(was, key), entryOf(theirs, key)
		switch {
		case byEntry(inner(old), inner(value), inner(now)):
			value = mergeEntries(inner(old), inner(value), inner(now))
		case old.IsValid() && gobmap.Equal(old.Interface(), value.Interface()):
			value = now // none where they have deleted it
		}
		merged.SetMapIndex(key, value)
	}
	return merged
}

// byEntry tells whether mine and theirs are maps of one type, which was is too if it is anything, so that entries of the same key
// are the same entry. A type that encodes itself may have more to it than its entries.
func byEntry(was, mine, theirs reflect.Value) bool {
	if mine.Kind() != reflect.Map || theirs.Kind() != reflect.Map {
		return false
	}
	of := mine.Type()
	if theirs.Type() != of || was.IsValid() && was.Type() != of {
		return false
	}
	if itself := reflect.PointerTo(of); itself.Implements(reflect.TypeFor[gob.GobEncoder]()) || itself.Implements(reflect.TypeFor[encoding.BinaryMarshaler]()) {
		return false
	}
	return findable(was) && findable(mine) && findable(theirs)
}

// findable tells whether each key of a map is found by the same key of another: neither NaN is, nor a pointer, which is read as a
// new one each time.
func findable(m reflect.Value) bool {
	if !m.IsValid() {
		return true
	}
	switch kind := m.Type().Key().Kind(); {
	case kind == reflect.String, kind <= reflect.Uintptr:
		return true
	}
	for entries := m.MapRange(); entries.Next(); {
		if !sameAgain(entries.Key()) {
			return false
		}
	}
	return true
}

// sameAgain tells whether a hashable value equals itself, and what is read of it later.
func sameAgain(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return v.Equal(v)
	case reflect.Interface:
		return sameAgain(v.Elem())
	case reflect.Pointer, reflect.Chan, reflect.UnsafePointer:
		return v.IsNil()
	case reflect.Array:
		for i := range v.Len() {
			if !sameAgain(v.Index(i)) {
				return false
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !sameAgain(v.Field(i)) {
				return false
			}
		}
	}
	return true
}

// entryOf is the entry of a key, invalid where there is none, or no map.
func entryOf(m, key reflect.Value) reflect.Value {
	if !m.IsValid() {
		return m
	}
	return m.MapIndex(key)
}

// inner is what an interface holds.
func inner(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Interface {
		return v.Elem()
	}
	return v
}
