package gobmap_test

import (
	"bufio"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/beego-session/redis/internal/gobmap"
)

// exchange encodes m with gobmap and with beego, and has both decode both.
func exchange(t *testing.T, m map[any]any) {
	t.Helper()
	ours, err := gobmap.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := encodeGob(m)
	if err != nil {
		t.Fatal(err)
	}
	want, err := decodeGob(theirs)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"gobmap's": ours, "beego's": theirs} {
		got, err := gobmap.Decode(string(data))
		if err != nil || dump(got) != dump(want) {
			t.Errorf("gobmap decodes %s stream to %.1000s, %v; want %.1000s", name, dump(got), err, dump(want))
		}
	}
	if got, err := decodeGob(ours); err != nil || dump(got) != dump(want) {
		t.Errorf("beego decodes gobmap's stream to %.1000s, %v; want %.1000s", dump(got), err, dump(want))
	}
}

func TestStreamsAreExchangedWithBeego(t *testing.T) {
	ada := user{ID: 1, Name: "Ada", Roles: []string{"admin"}, Joined: time.Unix(1, 2).UTC(), Scores: map[string]int{"go": 9}}
	next := node{Value: 2}
	for name, m := range map[string]map[any]any{
		"nil":       nil,
		"empty":     {},
		"strings":   {"": "", "a": strings.Repeat("x", 127), "b": strings.Repeat("y", 128), "long": strings.Repeat("z", 70<<10)},
		"bools":     {true: false, false: true},
		"ints":      {0: 1, -1: -2, int8(-128): int8(127), int16(-32768): int16(63), int32(-64): int32(math.MinInt32), int64(5): int64(math.MinInt64), 6: math.MaxInt},
		"uints":     {uint(0): uint(127), uint8(128): uint8(255), uint16(1): uint16(65535), uint32(2): uint32(math.MaxUint32), uint64(3): uint64(math.MaxUint64), uintptr(4): uintptr(5)},
		"floats":    {0.0: math.Copysign(0, -1), math.Inf(1): math.Inf(-1), float32(1.5): float32(math.Inf(1)), math.NaN(): math.NaN(), 2.0: float32(math.SmallestNonzeroFloat32)},
		"complexes": {complex64(1 + 2i): complex(math.NaN(), 0), 3 + 4i: complex64(0)},
		"bytes":     {"nil": []byte(nil), "empty": []byte{}, "some": []byte("some\x00\xff"), "long": make([]byte, 70<<10)},
		"nils":      {nil: 1, "nil": nil, "within": []any{nil, map[string]any{"": nil}}},
		"times":     {"utc": time.Unix(1_700_000_000, 999).UTC(), "local": time.Unix(1, 0), "zero": time.Time{}, "zone": time.Unix(5, 0).In(time.FixedZone("", 3600)), time.Unix(7, 0).UTC(): time.Second, "odd": time.Unix(1, 0).In(time.FixedZone("", 61))},
		"slices":    {1: []any(nil), 2: []any{}, 3: []any{1, "2", []any{3.0}}, 4: []string(nil), 5: []string{"", "a"}, 6: []int{1}, 7: []float32{1}},
		"maps": {
			1: map[int]any{1: "a", 2: nil}, 2: map[string]any{"a": map[string]any{"b": []any{}}}, 3: map[any]any{"x": map[any]any{1: 2}},
			4: map[string]string{"": "", "a": "b"}, 5: map[int]string{-1: "a"}, 6: map[int]int{1: -1}, 7: map[int]int64{1: math.MinInt64}, 8: map[string]string(nil),
		},
		"structs":       {"user": ada, "another": ada, "users": []user{ada, {}}, "list": []any{ada, ada}, "empty": struct{}{}, "point": point{1, 0}, point{0, 2}: role("r"), role("k"): blob("b")},
		"pointers":      {"account": &account{Owner: &ada, Balance: *big.NewFloat(1.5)}, "int": big.NewInt(-5), "pinned": &pinned{"p"}},
		"shared types":  {"time": time.Unix(1, 0), "user": ada, "strings": []string{"s"}, "account": &account{Owner: &ada}},
		"by pointer":    {"pointer": links{Time: &ada.Joined}, "value": ada, "time": ada.Joined},
		"recursive":     {"node": node{Value: 1, Next: &next, Kids: []node{next, {Next: &next}}}},
		"interfaces":    {"profile": profile{"p", ada, map[string]any{"n": node{Value: 3}}}, "values": values{"a": ada, "p": profile{}}, "array": [2]any{1, ada}},
		"marshalers":    {netip.MustParseAddr("::1"): sealed{"s"}, "empty": sealed{}},
		"other kinds":   {[3]int16{1, 2, 3}: [][]string{{"a"}, nil}, "m": map[string][]float64{"x": {1}}, "s": map[point]bool{{1, 2}: true}},
		"of everything": (&source{[]byte(strings.Repeat("\x07 the quick brown fox jumps", 40))}).session(),
	} {
		t.Run(name, func(t *testing.T) { exchange(t, m) })
	}
}

func TestLengthsOfAnySizeAreExchanged(t *testing.T) {
	sizes := []int{65535, 65536, 70 << 10}
	for n := range 300 {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		s := strings.Repeat("x", n)
		exchange(t, map[any]any{"sealed": sealed{s}, "list": []any{s, []any{s}}, "user": user{Name: s}})
	}
}

// children are the processes that tests start, see startChild.
var children = map[string]func(){
	"writer":       func() { writeStreams(registered) },
	"other writer": func() { writeStreams(reversed(registered)) },
	"values":       func() { writeValues(registered) },
	"other values": func() { writeValues(reversed(registered)) },
	"unregistered": childUnregistered,

	"stranger":       func() { writeStrangers() },
	"other stranger": func() { writeStrangers(reversed(registered)...) },
}

func reversed(values []any) []any {
	r := []any{[7]string{}, map[string]map[int]bool{}}
	for i := len(values) - 1; i >= 0; i-- {
		r = append(r, values[i])
	}
	return r
}

// meet registers values and has gob give out ids to their types, also to the map's.
func meet(order []any) {
	for _, v := range order {
		gob.Register(v)
		gob.NewEncoder(io.Discard).Encode(v)
	}
}

// writeStreams prints sessions: what dump makes of them, and both streams.
func writeStreams(order []any) {
	meet(order)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	random := rand.NewChaCha8([32]byte{7})
	for range 300 {
		input := make([]byte, 200)
		random.Read(input)
		m := (&source{input}).session()
		theirs, err := encodeGob(m)
		if err != nil {
			continue
		}
		ours, err := gobmap.Encode(m)
		if err != nil {
			fmt.Println("gobmap:", err)
			os.Exit(1)
		}
		read, err := decodeGob(theirs)
		if err != nil {
			continue
		}
		fmt.Fprintf(out, "%x %x %x\n", dump(read), theirs, ours)
	}
}

func TestStreamsOfOtherProcessesAreDecoded(t *testing.T) {
	for _, child := range []string{"writer", "other writer"} {
		lines := strings.Fields(startChild(t, child))
		if len(lines) < 3*100 {
			t.Fatalf("%s wrote %d fields only", child, len(lines))
		}
		for i := 0; i < len(lines); i += 3 {
			want, _ := hex.DecodeString(lines[i])
			for _, stream := range lines[i+1 : i+3] {
				data, _ := hex.DecodeString(stream)
				got, err := gobmap.Decode(string(data))
				if err != nil || dump(got) != string(want) {
					t.Fatalf("%s wrote %q\ngot  %s, %v\nwant %s", child, data, dump(got), err, want)
				}
			}
		}
	}
}

// writeValues prints a stream for each of the registered types.
func writeValues(order []any) {
	meet(order)
	for _, v := range registered {
		data, err := gobmap.Encode(map[any]any{"value": v})
		if err != nil {
			fmt.Println("gobmap:", err)
			os.Exit(1)
		}
		fmt.Printf("%x\n", data)
	}
}

func TestProcessesShareKeptDecoders(t *testing.T) {
	gobmap.ForgetDecoders()
	var kept [2]int
	for n, child := range []string{"values", "other values"} {
		streams := strings.Fields(startChild(t, child))
		if len(streams) != len(registered) {
			t.Fatalf("%s wrote %d streams for %d types", child, len(streams), len(registered))
		}
		for k, stream := range streams {
			data, _ := hex.DecodeString(stream)
			m, err := gobmap.Decode(string(data))
			if err != nil || reflect.TypeOf(m["value"]) != reflect.TypeOf(registered[k]) {
				t.Fatalf("%s wrote %q for a %T: %v, %v", child, data, registered[k], m, err)
			}
		}
		kept[n], _ = gobmap.KeptDecoders()
	}
	if kept[0] < 10 || kept[1] != kept[0] {
		t.Errorf("decoders are kept for %d sets of definitions, and for %d with those of another process", kept[0], kept[1])
	}
}

func TestTypesAreKnownAsSoonAsTheyAreRegistered(t *testing.T) {
	if out := startChild(t, "unregistered"); out != "" {
		t.Error(out)
	}
}

// childUnregistered prints what it finds wrong. Nothing is registered beforehand.
func childUnregistered() {
	expect := func(what string, err error, want string) {
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			fmt.Printf("%s: error %v, want %q\n", what, err, want)
		}
	}
	encode := func(v any) error {
		_, err := gobmap.Encode(map[any]any{"key": v})
		return err
	}
	const timeStream = "\r\x7f\x04\x01\x02\xff\x80\x00\x01\x10\x01\x10\x00\x00\x10\xff\x83\x05\x01\x01\x04Time\x01\xff\x84\x00\x00\x00" +
		"\x2a\xff\x80\x00\x01\x03int\x04\x02\x00\x02\x09time.Time\xff\x84\x11\x00\x0f\x01\x00\x00\x00\x0e\x77\x91\xf7\x00\x00\x00\x00\x00\xff\xff"
	decode := func() error {
		_, err := gobmap.Decode(timeStream)
		return err
	}
	expect("decoding a time", decode(), `gob: name not registered for interface: "time.Time"`)
	expect("encoding a time within", encode([]any{time.Unix(0, 0)}), "gob: type not registered for interface: time.Time")
	expect("encoding a user within", encode([]any{user{}}), "gob: type not registered for interface: gobmap_test.user")
	expect("encoding a user", encode(user{}), "")
	expect("encoding a user within, then", encode([]any{user{}}), "")
	expect("encoding a time", encode(time.Unix(0, 0)), "")
	expect("encoding a time within, then", encode([]any{time.Unix(0, 0)}), "")
	expect("decoding a time, then", decode(), "")

	gob.RegisterName("span", time.Duration(0))
	expect("encoding what is registered under another name", encode(time.Second), "registering duplicate names")
	data, err := gobmap.Encode(map[any]any{"key": []any{time.Second}})
	expect("encoding it within", err, "")
	m, err := decodeGob(data)
	expect("decoding it", err, "")
	if want := map[any]any{"key": []any{time.Second}}; dump(m) != dump(want) {
		fmt.Println("decoded", dump(m))
	}

	asked := func(name string) string {
		return stream(structDef(66, field("ID", 2)), 1, aString("key"), value(name, 66, "\x01\x02\x00"))
	}
	for range 3 { // by gob and then by a codec
		_, err = gobmap.Decode(asked("visitor"))
		expect("decoding a name before it is registered", err, `gob: name not registered for interface: "visitor"`)
	}
	gob.RegisterName("visitor", member{})
	for range 3 {
		m, err := gobmap.Decode(asked("visitor"))
		expect("decoding a name when it is registered", err, "")
		if want := map[any]any{"key": member{ID: 1}}; dump(m) != dump(want) {
			fmt.Println("decoded", dump(m))
		}
		_, err = gobmap.Decode(asked(path + "member"))
		expect("decoding the usual name instead", err, "gob: name not registered")
		data, err := gobmap.Encode(map[any]any{"key": []any{member{ID: 1}, []any{&member{ID: 1}}}})
		expect("encoding it and a pointer to it", err, "")
		m, err = decodeGob(data)
		expect("decoding these", err, "")
		if want := map[any]any{"key": []any{member{ID: 1}, []any{member{ID: 1}}}}; dump(m) != dump(want) {
			fmt.Println("decoded", dump(m))
		}
	}

	gob.RegisterName("time.Month", &notSet{}) // a name that promises something else
	expect("encoding with a name taken", encode(time.May), "registering duplicate types")
}

func TestEncodeGivesTheReasonAndFailingTheEntries(t *testing.T) {
	for name, c := range map[string]struct {
		v    any
		want string
	}{
		"chan":                   {make(chan int), "chan int"},
		"not registered":         {[]any{notSet{}}, "gob: type not registered for interface: gobmap_test.notSet"},
		"nil pointer":            {(*account)(nil), "nil pointer"},
		"pointer to nil":         {[]any{new(*account)}, "nil pointer"},
		"pointer to nil, deeper": {[]any{profile{Extra: new(*account)}}, "nil pointer"},
		"method fails":           {sealed{"error"}, "sealed: no"},
		"method panics":          {sealed{"panic"}, "sealed: panic"},
		"year out of range":      {time.Unix(1, 0).In(time.FixedZone("", 1<<30)), "zone offset"},
		"with one for gob alone": {map[string]any{"": []any{profile{}, notSet{}}}, "gob: type not registered for interface: gobmap_test.notSet"},
	} {
		t.Run(name, func(t *testing.T) {
			m := map[any]any{"good": 1, "bad": c.v, "for gob alone": profile{}}
			for range 10 { // in any order
				data, err := gobmap.Encode(m)
				if err == nil || !strings.Contains(err.Error(), c.want) || data != nil {
					t.Fatalf("Encode: %q, %v; want an error with %q", data, err, c.want)
				}
			}
			failing := gobmap.Failing(m)
			if len(failing) != 1 || failing["bad"] == nil || !strings.Contains(failing["bad"].Error(), c.want) {
				t.Fatalf("Failing: %v", failing)
			}
			delete(m, "bad")
			exchange(t, m)
		})
	}
	if _, err := gobmap.Encode(map[any]any{notSet{7}: 1}); err == nil || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("key of a type that is not registered: %v", err)
	}
	if failing := gobmap.Failing(map[any]any{"a": 1, "p": profile{}}); len(failing) != 0 {
		t.Errorf("Failing: %v, want none", failing)
	}
}

type (
	loop     *loop
	partly   struct{ A, B chan int }
	inner    struct{ In map[string][]func() }
	lonely   struct{ A int }
	firstUse struct{ A int }
	channels struct {
		A int
		C chan int // gob leaves it out
	}
)

func TestCheck(t *testing.T) {
	for _, v := range []any{
		nil, 1, "", []byte(nil), 1.5, 2i, time.Now(), []any{make(chan int)}, map[string]any(nil), user{}, &account{}, &pinned{},
		netip.Addr{}, sealed{"panic"}, [0]pinned{}, firstUse{}, []user(nil), channels{},
	} {
		if err := gobmap.Check(v); err != nil {
			t.Errorf("Check(%T): %v", v, err)
		}
	}
	var none *lonely
	for _, v := range []any{
		make(chan int), func() {}, hollow{}, hooked{}, partly{}, inner{}, []chan int{}, map[string]func(){}, [2]hollow{},
		unsafe.Pointer(nil), struct{ P unsafe.Pointer }{}, (*account)(nil), &none, pinned{}, owner{}, [1]owner{}, big.Int{},
		loop(nil), &user{}, // user is registered as a value
	} {
		for range 2 { // the second answer comes from memory
			if err := gobmap.Check(v); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%T cannot be saved", v)) {
				t.Errorf("Check(%T): %v", v, err)
			}
		}
	}
	data, err := gobmap.Encode(map[any]any{"list": []any{firstUse{1}}})
	if err != nil {
		t.Fatal("Check did not register the type:", err)
	}
	if _, err := decodeGob(data); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsSavedCanBeRead(t *testing.T) {
	list := func(n int) *node {
		var head *node
		for range n {
			head = &node{Next: head}
		}
		return head
	}
	nest := func(n int) any {
		var v any = "inside"
		for range n {
			v = []any{v}
		}
		return v
	}
	for _, n := range []int{0, 1, 98, 99, 100, 101, 800} {
		exchange(t, map[any]any{"nest": nest(n)})
		exchange(t, map[any]any{"list": *list(5*n + 1), "nest": nest(n), "both": []any{nest(n), profile{Extra: nest(n / 4)}}})
	}
	self := map[any]any{}
	self["self"] = []any{self}
	inStruct := profile{Bag: map[string]any{}}
	inStruct.Bag["self"] = inStruct
	ring := &node{}
	ring.Next = &node{Next: ring}
	for name, m := range map[string]map[any]any{
		"deep list": {"k": *list(50_000)}, "deep slice": {"k": nest(50_000)},
		"map": self, "struct": {"k": inStruct}, "ring": {"k": *ring}, "array": {"k": [2]any{1, self}},
	} {
		if _, err := gobmap.Encode(m); err == nil || !strings.Contains(err.Error(), "nested too deep") {
			t.Errorf("%s: %.100v", name, err)
		}
	}
}
