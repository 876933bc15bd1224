package gobmap_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/beego/beego/v2/server/web/session"

	"github.com/beego-session/redis/internal/gobmap"
)

// What the streams below are made of: u and i write numbers as gob does, text a
// string, message puts the length before its parts.

func u(x uint64) string {
	if x < 0x80 {
		return string([]byte{byte(x)})
	}
	b := bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, x), "\x00")
	return string([]byte{byte(-len(b))}) + string(b)
}

func i(x int64) string { return u(uint64(x<<1) ^ uint64(x>>63)) }

func text(s string) string { return u(uint64(len(s))) + s }

func message(parts ...string) string { return text(strings.Join(parts, "")) }

const (
	mapID = 65
	anyID = 8
	path  = "github.com/beego-session/redis/internal/gobmap_test."
)

// Type definitions: the number of wireType's field, its fields, and the ends.

func mapDef(id, key, elem int64) string {
	return message(i(-id), "\x04\x02", i(key), "\x01", i(elem), "\x00\x00")
}

func sliceDef(id, elem int64) string { return message(i(-id), "\x02\x02", i(elem), "\x00\x00") }

func structDef(id int64, fields ...string) string {
	return message(i(-id), "\x03\x02", u(uint64(len(fields))), strings.Join(fields, ""), "\x00\x00")
}

func field(name string, id int64) string { return "\x01" + text(name) + "\x01" + i(id) + "\x00" }

// stream is a map of n entries that parts write, after definitions.
func stream(definitions string, n uint64, parts ...string) string {
	return mapDef(mapID, anyID, anyID) + definitions + message(i(mapID), "\x00", u(n), strings.Join(parts, ""))
}

// value is an interface value with the right length of what follows it.
func value(name string, id int64, parts ...string) string {
	return text(name) + i(id) + message(parts...)
}

func anInt(x int64) string { return value("int", 2, "\x00", i(x)) }

func aString(s string) string { return value("string", 6, "\x00", text(s)) }

// agree has gobmap and beego decode data, and expects the same outcome.
func agree(t *testing.T, data string) (map[any]any, error) {
	t.Helper()
	got, err := gobmap.Decode(data)
	want, wantErr := decodeGob([]byte(data))
	if (err == nil) != (wantErr == nil) || dump(got) != dump(want) {
		t.Errorf("%.200q\ngobmap: %s, %v\ngob:    %s, %v", data, dump(got), err, dump(want), wantErr)
	}
	return got, err
}

func TestUnusualStreamsAreDecodedAsByGob(t *testing.T) {
	point2 := structDef(66, field("X", 2), field("Y", 2))
	many := ""
	for id := int64(100); id < 200; id++ {
		many += sliceDef(id, id+1)
	}
	for name, data := range map[string]string{
		"the last of equal keys wins":       stream("", 3, aString("k"), anInt(1), aString("other"), anInt(2), aString("k"), anInt(3)),
		"bytes after the map":               stream("", 1, anInt(1), anInt(2), "more") + "and more",
		"numbers longer than needed":        stream("", 1, anInt(1), value("int", 2, "\x00\xf8\x00\x00\x00\x00\x00\x00\x00\x0a")),
		"wrong length of a value":           stream("", 1, anInt(1), "\x03int\x04\x7f\x00\x02"),
		"negative number of entries":        stream("", math.MaxUint64),
		"definitions in front":              stream(point2, 1, anInt(1), value(path+"point", 66, "\x01\x02\x01\x04\x00")),
		"many definitions":                  stream(many+point2, 1, anInt(1), value(path+"point", 66, "\x01\x02\x00")),
		"definition within":                 stream("", 1, anInt(1), text(path+"point"), point2[1:], "\x04", i(66), "\x03\x01\x02\x00"),
		"struct cut short by its message":   stream(point2, 1, anInt(1), value(path+"point", 66, "\x01\x02")),
		"fields moved, gone and new":        stream(structDef(66, field("New", 6), field("Y", 2)), 1, anInt(1), value(path+"point", 66, "\x01\x02nx\x01\x04\x00")),
		"other ids":                         mapDef(1000, 8, 8) + message(i(1000), "\x00\x00"),
		"slices without elements":           stream(sliceDef(66, 8)+sliceDef(67, 6), 2, anInt(1), value("[]interface {}", 66, "\x00\x00"), anInt(2), value("[]string", 67, "\x00\x00")),
		"float32 too small for it":          stream("", 1, anInt(1), value("float32", 4, "\x00", u(1))),
		"recursive slice that is not known": stream(sliceDef(66, 66), 1, anInt(1), value("[]string", 66, "\x00\x00")),
	} {
		t.Run(name, func(t *testing.T) {
			m, err := agree(t, data)
			if err != nil && !strings.HasPrefix(name, "recursive") {
				t.Fatal(err)
			}
			if name == "the last of equal keys wins" && m["k"] != 3 {
				t.Errorf("decoded %v", m)
			}
		})
	}
}

func TestWhatGobRejectsIsRejected(t *testing.T) {
	const aTime = "\x01\x00\x00\x00\x0e\x77\x91\xf7\x00\x00\x00\x00\x00\xff\xff"
	for name, data := range map[string]string{
		"empty":                     "",
		"no value":                  mapDef(65, 8, 8),
		"empty message":             "\x00",
		"not a map":                 message(i(6), "\x00", text("s")),
		"another map":               mapDef(65, 6, 8) + message(i(65), "\x00\x00"),
		"another value in a struct": structDef(65, field("X", 8)) + message(i(65), "\x00"),
		"type defined twice":        mapDef(65, 8, 8) + stream("", 0),
		"predeclared type defined":  mapDef(8, 8, 8) + stream("", 0),
		"bytes after a definition":  message(i(-66), "\x04\x00\x00", "\x01") + stream("", 0),
		"field out of bounds":       message(i(-66), "\x09\x00\x00") + stream("", 0),
		"id out of range":           message(i(-66), "\x04\x02", i(1<<40), "\x00\x00") + stream("", 0),
		"fields missing":            message(i(-66), "\x03\x02\x05") + stream("", 0),
		"length of a number":        stream("", 1, anInt(1), value("int", 2, "\x00\xf0")),
		"no zero before an int":     stream("", 1, anInt(1), value("int", 2, "\x01\x02")),
		"int with the id of string": stream("", 1, anInt(1), value("int", 6, "\x00\x00")),
		"int8 out of range":         stream("", 1, anInt(1), value("int8", 2, "\x00", i(128))),
		"uint8 out of range":        stream("", 1, anInt(1), value("uint8", 3, "\x00", u(256))),
		"float32 out of range":      stream("", 1, anInt(1), value("float32", 4, "\x00", "\xf8\xff\xff\xff\xff\xff\xff\xef\x7f")),
		"string too long":           stream("", 1, anInt(1), value("string", 6, "\x00\x05abcd")),
		"name not registered":       stream("", 1, anInt(1), value("main.User", 2, "\x00\x02")),
		"key that has no hash":      stream("", 1, value("[]uint8", 5, "\x00\x01a"), anInt(1)),
		"time of no type":           stream("", 1, anInt(1), value("time.Time", 66, "\x00\x01a")),
		"time of a slice type":      stream(sliceDef(66, 6), 1, anInt(1), value("time.Time", 66, "\x00", text(aTime))),
		"time that is none":         stream(message(i(-66), "\x05\x00\x00"), 1, anInt(1), value("time.Time", 66, "\x00\x01a")),
		"GobDecode fails":           stream(message(i(-66), "\x05\x00\x00"), 1, anInt(1), value(path+"sealed", 66, "\x00", text("bad"))),
		"GobDecode panics":          stream(message(i(-66), "\x05\x00\x00"), 1, anInt(1), value(path+"sealed", 66, "\x00", text("worse"))),
		"slice of another element":  stream(sliceDef(66, 6), 1, anInt(1), value("[]interface {}", 66, "\x00\x00")),
		"map of another key":        stream(mapDef(66, 6, 2), 1, anInt(1), value("map[int]int", 66, "\x00\x00")),
		"map with no zero before":   stream(mapDef(66, 2, 2), 1, anInt(1), value("map[int]int", 66, "\x01\x00")),
		"undefined field":           stream(structDef(66, field("X", 99)), 1, anInt(1), value(path+"point", 66, "\x01\x02\x00")),
		"array of another length":   stream(message(i(-66), "\x01\x02\x04\x01\x06\x00\x00"), 1, anInt(1), value("[3]int16", 66, "\x00\x02\x00\x00")),
		"slice with too little":     stream(sliceDef(66, 2), 1, anInt(1), value("[]int", 66, "\x00\x09\x02")),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := agree(t, data); err == nil {
				t.Error("accepted")
			}
		})
	}
	_, err := gobmap.Decode(stream("", 1, anInt(1), value("main.User", 2, "\x00\x02")))
	if want := `gob: name not registered for interface: "main.User"`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestTruncatedStreamsAreRejected(t *testing.T) {
	for _, data := range samples()[:50] {
		for n := range data {
			m, err := gobmap.Decode(string(data[:n]))
			if err == nil {
				if want, wantErr := decodeGob(data[:n]); wantErr != nil || dump(m) != dump(want) {
					t.Fatalf("%q\ngobmap: %s\ngob: %s, %v", data[:n], dump(m), dump(want), wantErr)
				}
			}
		}
	}
}

// huge is more than there is to read in any stream of hostile.
const huge = 1 << 22

// hostile returns streams that claim to hold much more than they do, or that cost
// encoding/gob much more than their length.
func hostile() map[string]string {
	nested := func(name string, id int64, n uint64, levels int) string {
		return strings.Repeat(text(name)+i(id)+"\x7f\x00"+u(n), levels)
	}
	var fields []string
	chain := ""
	for k := int64(0); k < 1000; k++ {
		fields = append(fields, field("A", 100+k))
		chain += sliceDef(100+k, 101+k)
	}
	chain += sliceDef(1100, 2)
	node := structDef(66, field("Value", 2), field("Next", 66))
	overlapping, points := "", ""
	for id := int64(100); id < 600; id++ {
		overlapping += structDef(id, field("X", 2), field("A", id+1))
		points += anInt(id) + value(path+"point", id, "\x00")
	}
	return map[string]string{
		"message":              "\xfc\x00\x90\x00\x00rest",
		"map":                  stream("", huge),
		"known map":            stream(mapDef(66, 2, 2), 1, anInt(1), value("map[int]int", 66, "\x00", u(huge))),
		"known slice":          stream(sliceDef(66, 8), 1, anInt(1), value("[]interface {}", 66, "\x00", u(huge))),
		"other map":            stream(mapDef(66, 66, 1)+structDef(67, field("X", 2)), 1, anInt(1), value("map["+path+"point]bool", 66, "\x00", u(huge))),
		"other slice":          stream(sliceDef(66, 2), 1, anInt(1), value("[]int", 66, "\x00", u(huge), "\x02")),
		"string":               stream("", 1, anInt(1), "\x06string\x0c\x09\x00", u(huge), "x"),
		"bytes":                stream("", 1, anInt(1), "\x07[]uint8\x0a\x09\x00", u(huge), "x"),
		"name":                 stream("", 1, u(huge), "int"),
		"fields":               message(i(-66), "\x03\x02", u(huge), "\x01\x01A") + stream("", 0),
		"nested slices":        stream(sliceDef(66, 8), 1, anInt(1), nested("[]interface {}", 66, 30_000, 2000)),
		"nested maps":          stream("", 1, nested("map[interface {}]interface {}", mapID, 10_000, 2000)),
		"nested other slices":  stream(sliceDef(66, 8), 1, anInt(1), nested("[2]interface {}", 66, huge, 2000)),
		"nils for keys":        stream("", 40_000, strings.Repeat("\x00\x00", 40_000)),
		"nils":                 stream(sliceDef(66, 8), 1, anInt(1), value("[]interface {}", 66, "\x00", u(50_000), strings.Repeat("\x00", 50_000))),
		"empty structs at end": stream(structDef(66)+mapDef(67, 66, 66), 1, anInt(1), value("map["+path+"point]bool", 67, "\x00", u(huge))),
		"costly definitions":   stream(chain+structDef(66, fields...), 1, anInt(1), value(path+"point", 66, "\x00")),
		"overlapping":          stream(overlapping+structDef(600), 500, points),
		"depth":                stream(sliceDef(66, 8), 1, anInt(1), nested("[]interface {}", 66, 1, 300_000)),
		"depth of structs":     stream(node, 1, anInt(1), value(path+"node", 66, strings.Repeat("\x02", 300_000))),
		"slice of arrays": stream(sliceDef(66, 67)+message(i(-67), "\x01\x02", i(1), "\x01", i(512), "\x00\x00"), 2,
			anInt(1), value("[][512]bool", 66, "\x00\x00"), anInt(2), value("[][512]bool", 66, "\x00", u(30_000), strings.Repeat("\x00", 30_000))),
		"definitions alone":    stream(deepDefinitions(20_000), 0),
		"depth of definitions": stream(deepDefinitions(100_000), 1, anInt(1), value(path+"point", 66, "\x00")),
	}
}

func deepDefinitions(n int64) string {
	var b strings.Builder
	for k := range n {
		b.WriteString(sliceDef(100+k, 101+k))
	}
	return b.String() + sliceDef(100+n, 2) + structDef(66, field("A", 100))
}

func TestHostileStreamsCostLittle(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(32 << 20))
	for name, data := range hostile() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := gobmap.Decode(data)
			runtime.ReadMemStats(&after)
			spent := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d bytes for a stream of %d: %.200v", spent, len(data), err)
			if spent > 100<<10+100*uint64(len(data)) {
				t.Errorf("%d bytes allocated for a stream of %d", spent, len(data))
			}
		})
	}
}

func TestWhatNoEncoderWritesIsRefused(t *testing.T) {
	for name, data := range map[string]string{
		"two kinds":                  stream(message(i(-66), "\x03\x02\x01", field("X", 2), "\x00\x01\x00\x00"), 1, anInt(1), value(path+"point", 66, "\x01\x02\x00")),
		"predeclared":                stream("", 1, anInt(1), value("struct {}", 18, "\x00")),
		"endless":                    stream(structDef(66)+mapDef(67, 66, 66), 1, anInt(1), value("map["+path+"point]struct {}", 67, "\x00", u(5))),
		"malformed, but passed over": stream(structDef(66, field("New", anyID)), 1, anInt(1), value(path+"point", 66, "\x01\x03int\x04\x02\xff\xff\x00")),
	} {
		if m, err := gobmap.Decode(data); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}

func TestKeptDecodersTakeLittleMemory(t *testing.T) {
	kept := heapOf(func() {
		for _, padding := range []string{"", strings.Repeat("a", 2000)} {
			for n := range 5000 {
				def := structDef(66, field("X", 2), field(fmt.Sprint(padding, n), 2))
				m, err := gobmap.Decode(stream(def, 1, aString("p"), value(path+"point", 66, "\x01", i(int64(n)), "\x00")))
				if err != nil || m["p"] != (point{X: n}) {
					t.Fatalf("decoded %v, %v", m, err)
				}
				if kept, size := gobmap.KeptDecoders(); kept > 256 || size > 256<<10 {
					t.Fatalf("decoders are kept for %d sets of definitions of %d bytes", kept, size)
				}
			}
		}
	})
	if kept > 4<<20 {
		t.Errorf("%d bytes are kept", kept)
	}
}

// A writer gives out ids, and sends definitions, in the order in which it met the types.
func TestDecodersAreKeptByTypeNotByWriter(t *testing.T) {
	types := []struct {
		name string
		defs func(a, b, c int64) []string // of the type itself, a, and of those within
		data string
		want any
	}{
		{path + "point", func(a, _, _ int64) []string {
			return []string{structDef(a, field("X", 2), field("Y", 2))}
		}, "\x01\x02\x01\x04\x00", point{1, 2}},
		{path + "point", func(a, _, _ int64) []string { // before it had Y
			return []string{structDef(a, field("X", 2))}
		}, "\x01\x02\x00", point{X: 1}},
		{path + "user", func(a, b, c int64) []string {
			return []string{structDef(a, field("Name", 6), field("Roles", b), field("Scores", c)), sliceDef(b, 6), mapDef(c, 6, 2)}
		}, "\x01\x03Ada\x01\x01\x01r\x01\x01\x01s\x02\x00", user{Name: "Ada", Roles: []string{"r"}, Scores: map[string]int{"s": 1}}},
		{path + "node", func(a, b, _ int64) []string {
			return []string{structDef(a, field("Value", 2), field("Next", a), field("Kids", b)), sliceDef(b, a)}
		}, "\x01\x02\x01\x01\x04\x00\x00", node{Value: 1, Next: &node{Value: 2}}},
		{path + "node", func(a, b, c int64) []string { // when Next was of another type
			return []string{structDef(a, field("Value", 2), field("Next", b)), structDef(b, field("Value", 2), field("Kids", c)), sliceDef(c, a)}
		}, "\x01\x02\x01\x01\x04\x01\x01\x01\x06\x00\x00\x00", node{Value: 1, Next: &node{Value: 2, Kids: []node{{Value: 3}}}}},
		{path + "tree", func(a, _, _ int64) []string {
			return []string{sliceDef(a, a)}
		}, "\x00\x01\x00", tree{nil}},
		{"[][]string", func(a, b, _ int64) []string {
			return []string{sliceDef(a, b), sliceDef(b, 6)}
		}, "\x00\x01\x01\x01a", [][]string{{"a"}}},
		{"map[string][]float64", func(a, b, _ int64) []string {
			return []string{mapDef(a, 6, b), sliceDef(b, 4)}
		}, "\x00\x01\x01x\x01\x00", map[string][]float64{"x": {0}}},
		{"map[gobmap_test.point]bool", func(a, b, _ int64) []string {
			return []string{mapDef(a, b, 1), structDef(b, field("Y", 2), field("X", 2))}
		}, "\x00\x01\x01\x02\x01\x04\x00\x01", map[point]bool{{2, 1}: true}},
		{"[3]int16", func(a, _, _ int64) []string {
			return []string{message(i(-a), "\x01\x02\x04\x01\x06\x00\x00")}
		}, "\x00\x03\x02\x04\x06", [3]int16{1, 2, 3}},
		{path + "sealed", func(a, _, _ int64) []string {
			return []string{message(i(-a), "\x05\x00\x00")}
		}, "\x00\x01s", sealed{"s"}},
	}
	want := make(map[any]any)
	for k, typ := range types {
		want[k] = typ.want
	}
	gobmap.ForgetDecoders()
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		ids := random.Perm(300)
		var defs, entries []string
		for k, typ := range types {
			a, b, c := mapID+1+int64(ids[3*k]), mapID+1+int64(ids[3*k+1]), mapID+1+int64(ids[3*k+2])
			defs = append(defs, typ.defs(a, b, c)...)
			entries = append(entries, anInt(int64(k)), value(typ.name, a, typ.data))
		}
		random.Shuffle(len(defs), func(i, j int) { defs[i], defs[j] = defs[j], defs[i] })
		m, err := agree(t, stream(strings.Join(defs, ""), uint64(len(types)), entries...))
		if err != nil || dump(m) != dump(want) {
			t.Fatalf("decoded %s, %v; want %s", dump(m), err, dump(want))
		}
	}
	if kept, _ := gobmap.KeptDecoders(); kept != len(types) {
		t.Errorf("decoders are kept for %d sets of definitions, want one for each of %d types", kept, len(types))
	}
}

func TestKeptDecodersDoNotMixStreams(t *testing.T) {
	x, y := field("X", 2), field("Y", 2)
	swap := func(fields ...string) string {
		return stream(structDef(66, fields...), 1, aString("p"), value(path+"point", 66, "\x01\x02\x01\x04\x00"))
	}
	sealedIn := func(s string) string {
		return stream(message(i(-66), "\x05\x00\x00"), 1, anInt(1), value(path+"sealed", 66, "\x00", text(s)))
	}
	inProfile := func(front, within string) string {
		return stream(structDef(66, field("Extra", anyID))+front, 1, anInt(1),
			text(path+"profile")+i(66)+"\x7f\x01"+text(path+"point")+within+i(67)+"\x03\x01\x02\x00\x00")
	}
	inTree := func(definitions string) string {
		return stream(definitions, 1, anInt(1), value(path+"tree", 66, "\x00\x01\x01\x00"))
	}
	within := strings.TrimPrefix(structDef(67, x), u(uint64(len(structDef(67, x))-1))) + "\x07"
	for range 10 {
		for data, good := range map[string]bool{
			swap(x, y): true, swap(y, x): true,
			sealedIn("good"): true, sealedIn("bad"): false,
			inProfile("", within): true, inProfile(structDef(67, y), ""): true, inProfile("", ""): false,
			inTree(sliceDef(66, 66)): true, inTree(sliceDef(66, 67) + sliceDef(67, 66)): false, inTree(sliceDef(66, 67)): false,
		} {
			if _, err := agree(t, data); (err == nil) != good {
				t.Fatalf("%q: %v", data, err)
			}
		}
	}
}

func TestLongStreamsAreNotKeptAliveByTheirStrings(t *testing.T) {
	data := stream("", 2, aString("key"), aString("value"), aString("long"), aString(strings.Repeat("x", 64<<10)))
	m, err := gobmap.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	start := uintptr(unsafe.Pointer(unsafe.StringData(data)))
	for k, v := range m {
		for _, s := range []string{k.(string), v.(string)} {
			if at := uintptr(unsafe.Pointer(unsafe.StringData(s))); start <= at && at < start+uintptr(len(data)) {
				t.Errorf("%.10q shares the stream's memory", s)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	m := map[any]any{
		"n": 1, "s": "text", "time": time.Unix(1, 0).UTC(), "list": []any{"a", user{Name: "in list"}}, "user": user{ID: 7, Roles: []string{"r"}},
		"account": &account{Owner: &user{}}, "sealed": sealed{"s"}, "node": node{Next: &node{Value: 2}},
	}
	data, err := session.EncodeGob(m)
	if err != nil {
		t.Fatal(err)
	}
	want, err := session.DecodeGob(data)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			mine := map[any]any{"g": g, "u": user{Name: strings.Repeat("x", g)}, "p": profile{Extra: g}}
			for range 30 {
				if got, err := gobmap.Decode(string(data)); err != nil || dump(got) != dump(want) {
					t.Errorf("decoded %s, %v", dump(got), err)
				}
				for _, m := range []map[any]any{m, mine} {
					ours, err := gobmap.Encode(m)
					if err != nil {
						t.Error(err)
						continue
					}
					got, err := gobmap.Decode(string(ours))
					if err != nil || fmt.Sprint(len(got)) != fmt.Sprint(len(m)) || m["g"] != got["g"] {
						t.Errorf("decoded %s, %v", dump(got), err)
					}
				}
				if err := gobmap.Check(mine["u"]); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
}
