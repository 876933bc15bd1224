// What is carried along: examples, hostile streams, and other processes.

package gobmap_test

import (
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/gobmap"
)

// carry is Carry of a stream that must not fail.
func carry(t *testing.T, data string) (map[any]any, []gobmap.Undecoded) {
	t.Helper()
	m, undecoded, err := gobmap.Carry(data)
	if err != nil {
		t.Fatal(err)
	}
	return m, undecoded
}

func TestWhatDoesNotDecodeIsCarriedAlong(t *testing.T) {
	const stranger = "main.User"
	types := structDef(70, field("Name", 6), field("Next", 70)) + sliceDef(71, 8)
	for name, row := range map[string]struct {
		data   string
		reason string // a part of the error
	}{
		"unknown struct": {stream(types, 2, aString("k"), value(stranger, 70, "\x01", text("ann"), "\x00"), aString("n"), anInt(1)),
			`name not registered for interface: "main.User"`},
		"unknown int": {stream(types, 2, aString("k"), value(stranger, 2, "\x00", i(7)), aString("n"), anInt(1)), `"main.User"`},
		"unknown within": {stream(types, 2, aString("k"), value("[]interface {}", 71, "\x00\x02", anInt(1), value(stranger, 70, "\x01", text("ann"), "\x00")),
			aString("n"), anInt(1)), `"main.User"`},
		"unknown key": {stream(types, 2, value(stranger, 70, "\x00"), anInt(3), aString("n"), anInt(1)), `"main.User"`},
		"another kind of field": {stream(structDef(70, field("ID", 6)), 2, aString("k"), value(userName, 70, "\x01", text("x"), "\x00"),
			aString("n"), anInt(1)), "gob: wrong type"},
		"not hashable":       {stream(sliceDef(71, 6), 2, value("[]string", 71, "\x00\x00"), anInt(3), aString("n"), anInt(1)), "cannot be that of a key"},
		"out of range":       {stream("", 2, aString("k"), value("int8", 2, "\x00", i(300)), aString("n"), anInt(1)), "out of range"},
		"its method fails":   {stream(message(i(-70), "\x05\x00\x00"), 2, aString("k"), value(sealedName, 70, "\x00", text("bad")), aString("n"), anInt(1)), "sealed: bad"},
		"its method panics":  {stream(message(i(-70), "\x05\x00\x00"), 2, aString("k"), value(sealedName, 70, "\x00", text("worse")), aString("n"), anInt(1)), "sealed: worse"},
		"key and value both": {stream(types, 2, value(stranger, 70, "\x00"), value(stranger, 70, "\x00"), aString("n"), anInt(1)), `"main.User"`},
	} {
		m, undecoded := carry(t, row.data)
		if len(undecoded) != 1 || !strings.Contains(undecoded[0].Err.Error(), row.reason) {
			t.Errorf("%s: because of %v", name, undecoded)
		}
		if m["n"] != 1 || len(m) != 2 {
			t.Errorf("%s: the map is %#v", name, m)
		}
		if _, err := gobmap.Decode(row.data); err == nil {
			t.Errorf("%s: Decode returns no error", name)
		}
		if failing := gobmap.Failing(m); len(failing) > 0 {
			t.Errorf("%s: Failing = %v", name, failing)
		}
		for range 3 {
			again, err := gobmap.Encode(m)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			read, _ := carry(t, string(again))
			if !reflect.DeepEqual(read, m) {
				t.Errorf("%s: %#v became %#v", name, m, read)
			}
			was, err := gobmap.Describe(row.data)
			if err != nil {
				t.Fatal(err)
			}
			if is, err := gobmap.Describe(string(again)); err != nil || !reflect.DeepEqual(is, was) {
				t.Errorf("%s: %v is shown as %v, %v", name, was, is, err)
			}
			m = read
		}
	}
}

// The names under which sealed and user are registered.
const (
	sealedName = "github.com/beego-session/redis/internal/gobmap_test.sealed"
	userName   = "github.com/beego-session/redis/internal/gobmap_test.user"
)

func TestCarriedSaysNothingOfWhatItHolds(t *testing.T) {
	m, _ := carry(t, stream("", 1, aString("k"), value("main.Secret", 6, "\x00", text("password"))))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, m["k"]); strings.Contains(got, "password") || !strings.Contains(got, "main.Secret") {
			t.Errorf("%s is %s", verb, got)
		}
	}
}

func TestBasicValuesOfUnknownTypes(t *testing.T) {
	for data, want := range map[string]any{
		value("main.T", 2, "\x00", i(-7)):         int64(-7),
		value("main.T", 3, "\x00", u(7)):          uint64(7),
		value("main.T", 6, "\x00", text("ann")):   "ann",
		value("*main.T", 6, "\x00", text("ann")):  nil,
		value("main.T", 5, "\x00", text("bytes")): nil,
		value("main.T", 70, "\x00"):               nil,
	} {
		m, _ := carry(t, stream(structDef(70), 1, aString("k"), data))
		if got := m["k"].(gobmap.Carried).Basic(); got != want {
			t.Errorf("%q: %#v, want %#v", data, got, want)
		}
	}
}

// Versions of one type, and types with definitions in common, stand in one stream without a clash with this process's own ids.
func TestVersionsOfATypeShareAStream(t *testing.T) {
	const name = userName
	m, _ := carry(t, stream(structDef(70, field("ID", 6))+structDef(71, field("ID", 4)), 3,
		aString("a"), value(name, 70, "\x01", text("x"), "\x00"), aString("b"), value(name, 71, "\x01", u(1), "\x00"), aString("c"), value(name, 70, "\x01", text("y"), "\x00")))
	m["mine"] = user{ID: 1}
	m["deep"] = profile{Extra: user{ID: 2}}
	data, err := gobmap.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	read, _ := carry(t, string(data))
	if !reflect.DeepEqual(read, m) {
		t.Errorf("%#v became %#v", m, read)
	}
	if n := strings.Count(string(data), "\x02ID"); n != 3 { // once in each version, and in mine
		t.Errorf("the field is defined %d times", n)
	}
}

// A reader that lacks a field moves over it by the length that an interface value has.
func TestAFieldThatTheReaderLacksIsPassedOver(t *testing.T) {
	types := structDef(700, field("Bag", 8), field("Name", 6)) + sliceDef(701, 8) + structDef(702, field("Next", 702), field("A", 8))
	bag := value("[]interface {}", 701, "\x00\x02", value("main.X", 702, "\x02", anInt(1), "\x00"), value("main.X", 702, "\x01\x00\x01", anInt(2), "\x00"))
	m, _ := carry(t, stream(types, 1, aString("k"), value(hidden(userName), 700, "\x01", bag, "\x01", text("ann"), "\x00")))
	for _, own := range []any{1, profile{Extra: user{}}} {
		m["own"] = own
		data, err := gobmap.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeGob([]byte(strings.ReplaceAll(string(data), hidden(userName), userName))); err != nil || !reflect.DeepEqual(got["k"], user{Name: "ann"}) {
			t.Errorf("gob reads %#v, %v", got["k"], err)
		}
	}
}

func TestCarriedAreEqualIfTheirBytesAre(t *testing.T) {
	read := func(name string, id int64, x int64) any {
		m, _ := carry(t, stream(structDef(id, field("N", 2)), 1, aString("k"), value(name, id, "\x01", i(x), "\x00")))
		return m["k"]
	}
	c := read("main.X", 70, 1)
	for other, want := range map[any]bool{
		read("main.X", 99, 1): true, read("main.X", 70, 2): false, read("main.Y", 70, 1): false, 1: false, nil: false,
	} {
		if gobmap.Equal(c, other) != want || gobmap.Equal(other, c) != want {
			t.Errorf("Equal of %#v and %#v is not %v", c, other, want)
		}
	}
}

func TestDamagedStreamsAreNotCarried(t *testing.T) {
	data := stream(structDef(70, field("Name", 6)), 2, aString("k"), value("main.User", 70, "\x01", text("ann"), "\x00"), aString("n"), anInt(1))
	for n := range len(data) {
		if m, _, err := gobmap.Carry(data[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes are %v", n, len(data), m)
		}
	}
	// A struct that the end of the stream ends would go on where it is written back.
	open := stream(structDef(70, field("Name", 6)), 1, aString("k"), value("main.User", 70, "\x01", text("ann")))
	for _, other := range []string{open, "", "no gob at all", message(i(2), "\x00", i(7)), message(i(6), "\x00", text("x"))} {
		if m, _, err := gobmap.Carry(other); err == nil {
			t.Errorf("%q is %v", other, m)
		}
	}
}

// hostileEntries are streams that would cost out of proportion if each entry were looked at for itself.
func hostileEntries() map[string]string {
	const many = 5000
	var wide strings.Builder
	for n := range 3000 {
		wide.WriteString(field(fmt.Sprintf("Field%d", n), 6))
	}
	definition := message(i(-70), "\x03\x02", u(3000), wide.String(), "\x00\x00")
	entries := func(entry func(n int) string) []string {
		var parts []string
		for n := range many {
			parts = append(parts, anInt(int64(n)), entry(n))
		}
		return parts
	}
	var tops strings.Builder
	for n := range int64(many) {
		tops.WriteString(sliceDef(100+n, 70))
	}
	nested := value("main.X", 2, "\x00\x02")
	for range 5000 {
		nested = value("[]interface {}", 71, "\x00\x01", nested)
	}
	return map[string]string{
		"values of one wide type":         stream(definition, many, entries(func(int) string { return value("main.Wide", 70, "\x00") })...),
		"types with a wide one within":    stream(definition+tops.String(), many, entries(func(n int) string { return value("main.T", int64(100+n), "\x00\x00") })...),
		"wide ones in interfaces":         stream(definition+sliceDef(71, 8), many, entries(func(int) string { return value("[]interface {}", 71, "\x00\x01", value("main.Wide", 70, "\x00")) })...),
		"names of many types":             stream("", many, entries(func(n int) string { return value(fmt.Sprintf("main.T%d", n), 2, "\x00\x02") })...),
		"methods that fail":               stream(message(i(-70), "\x05\x00\x00"), many, entries(func(int) string { return value(sealedName, 70, "\x00", text("bad")) })...),
		"nested deep":                     stream(sliceDef(71, 8), 1, aString("k"), nested),
		"a type that does not fit, often": stream(structDef(70, field("ID", 6)), many, entries(func(int) string { return value(userName, 70, "\x01\x01x\x00") })...),
	}
}

func TestHostileEntriesCostLittle(t *testing.T) {
	for name, data := range hostileEntries() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, _, err := gobmap.Carry(data)
		runtime.ReadMemStats(&after)
		spent := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d bytes, %d MB allocated, %d entries, %v", name, len(data), spent>>20, len(m), err)
		if spent > 64<<20+500*uint64(len(data)) {
			t.Errorf("%s: %d bytes allocated for a stream of %d", name, spent, len(data))
		}
		if err == nil {
			if again, err := gobmap.Encode(m); err != nil || len(again) > 64*len(data)+1<<20 {
				t.Errorf("%s: %d bytes became %d, %v", name, len(data), len(again), err)
			}
		}
	}
}

// The same values, written by processes that gave other ids to their types, are carried along as the same.
func TestCarriedDoesNotDependOnTheWriter(t *testing.T) {
	read := func(child string) (all []map[any]any) {
		for _, line := range strings.Fields(startChild(t, child)) {
			data, err := hex.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			m, _ := carry(t, string(data))
			all = append(all, m)
		}
		return all
	}
	a, b := read("stranger"), read("other stranger")
	if len(a) != 4 || !reflect.DeepEqual(a, b) {
		t.Errorf("%#v is, from another process, %#v", a, b)
	}
	for _, m := range a {
		if !gobmap.IsCarried(m["visit"]) {
			t.Fatalf("read %#v", m)
		}
	}
}

// writeStrangers prints streams with types that only this process registers, each by hand and by gob.
func writeStrangers(first ...any) {
	type (
		Place struct{ Name string }
		Visit struct {
			At   *Place
			Next *Visit
			Bag  map[string]any
		}
	)
	gob.Register(Visit{})
	gob.Register(Place{})
	meet(first)
	for _, v := range []any{Visit{At: &Place{"home"}}, Visit{Bag: map[string]any{"a": Place{"work"}}, Next: &Visit{}}} {
		for _, encode := range []func(map[any]any) ([]byte, error){gobmap.Encode, encodeGob} {
			data, err := encode(map[any]any{"visit": v})
			if err != nil {
				panic(err)
			}
			fmt.Printf("%x\n", data)
		}
	}
}
