// Describing: a stream as it describes itself, for those who look at a session without the program that wrote it.

package gobmap

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// described is a value that is shown with the name of its type: that under which it is registered where it is in an
// interface, else that of its definition, without a package. Many definitions have none: whether gob names a type
// depends on where the program that writes meets it first.
type described struct {
	Type  string `json:"type,omitempty"`
	Value any    `json:"value,omitempty"`
	Text  any    `json:"text,omitempty"`  // a string, if it is one of those that are bytes
	Bytes any    `json:"bytes,omitempty"` // a []byte, which is base64 in JSON
}

// Describe returns the map that data holds for encoding/json to write, whether or not its types are registered, or known
// to this program at all. It takes whatever Decode takes, except where names would make up nearly all of the outcome; what
// follows the map in data is ignored. Strings may share the memory of data. The outcome is made of:
//
//   - bool, string, int64, uint64 and float64 for the types of these kinds; "NaN", "+Inf" and "-Inf" for floats without
//     a number, and strings as "(1+2i)" for complex numbers;
//   - {"type", "text"} for bytes that are printable UTF-8, {"type", "bytes"} with base64 for others, and for strings
//     that are not UTF-8;
//   - arrays for slices and arrays; objects for structs, without the fields that are zero, which are not in a stream;
//     what a pointer points to for the pointer; null for an interface that holds nothing;
//   - a string in the format of RFC 3339 for time.Time, and for what has the binary form of one where the stream has no
//     name for the type; {"type", "bytes"} for other types that encode themselves, or {"type", "text"} if they do so as
//     text. Only in an interface "type" is always there;
//   - {"type", "value"} for what is in an interface and none of the above with a type: so "type" is the name that is
//     registered. It is left out for types that are made of bool, string, integers, floats and interface{} only;
//   - objects for maps. A key in an interface is written as a string as it is, and as int(1) or main.Point({"X":1}) of
//     any other type; so is a string that could be taken for such a key, or is not UTF-8. Other keys are without type.
//     Equal keys that may have been different ones, as those that are pointers or NaN, get a number: float64("NaN" #2).
//
// Values nest as deep as Decode allows, of which json.Indent and json.Unmarshal take a part only.
func Describe(data string) (map[string]any, error) {
	m, err := describe(data)
	if err != nil {
		return nil, fmt.Errorf("gobmap: describe: %w", err)
	}
	return m, nil
}

func describe(data string) (m map[string]any, err error) {
	defer rescue(&err)
	d := &describer{reader{data: data, budget: 64 * (len(data) + 256)}}
	id := d.typeID(false)
	def := d.lookup(id)
	if def == nil || def.kinds != mapKind || def.key != interfaceID || def.elem != interfaceID {
		fail()
	}
	d.alone(id)
	return d.entries(def.wireType), nil
}

// describer makes values for encoding/json. Its methods panic with an error.
type describer struct{ reader }

// spend takes n bytes from the budget for what the outcome has and the stream has not, as the names of fields, once for
// each value: a long name and many values could make that the square of the stream's length.
func (d *describer) spend(n int) {
	if d.budget -= n; d.budget < 0 {
		panic(errCostly)
	}
}

// element reads a value of the type id.
func (d *describer) element(id int32) (v any) {
	switch id {
	case boolID:
		return d.uint() != 0
	case intID:
		return d.int()
	case uintID:
		return d.uint()
	case floatID:
		x := d.float64()
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return strconv.FormatFloat(x, 'g', -1, 64)
		}
		return x
	case complexID:
		re := d.float64()
		return strconv.FormatComplex(complex(re, d.float64()), 'g', -1, 128)
	case bytesID:
		s := d.bytes()
		if printable(s) {
			return described{Type: "[]uint8", Text: s}
		}
		return described{Type: "[]uint8", Bytes: []byte(s)}
	case stringID:
		s := d.bytes()
		if utf8.ValidString(s) {
			return s
		}
		return described{Type: "string", Bytes: []byte(s)}
	}
	d.enter()
	if id == interfaceID {
		v = d.named()
	} else {
		v = d.compositeValue(d.composite(id).wireType)
	}
	d.depth--
	return v
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) && !unicode.IsSpace(r)
	})
}

func (d *describer) compositeValue(typ *wireType) any {
	switch typ.kinds {
	case arrayKind, sliceKind:
		return d.list(typ)
	case structKind:
		m := make(map[string]any)
		for i := -1; d.nextField(&i, len(typ.fields)); {
			field := typ.fields[i]
			d.spend(len(field.name))
			m[field.name] = d.element(field.id)
		}
		return m
	case mapKind:
		return d.entries(typ)
	}
	d.spend(len(typ.name))
	s := d.bytes()
	if typ.kinds == textMarshalerKind && utf8.ValidString(s) {
		return described{Type: typ.name, Text: s}
	}
	if typ.name == "Time" || typ.name == "" {
		if t, ok := timeIn(s); ok {
			return t
		}
	}
	return described{Type: typ.name, Bytes: []byte(s)}
}

// timeIn returns the time of which s is the binary form, if it can be written in the format of RFC 3339. That has years
// of four digits, and bytes that are something else would hardly make such a time.
func timeIn(s string) (string, bool) {
	var t time.Time
	if t.UnmarshalBinary([]byte(s)) != nil {
		return "", false
	}
	if _, offset := t.Zone(); offset%60 != 0 {
		t = t.UTC() // the format has no seconds there
	}
	text, err := t.MarshalText()
	return string(text), err == nil
}

func (d *describer) list(typ *wireType) any {
	n := d.uint()
	if typ.kinds == arrayKind && n != typ.length {
		fail()
	}
	l := []any{} // not null
	for i := int64(0); i < int64(n); i++ {
		if d.pos == d.end {
			fail()
		}
		l = append(l, d.element(typ.elem))
	}
	return l
}

func (d *describer) entries(typ *wireType) map[string]any {
	m := make(map[string]any)
	var met map[string]int
	for n := int64(d.uint()); n > 0; n-- {
		before := d.pos
		k, exact := d.key(typ.key)
		if !exact {
			if met == nil {
				met = make(map[string]int)
			}
			if met[k]++; met[k] > 1 {
				k = numbered(k, met[k])
				d.spend(len(k))
			}
		}
		m[k] = d.element(typ.elem)
		if d.pos == before { // structs at the end of a message may take no bytes
			d.spend(64)
		}
	}
	return m
}

// key reads a key, and reports whether the same key again would be the same one to the program that wrote it.
func (d *describer) key(id int32) (k string, exact bool) {
	name, typed := "string", id == interfaceID
	if typed {
		if name, id = d.concrete(); name == "" {
			return "(nil)", true
		}
	}
	v := d.element(id)
	s, isString := v.(string)
	exact = id == boolID || id == intID || id == uintID || id == stringID
	switch {
	case isString && id == stringID && name == "string" && !(strings.Contains(s, "(") && strings.HasSuffix(s, ")")):
		return s, true
	case typed || id == stringID:
		if own, ok := v.(described); ok {
			own.Type = "" // name has it
			v = own
		}
		s = name + "(" + jsonOf(v) + ")"
	case !isString:
		s = jsonOf(v)
	}
	d.spend(len(s))
	return s, exact
}

func jsonOf(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func numbered(k string, n int) string {
	if inner, ok := strings.CutSuffix(k, ")"); ok {
		return fmt.Sprintf("%s #%d)", inner, n)
	}
	return fmt.Sprintf("%s #%d", k, n)
}

// plain matches the names of types that need not be told.
var plain = sync.OnceValue(func() *regexp.Regexp {
	const basic = `(bool|string|u?int(8|16|32|64)?|uintptr|float(32|64)|interface \{\})`
	return regexp.MustCompile(`^(\[\d*\]|map\[` + basic + `\])*` + basic + `$`)
})

// named reads an interface value.
func (d *describer) named() any {
	name, id := d.concrete()
	if name == "" {
		return nil
	}
	v := d.element(id)
	if own, ok := v.(described); ok {
		own.Type = name
		return own
	}
	if plain().MatchString(name) {
		return v
	}
	return described{Type: name, Value: v}
}

// concrete reads the beginning of an interface value: the name of its type, which is empty for nil, and the id.
func (d *describer) concrete() (name string, id int32) {
	if name = d.bytes(); name != "" {
		id = d.typeID(true)
		d.uint() // the length of the value
		d.alone(id)
	}
	return name, id
}
