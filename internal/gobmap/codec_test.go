package gobmap_test

import (
	"bytes"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/beego-session/redis/internal/gobmap"
)

// Types that have all that a codec deals with, and some that have more.
type (
	flags   uint8
	level   int16
	ratio   float32
	wave    complex64
	octet   uint8
	octets  []octet
	scores  map[role]level
	numbers struct {
		B        bool
		I        int
		I8       int8
		I16      int16
		I32      int32
		I64      int64
		U        uint
		U8       uint8
		U16      uint16
		U32      uint32
		U64      uint64
		P        uintptr
		F32      float32
		F64      float64
		C64      complex64
		C128     complex128
		S        string
		Flags    flags
		Level    level
		Ratio    ratio
		Wave     wave
		Role     role
		_, Extra int
	}
	part struct {
		Name string
		Size int
	}
	lists struct {
		Bools   []bool
		Ints    []int
		Small   []int8
		Floats  []float32
		Strings []string
		Bytes   []byte
		Blob    blob
		Octets  octets
		Lists   [][]string
		Colour  [3]uint8
		Square  [2][2]string
		None    [0]int
		Empty   []struct{}
		Parts   []part
		Links   []*part
		Times   []time.Time
		Pair    [2]part
		Refs    *[2]*int
	}
	dicts struct {
		Strings map[string]string
		Parts   map[string]part
		Links   map[int]*part
		Points  map[point]role
		Floats  map[float64]bool
		Arrays  map[[2]int8][]string
		Maps    map[string]map[string]int
		Times   map[string]time.Time
		Scores  scores
		Keys    map[time.Time]*string
		Addrs   map[netip.Addr]sealed
	}
	links struct {
		Bool    *bool
		Int     *int
		Float   *float64
		String  *string
		Role    *role
		Part    *part
		Time    *time.Time
		Strings *[]string
		Bytes   *[]byte
		Map     *map[string]int
		Array   *[2]int
		Big     *big.Int
		Sealed  *sealed
		Pinned  *pinned
		Empty   *struct{}
	}
	methods struct {
		Time   time.Time
		Addr   netip.Addr
		Sealed sealed
		List   []sealed
		Pins   []pinned
		After  int
	}
	Base struct {
		ID   int
		Name string
	}
	hiddenBase struct{ Hidden int }
	embedding  struct {
		Base
		*part
		hiddenBase
		Name  string
		After int
	}
	embeddingPart struct {
		*Base
		First func()
		Ch    chan int
		Last  string
	}
	within struct {
		A struct {
			B struct {
				C []struct{ D map[string]struct{ E part } }
			}
		}
		Z [1]struct{ Y *struct{ X [2]part } }
	}
	partRef *part
	far     struct {
		Int    **int
		Big    **big.Int
		Sealed **sealed
		Part   ***part
		Ref    partRef
	}
	pins struct { // only a pointer to it can be saved
		First pinned
		Array [2]pinned
		Big   big.Int
	}
	mixed struct {
		Numbers numbers
		Lists   *lists
		Dicts   []dicts
		Links   map[string]links
	}
	member struct {
		ID     int64
		Name   string
		Email  string
		Roles  []string
		Since  time.Time
		Visits int
	}
	small [2]byte
	short struct { // keeps what it decodes in its own memory
		room [8]byte
		text []byte
	}
)

func (s short) GobEncode() ([]byte, error) { return s.text, nil }

func (s *short) GobDecode(b []byte) error {
	s.text = append(s.room[:0], b...)
	return nil
}

// structs are values of the types above that a session may hold.
var structs = []any{
	numbers{}, lists{}, dicts{}, links{}, methods{}, embedding{}, embeddingPart{}, within{}, far{}, &pins{}, &mixed{}, member{},
	&part{}, flags(0), level(0), ratio(0), wave(0), octets{}, scores{}, []member{}, map[string]*part{}, [2]part{}, map[role][]part{},
	small{}, short{}, []int8{}, []*part{}, []pinned{}, map[string]pinned{},
	[][512]bool{},
}

// fill sets v, of any type above, to something.
func (s *source) fill(v reflect.Value) {
	if s.byte()%4 == 0 {
		return
	}
	switch v := v.Addr().Interface().(type) {
	case *time.Time:
		*v = s.time()
		return
	case *netip.Addr:
		*v = netip.AddrFrom4([4]byte{10, 0, 0, s.byte()})
		return
	case *big.Int:
		v.SetInt64(int64(s.uint()))
		return
	case *big.Float:
		v.SetInt64(int64(s.uint()))
		return
	case *sealed:
		v.text = s.text()
		return
	case *pinned:
		v.text = s.text()
		return
	case *short:
		v.text = []byte(s.text())
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(s.uint()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(s.uint())
	case reflect.Float32, reflect.Float64:
		v.SetFloat(s.float())
	case reflect.Complex64, reflect.Complex128:
		v.SetComplex(complex(s.float(), s.float()))
	case reflect.String:
		v.SetString(s.text())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		s.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), s.count(), 5))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			s.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range s.count() {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			s.fill(key)
			s.fill(elem)
			v.SetMapIndex(key, elem)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				s.fill(v.Field(i))
			}
		}
	}
}

// like makes a value of the type of v; a pointer is not nil.
func (s *source) like(v any) any {
	if t := reflect.TypeOf(v); t.Kind() == reflect.Pointer {
		p := reflect.New(t.Elem())
		s.fill(p.Elem())
		return p.Interface()
	}
	p := reflect.New(reflect.TypeOf(v))
	s.fill(p.Elem())
	return p.Elem().Interface()
}

// seeded returns sources for a test, and tells their seed.
func seeded(t *testing.T) func(size int) *source {
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %#x", seed)
		}
	})
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	random := rand.NewChaCha8(key)
	return func(size int) *source {
		input := make([]byte, size)
		random.Read(input)
		return &source{input}
	}
}

// Beside what is read, the bytes of the values are compared, in any order because
// of maps: a field that gob leaves out and gobmap does not reads back the same.
func TestStructsAreExchangedWithBeego(t *testing.T) {
	sources := seeded(t)
	for _, v := range structs {
		t.Run(fmt.Sprintf("%T", v), func(t *testing.T) {
			for range 30 {
				m := map[any]any{"key": sources(2000).like(v)}
				theirs, err := encodeGob(m)
				if err != nil { // as for a nil pointer in a slice
					if _, err := gobmap.Encode(m); err == nil {
						t.Fatalf("%s is encoded", dump(m))
					}
					continue
				}
				exchange(t, m)
				ours, _ := gobmap.Encode(m)
				tail := valueIn(ours)
				theirs = theirs[max(0, len(theirs)-len(tail)):]
				if sorted(tail) != sorted(theirs) {
					t.Errorf("%s\ngobmap: %q\ngob:    %q", dump(m), tail, theirs)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// valueIn returns the end of a stream of gobmap's with a value of the key "key":
// what follows the name of its type.
func valueIn(stream []byte) []byte {
	_, end, _ := bytes.Cut(stream, []byte("string\x0c\x05\x00\x03key"))
	return end[1+end[0]:]
}

func sorted(b []byte) string {
	b = bytes.Clone(b)
	slices.Sort(b)
	return string(b)
}

// Versions of a struct: some can be decoded into others.
type (
	v00 struct{ A, B, C int }
	v01 struct{ C, B, A int }
	v02 struct{ B int }
	v03 struct{ D, A int }
	v04 struct{ A int8 }
	v05 struct{ A, B uint16 }
	v06 struct{ A, B uint }
	v07 struct{ A float32 }
	v08 struct {
		A float64
		B []part
	}
	v09 struct {
		A *float64
		B []*part
		E int
	}
	v10 struct{ A, B string }
	v11 struct {
		A []byte
		B role
	}
	v12 struct {
		A [2]int
		B []struct{ Size, Name string }
	}
	v13 struct {
		A [2]int8
		B [3]int
	}
	v14 struct {
		A [3]int
		B map[string]part
	}
	v15 struct {
		A []int
		B map[role]struct {
			Size  int8
			Other []int
		}
	}
	v16 struct {
		Base
		A time.Time
		B point
	}
	v17 struct {
		Base *Base
		ID   int
		A    sealed
		B    *point
	}
	v18 struct {
		ID   uint
		Name string
		A    *time.Time
		B    struct{ Y int }
	}
	v19 struct {
		Base
		Name string
		B    struct{ Y, X int8 }
	}
	v20 struct{}
	v21 struct {
		A struct{ A, B point }
		B struct{ A, B struct{ X, Y int } }
	}
	v22 struct {
		A, B struct{ B, A struct{ Y, X int } }
	}
	v23 struct{ A struct{ A, C []int } }
	v24 struct{ A map[point]point }
	v25 struct {
		A map[struct{ Y int }]struct{ X int }
		D []struct{ A [2]map[string]time.Time }
	}
	v26 struct {
		A any
		B int
	}
	v27 struct {
		A complex64
		B bool
		D []struct{ A [2]map[string]netip.Addr }
	}
	v28 struct{ A netip.Addr }
	v29 struct {
		A []v00
		B [][]int
	}
	v30 struct {
		A []v01
		B [][]int8
	}
	v31 struct {
		A []struct{ C int16 }
		N *v31
	}
	v32 struct {
		A point
		B struct{ C point }
	}
	v33 struct{ A complex128 }
)

var versions = []any{
	v00{}, v01{}, v02{}, v03{}, v04{}, v05{}, v06{}, v07{}, v08{}, v09{}, v10{}, v11{}, v12{}, v13{}, v14{}, v15{},
	v16{}, v17{}, v18{}, v19{}, v20{}, v21{}, v22{}, v23{}, v24{}, v25{}, v26{}, v27{}, v28{}, v29{}, v30{}, v31{}, v32{}, v33{},
}

func (s *source) version() any { return s.like(versions[int(s.byte())%len(versions)]) }

// renamed returns data with the name of v's type, which has to be a version,
// in place of that of another.
func renamed(data []byte, from, to any) []byte {
	return bytes.ReplaceAll(data, []byte(path+reflect.TypeOf(from).Name()), []byte(path+reflect.TypeOf(to).Name()))
}

func TestOtherVersionsOfStructsAreDecodedAsByGob(t *testing.T) {
	sources := seeded(t)
	read := 0
	for _, written := range versions {
		for _, local := range versions {
			for range 3 { // by gob and then by a codec
				v := sources(300).like(written)
				data, err := encodeGob(map[any]any{"key": v, "last": "value"})
				if err != nil {
					continue
				}
				if _, err := agree(t, string(renamed(data, written, local))); err == nil {
					read++
				}
			}
			if t.Failed() {
				t.Fatalf("of a %T to a %T", written, local)
			}
		}
	}
	if read < 250 {
		t.Errorf("only %d streams could be decoded", read)
	}
}

func TestDamagedStructsAreDecodedAsByGob(t *testing.T) {
	sources := seeded(t)
	for range 100 {
		s := sources(600)
		var v any
		if s.byte()%2 == 0 {
			v = s.version()
		} else {
			v = s.like(structs[int(s.byte())%len(structs)])
		}
		data, err := gobmap.Encode(map[any]any{"key": v})
		if err != nil {
			continue
		}
		gobmap.Decode(string(data)) // so that there is a codec
		for range 30 {
			damaged := bytes.Clone(data)
			by := sources(3)
			at := len(damaged) - 1 - int(by.byte())%len(valueIn(data))
			damaged[at] += by.byte()
			if by.byte()%4 == 0 {
				damaged = damaged[:at]
			}
			got, err := gobmap.Decode(string(damaged))
			if err != nil && !safeForGob(damaged, err) {
				continue
			}
			want, wantErr := decodeGob(damaged)
			if (err == nil) != (wantErr == nil) || dump(got) != dump(want) {
				t.Fatalf("%T %q\ngobmap: %s, %v\ngob:    %s, %v", v, damaged, dump(got), err, dump(want), wantErr)
			}
		}
	}
}

// Each stream is decoded several times: by gob and then by a codec, with
// definitions that are unknown and then known.
func TestUnusualStreamsOfStructsAreDecodedAsByGob(t *testing.T) {
	type outcome struct {
		data string
		want any // nil if it is rejected
	}
	one := func(definitions, name, data string) string {
		return stream(definitions, 1, aString("key"), value(path+name, 66, data))
	}
	a := structDef(66, field("A", 67))
	b := structDef(66, field("B", 2))
	members := sliceDef(66, 67) + structDef(67, field("ID", 2))
	parts := message(i(-66), "\x01\x02", i(67), "\x01\x04\x00\x00") + structDef(67, field("Size", 2))
	points := structDef(67, field("A", 68), field("B", 69)) + structDef(68, field("X", 2), field("Y", 2)) +
		structDef(69, field("Y", 2), field("X", 2))
	addr := func(data string) string {
		return stream(message(i(-66), "\x06\x00\x00"), 1, aString("key"), value("net/netip.Addr", 66, "\x00", text(data)))
	}
	listed := func(name, definitions, data string) string {
		return stream(definitions, 1, aString("key"), value(name, 66, data))
	}
	for name, outcomes := range map[string][]outcome{
		"one definition, others within": {
			{one(a+sliceDef(67, 2), "v15", "\x01\x01\x02\x00"), v15{A: []int{1}}},
			{one(a+mapDef(67, 2, 2), "v15", "\x01\x01\x02\x00"), nil},
			{one(a+sliceDef(67, 66), "v15", "\x01\x01\x00\x00"), nil},
			{one(a+structDef(67, field("A", 2)), "v23", "\x01\x00\x00"), nil},
			{one(a+structDef(67, field("B", 66)), "v02", "\x01\x00\x00"), nil},
		},
		"one definition, several names": {
			{one(b, "v00", "\x01\x02\x00"), v00{B: 1}},
			{one(b, "v01", "\x01\x02\x00"), v01{B: 1}},
			{one(b, "v26", "\x01\x02\x00"), v26{B: 1}},
			{one(b, "v10", "\x01\x02\x00"), nil},
		},
		"predeclared types": {
			{stream("", 1, aString("key"), text(path+"level")+"\x04\x03\x00\x02"), level(1)},
			{stream("", 1, aString("key"), text(path+"level")+"\x06\x03\x00\x02"), nil},
			{stream("", 1, aString("key"), text(path+"role")+"\x0c\x03\x00\x01a"), role("a")},
			{stream("", 1, aString("key"), text(path+"blob")+"\x0a\x03\x00\x01a"), blob("a")},
		},
		"a field twice": {
			{one(structDef(66, field("Strings", 67), field("Strings", 67))+mapDef(67, 6, 6), "dicts", "\x01\x01\x01a\x01b\x01\x01\x01c\x01d\x00"),
				dicts{Strings: map[string]string{"a": "b", "c": "d"}}},
		},
		"a field of an embedded struct": {
			{one(structDef(66, field("Hidden", 2), field("After", 2)), "embedding", "\x01\x02\x01\x02\x00"),
				embedding{hiddenBase: hiddenBase{1}, After: 1}},
		},
		"one Go type for two": {
			{one(structDef(66, field("A", 67))+points, "v21", "\x01\x01\x01\x02\x01\x04\x00\x01\x01\x06\x01\x08\x00\x00\x00"),
				v21{A: struct{ A, B point }{point{1, 2}, point{3, 4}}}}, // of which gob makes the same
			{one(structDef(66, field("A", 67), field("B", 68))+structDef(67, field("X", 2))+structDef(68, field("C", 69))+structDef(69, field("Y", 2)),
				"v32", "\x01\x01\x02\x00\x01\x01\x01\x04\x00\x00\x00"), v32{A: point{X: 1}, B: struct{ C point }{point{Y: 2}}}},
			{one(a+mapDef(67, 68, 69)+structDef(68, field("X", 2))+structDef(69, field("Y", 2)), "v24", "\x01\x01\x01\x02\x00\x01\x04\x00\x00"), nil},
		},
		"a list cut short": {
			{listed("[]gobmap_test.member", members, "\x00\x02\x01\x02\x00\x01\x04\x00"), []member{{ID: 1}, {ID: 2}}},
			{listed("[]gobmap_test.member", members, "\x00\x02\x01\x02\x00\x01\x04"), []member{{ID: 1}, {ID: 2}}},
			{listed("[]gobmap_test.member", members, "\x00\x02\x01\x02"), nil},
			{listed("[2]gobmap_test.part", parts, "\x00\x02\x01\x02\x00\x01\x04\x00"), [2]part{{Size: 1}, {Size: 2}}},
			{listed("[2]gobmap_test.part", parts, "\x00\x02\x01\x02"), nil},
		},
		"a method that fails":   {{addr("\x0a\x00\x00\x01"), netip.AddrFrom4([4]byte{10, 0, 0, 1})}, {addr("\x0a\x00\x01"), nil}},
		"a number out of range": {{one(structDef(66, field("A", 7)), "v27", "\x01\x00\x00\x00"), v27{}}, {one(structDef(66, field("A", 7)), "v27", "\x01\x00\xf8\xff\xff\xff\xff\xff\xff\xef\x7f\x00"), nil}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 4 {
				for _, o := range outcomes {
					m, err := agree(t, o.data)
					if (err == nil) != (o.want != nil) || err == nil && dump(m["key"]) != dump(o.want) {
						t.Fatalf("%q: decoded %s, %v; want %s", o.data, dump(m), err, dump(o.want))
					}
				}
			}
		})
	}
}

// What a codec passes over is of the types of the stream that it was made for; the
// same ids stand for others in the stream at hand.
func TestUnknownFieldsArePassedOverByTheirOwnTypes(t *testing.T) {
	const newID = 71
	written := func(within string) string {
		return mapDef(100, anyID, anyID) + structDef(70, field("New", newID), field("B", 2)) + sliceDef(newID, 2) + within
	}
	data := value(path+"v00", 70, "\x01\x01\x02\x01\x04\x00")
	// As a list of strings New would take the next field, too.
	first := written(sliceDef(65, 6)) + message(i(100), "\x00\x01", aString("key"), data)
	// The type 64 is the struct for the codec, but here one with other fields.
	second := written(structDef(64, field("C", 2), field("A", 2))) + message(i(100), "\x00\x02", aString("key"), data,
		aString("next"), value(path+"v00", 64, "\x02\x04\x00"))
	for range 4 {
		for _, s := range []string{first, second} {
			if m, err := agree(t, s); err != nil || m["key"] != (v00{B: 2}) {
				t.Fatalf("%q: decoded %s, %v", s, dump(m), err)
			}
		}
	}
}

func TestWhatGobCannotEncodeIsRefusedByACodecToo(t *testing.T) {
	null := (*part)(nil)
	for _, c := range []struct{ good, bad any }{
		{map[string]pinned{}, map[string]pinned{"a": {}}}, // gob cannot call a method of a pointer there
		{[]any{&part{}}, []any{null}},
		{[]*part{{}}, []*part{null}},
		{map[string]*part{"": {}}, map[string]*part{"": null}},
		{lists{Refs: &[2]*int{new(int), new(int)}}, lists{Refs: &[2]*int{new(int), nil}}},
		{methods{Sealed: sealed{"text"}}, methods{Sealed: sealed{"error"}}},
		{methods{Sealed: sealed{"text"}}, methods{List: []sealed{{"panic"}}}},
	} {
		for range 3 {
			exchange(t, map[any]any{"good": c.good})
			bad := map[any]any{"bad": c.bad}
			if _, err := encodeGob(bad); err == nil {
				t.Errorf("gob encodes %s", dump(bad))
			}
			if data, err := gobmap.Encode(bad); err == nil {
				t.Errorf("%s is encoded as %q", dump(bad), data)
			}
			exchange(t, map[any]any{"good": c.good, "more": []any{c.good}})
		}
	}
}

// A value that took another way than that by a codec would show here.
func TestStructsTakeFewAllocations(t *testing.T) {
	const n = 20
	m := make(map[any]any)
	for k := range n {
		m[k] = member{ID: int64(k), Name: "name", Roles: []string{"admin"}, Since: time.Unix(int64(k), 0)}
	}
	data, err := gobmap.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	stored := string(data)
	gobmap.Decode(stored)
	if each := testing.AllocsPerRun(100, func() { gobmap.Encode(m) }) / n; each > 1.5 {
		t.Errorf("encoding makes %.1f allocations for each", each)
	}
	if each := testing.AllocsPerRun(100, func() { gobmap.Decode(stored) }) / n; each > 5 {
		t.Errorf("decoding makes %.1f allocations for each", each)
	}
	data, err = gobmap.Encode(map[any]any{0: m[0]})
	if err != nil {
		t.Fatal(err)
	}
	stored = string(data)
	gobmap.Decode(stored)
	if all := testing.AllocsPerRun(100, func() { gobmap.Decode(stored) }); all > 8 {
		t.Errorf("decoding a single one makes %.1f allocations", all)
	}
}

func TestManyListsAreDecodedByCodecs(t *testing.T) {
	for _, list := range []any{make([]member, 100), map[string]*part{"a": {}, "b": {}, "c": {}}} {
		m := make(map[any]any)
		for k := range 100 {
			m[k] = list
		}
		data, err := gobmap.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := gobmap.DecodeByHand(string(data)); err != nil {
				t.Errorf("%T: %v", list, err)
			}
		}
	}
}

func TestWhatIsKeptKeepsNoStreamAlive(t *testing.T) {
	kept := heapOf(func() {
		for n := range 100 {
			def := structDef(66, field("A", 2), field(fmt.Sprint("New", n), 2))
			long := aString(strings.Repeat("x", 200<<10))
			for range 2 {
				if _, err := gobmap.Decode(stream(def, 2, aString("key"), value(path+"v00", 66, "\x01\x02\x00"), aString("long"), long)); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	if kept > 4<<20 {
		t.Errorf("%d bytes are kept", kept)
	}
}

func TestDecodedStructsShareNoMemory(t *testing.T) {
	stored := func(s string) string {
		data, err := gobmap.Encode(map[any]any{
			"short": short{text: []byte(s)}, "list": lists{Bytes: []byte(s), Octets: octets{1}, Parts: []part{{s, 1}}},
			"dicts": dicts{Strings: map[string]string{s: s}}, "pointer": &part{Name: s},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	first, second := stored("first"), stored("other")
	before := strings.Clone(first)
	for range 3 { // by gob and then by a codec
		m, err := gobmap.Decode(first)
		if err != nil {
			t.Fatal(err)
		}
		want := dump(m)
		again, err := gobmap.Decode(first)
		if err != nil {
			t.Fatal(err)
		}
		clear(again["short"].(short).text)
		clear(again["list"].(lists).Bytes)
		again["list"].(lists).Octets[0] = 0
		again["list"].(lists).Parts[0].Name = ""
		again["dicts"].(dicts).Strings["first"] = ""
		again["pointer"].(*part).Name = ""
		if _, err := gobmap.Decode(second); err != nil {
			t.Fatal(err)
		}
		if got := dump(m); got != want || first != before {
			t.Fatalf("%s became %s, and %q %q", want, got, before, first)
		}
	}
}

func TestStringsInStructsDoNotKeepLongStreamsAlive(t *testing.T) {
	data, err := encodeGob(map[any]any{"part": &part{Name: "short"}, "long": strings.Repeat("x", 64<<10)})
	if err != nil {
		t.Fatal(err)
	}
	stored := string(data)
	start := uintptr(unsafe.Pointer(unsafe.StringData(stored)))
	for range 3 {
		m, err := gobmap.Decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		name := m["part"].(*part).Name
		if at := uintptr(unsafe.Pointer(unsafe.StringData(name))); start <= at && at < start+uintptr(len(stored)) {
			t.Errorf("%q shares the stream's memory", name)
		}
	}
}

// A cart's items, of which saving one changes how many there are: what a handler does that is still at it.
type (
	restless     struct{ Items []restlessItem }
	restlessItem struct{ cart *restless }
)

func (r restlessItem) MarshalBinary() ([]byte, error) {
	if n := len(r.cart.Items); n < 10 {
		r.cart.Items = append(r.cart.Items, r)
	}
	return []byte{1}, nil
}

func (*restlessItem) UnmarshalBinary([]byte) error { return nil }

func TestAListThatIsChangedWhileItIsSavedCostsNoOtherValue(t *testing.T) {
	for range 2 { // by gob, and by a codec
		cart := new(restless)
		cart.Items = []restlessItem{{cart}, {cart}}
		data, err := gobmap.Encode(map[any]any{"cart": cart, "user": "ann"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := gobmap.Decode(string(data))
		if err != nil {
			t.Fatal(err)
		}
		if got := m["cart"].(*restless); m["user"] != "ann" || len(got.Items) == 0 {
			t.Errorf("%d items, and user %v", len(got.Items), m["user"])
		}
	}
}

// A type that was met is not kept by others that name it, once it has left the table.
func TestDefinitionsThatNameEachOtherDoNotPileUp(t *testing.T) {
	gobmap.ForgetDecoders()
	first := func(n int) string { return structDef(70, field("A", 2), field(fmt.Sprint("X", n), 71)) }
	second := func(n int) string { return structDef(71, field("A", 2), field(fmt.Sprint("Y", n), 70)) }
	see := func(defs string, id int64) {
		s := stream(defs, 1, aString("key"), value(path+"v00", id, "\x01\x02\x00"))
		for range 2 {
			if _, err := gobmap.Decode(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	grown := heapOf(func() {
		for n := range 8_000 {
			see(first(n)+second(n), 70)
			see(first(n)+second(n+1), 71)
		}
	})
	if grown > 3<<20 { // it was 8 MB
		t.Errorf("%d bytes are kept", grown)
	}
}

func TestKeysDoNotKeepLongStreamsAlive(t *testing.T) {
	var kept []any
	grown := heapOf(func() {
		for i := range 50 {
			data, err := encodeGob(map[any]any{fmt.Sprintf("a key of more than thirty-two bytes, %d", i): 1, "long": strings.Repeat("x", 200<<10)})
			if err != nil {
				t.Fatal(err)
			}
			m, err := gobmap.Decode(string(data))
			if err != nil {
				t.Fatal(err)
			}
			for key := range m {
				if key != "long" {
					kept = append(kept, key)
				}
			}
		}
	})
	if grown > 2<<20 {
		t.Errorf("%d keys keep %d bytes", len(kept), grown)
	}
	runtime.KeepAlive(kept)
}
