package gobmap_test

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/gobmap"
)

// describe returns what Describe makes of a stream, as JSON.
func describe(t *testing.T, data string) string {
	t.Helper()
	m, err := gobmap.Describe(data)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestSessionsAreDescribed(t *testing.T) {
	day := time.Date(2024, 2, 29, 12, 0, 0, 5e8, time.FixedZone("", 3600))
	one, alsoOne := 1.5, 1.5
	for _, test := range []struct {
		m    map[any]any
		want string
	}{
		{nil, `{}`},
		{map[any]any{"b": true, "s": "<ü>", "i": math.MinInt64, "u": uint64(math.MaxUint64), "f": 0.1, "f32": float32(0.5), "nil": nil},
			`{"b":true,"f":0.1,"f32":0.5,"i":-9223372036854775808,"nil":null,"s":"<ü>","u":18446744073709551615}`},
		{map[any]any{1: math.NaN(), 2: math.Inf(1), 3: math.Inf(-1), 4: 1 - 2i, 5: complex64(0)},
			`{"int(1)":"NaN","int(2)":"+Inf","int(3)":"-Inf","int(4)":{"type":"complex128","value":"(1-2i)"},"int(5)":{"type":"complex64","value":"(0+0i)"}}`},
		{map[any]any{"1": "a", 1: "b", int64(1): "c", "int(1)": "d", "f()": "e", "g(": "f", true: "g", 1.5: "h", role("<"): "i", "\xff": "j"},
			`{"1":"a","bool(true)":"g","float64(1.5)":"h","g(":"f","` + path + `role(\"<\")":"i","int(1)":"b","int64(1)":"c",` +
				`"string(\"f()\")":"e","string(\"int(1)\")":"d","string({\"bytes\":\"/w==\"})":"j"}`},
		{map[any]any{point{1, -2}: 1, [3]int16{}: 2, day: 3, netip.AddrFrom4([4]byte{1, 2, 3, 4}): 4},
			`{"[3]int16([0,0,0])":2,"` + path + `point({\"X\":1,\"Y\":-2})":1,"net/netip.Addr({\"bytes\":\"AQIDBA==\"})":4,` +
				`"time.Time(\"2024-02-29T12:00:00.5+01:00\")":3}`},
		{map[any]any{math.NaN(): 1, math.Float64frombits(math.Float64bits(math.NaN()) + 1): 1}, `{"float64(\"NaN\" #2)":1,"float64(\"NaN\")":1}`},
		{map[any]any{"m": map[*float64]bool{&one: true, &alsoOne: true}}, `{"m":{"type":"map[*float64]bool","value":{"1.5":true,"1.5 #2":true}}}`},
		{map[any]any{"b": []byte("text\n"), "none": []byte{}, "binary": []byte{0, 255}, "blob": blob("é"), "s": "\xff", "r": role("\xff")},
			`{"b":{"type":"[]uint8","text":"text\n"},"binary":{"type":"[]uint8","bytes":"AP8="},"blob":{"type":"` + path + `blob","text":"é"},` +
				`"none":{"type":"[]uint8","text":""},"r":{"type":"` + path + `role","bytes":"/w=="},"s":{"type":"string","bytes":"/w=="}}`},
		{map[any]any{"list": []any{1, nil, []any{}, role("r")}, "strings": []string{"a", ""}, "none": []string{}, "array": [3]int16{1, 0, -1}},
			`{"array":[1,0,-1],"list":[1,null,[],{"type":"` + path + `role","value":"r"}],"none":[],"strings":["a",""]}`},
		{map[any]any{"any": map[any]any{1: 1, "1": 2}, "int": map[int]string{-1: "a"}, "string": map[string]any{"int(1)": nil}, "point": map[point]bool{{1, 2}: true}},
			`{"any":{"1":2,"int(1)":1},"int":{"-1":"a"},"point":{"type":"map[gobmap_test.point]bool","value":{"{\"X\":1,\"Y\":2}":true}},"string":{"string(\"int(1)\")":null}}`},
		{map[any]any{"u": user{ID: 1 << 60, Roles: []string{"r"}, Joined: day, Scores: map[string]int{"b": 0, "a": 1}}, "zero": user{}},
			`{"u":{"type":"` + path + `user","value":{"ID":1152921504606846976,"Joined":"2024-02-29T12:00:00.5+01:00","Pair":[0,0],"Roles":["r"],"Scores":{"a":1,"b":0}}},` +
				`"zero":{"type":"` + path + `user","value":{"Pair":[0,0]}}}`},
		{map[any]any{"a": &account{Owner: &user{Name: "Ada"}, Ratio: 1i}, "nil": &account{}},
			`{"a":{"type":"*gobmap_test.account","value":{"Balance":{"bytes":"AQgAAAAA"},"Owner":{"Name":"Ada","Pair":[0,0]},"Ratio":"(0+1i)"}},` +
				`"nil":{"type":"*gobmap_test.account","value":{"Balance":{"bytes":"AQgAAAAA"}}}}`},
		{map[any]any{"node": node{Value: 1, Next: &node{Kids: []node{{}, {Value: 3}}}}, "tree": tree{nil, tree{nil}}},
			`{"node":{"type":"` + path + `node","value":{"Next":{"Kids":[{},{"Value":3}]},"Value":1}},"tree":{"type":"` + path + `tree","value":[[],[[]]]}}`},
		{map[any]any{"p": profile{Extra: profile{Name: "in"}, Bag: map[string]any{"t": day, "d": time.Second, "v": values{}}}},
			`{"p":{"type":"` + path + `profile","value":{"Bag":{"d":{"type":"time.Duration","value":1000000000},"t":{"type":"time.Time","value":"2024-02-29T12:00:00.5+01:00"},` +
				`"v":{"type":"` + path + `values","value":{}}},"Extra":{"type":"` + path + `profile","value":{"Name":"in"}}}}}`},
		{map[any]any{"g": sealed{"abc"}, "big": big.NewInt(1), "odd": day.In(time.FixedZone("", 1)), "late": day.AddDate(9000, 0, 0)},
			`{"big":{"type":"*big.Int","bytes":"AgE="},"g":{"type":"` + path + `sealed","bytes":"YWJj"},"late":{"type":"time.Time","bytes":"AQAAAFD96Y+wHc1lAAA8"},"odd":{"type":"time.Time","value":"2024-02-29T11:00:00.5Z"}}`},
	} {
		data, err := encodeGob(test.m)
		if err != nil {
			t.Fatal(err)
		}
		got := describe(t, string(data)+"\xf6version")
		got = strings.ReplaceAll(got, `"type":"Float",`, "") // there or not, by what else this process has encoded
		if got != test.want {
			t.Errorf("%s\nis described as %s\nwant            %s", dump(test.m), got, test.want)
		}
	}
}

func TestUnusualStreamsAreDescribed(t *testing.T) {
	textType := message(i(-66), "\x07\x01", "\x01\x04Text\x00\x00\x00")
	aTime, err := time.Unix(0, 0).UTC().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	encoder := func(name string) string { return message(i(-66), "\x05\x01", name, "\x00\x00") }
	for data, want := range map[string]string{
		stream(encoder("\x01\x04Code\x00"), 1, aString("t"), value("main.Code", 66, "\x00", text(string(aTime)))):                   `{"t":{"type":"main.Code","bytes":"AQAAAA53kfcAAAAAAP//"}}`,
		stream(encoder("\x01\x04Time\x00"), 1, aString("t"), value("main.Time", 66, "\x00\x02hi")):                                  `{"t":{"type":"main.Time","bytes":"aGk="}}`,
		stream(encoder("\x00")+sliceDef(67, 66), 1, aString("t"), value("[]main.T", 67, "\x00\x02", text(string(aTime)), "\x02hi")): `{"t":{"type":"[]main.T","value":["1970-01-01T00:00:00Z",{"bytes":"aGk="}]}}`,
		stream(encoder("\x01\x04Code\x00")+sliceDef(67, 66), 1, aString("t"), value("[]main.T", 67, "\x00\x01\x02hi")):              `{"t":{"type":"[]main.T","value":[{"type":"Code","bytes":"aGk="}]}}`,
		stream(sliceDef(66, 2), 1, aString("s"), value("[]int", 66, "\x00", u(math.MaxUint64))):                                     `{"s":[]}`,
		stream(textType, 1, aString("t"), value("main.Text", 66, "\x00\x02hi")):                                                     `{"t":{"type":"main.Text","text":"hi"}}`,
		stream(textType, 1, aString("t"), value("main.Text", 66, "\x00\x01\xff")):                                                   `{"t":{"type":"main.Text","bytes":"/w=="}}`,
		stream("", 2, aString("k"), anInt(1), aString("k"), anInt(2)):                                                               `{"k":2}`,
		stream("", 1, "\x00", "\x00"): `{"(nil)":null}`,
		stream("", math.MaxUint64):    `{}`,
		stream(mapDef(66, 66, 2), 1, anInt(1), value("m", 66, "\x00\x01\x01\x00\x02\x04\x06")): `{"int(1)":{"type":"m","value":{"{\"{}\":1}":2}}}`,
	} {
		if got := describe(t, data); got != want {
			t.Errorf("%q\nis described as %s\nwant            %s", data, got, want)
		}
	}
	for _, data := range []string{"", mapDef(65, 6, 8) + message(i(65), "\x00\x00"), message(i(6), "\x00", text("s")), stream("", 1), stream("", 1, anInt(1), value("main.User", 66, "\x00"))} {
		if m, err := gobmap.Describe(data); err == nil || m != nil {
			t.Errorf("%q is described as %v, %v", data, m, err)
		}
	}
}

// What only the child process registers.
type (
	foreigner struct {
		Name    string
		Since   time.Time
		Friends []*foreigner
		Home    any
		private int
	}
	address struct{ Lines map[int8]string }
)

func init() {
	children["foreign types"] = func() {
		gob.RegisterName("Address", &address{})
		data, err := encodeGob(map[any]any{
			"customer": foreigner{Name: "Ada", Since: time.Unix(0, 0).UTC(), Friends: []*foreigner{{Name: "Bob", private: 1}}, Home: &address{map[int8]string{-1: "cellar"}}},
		})
		if err != nil {
			panic(err)
		}
		fmt.Print(hex.EncodeToString(data))
	}
}

func TestTypesOfOtherProgramsAreDescribed(t *testing.T) {
	data, err := hex.DecodeString(startChild(t, "foreign types"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gobmap.Decode(string(data)); err == nil || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("Decode: %v", err)
	}
	const want = `{"customer":{"type":"` + path + `foreigner","value":{"Friends":[{"Name":"Bob"}],` +
		`"Home":{"type":"Address","value":{"Lines":{"-1":"cellar"}}},"Name":"Ada","Since":"1970-01-01T00:00:00Z"}}}`
	if got := describe(t, string(data)); got != want {
		t.Errorf("described as %s\nwant         %s", got, want)
	}
}

func TestHostileStreamsAreDescribedAtLittleCost(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(128 << 20))
	streams := hostile()
	long := strings.Repeat("n", 5_000)
	within := func(levels int) string {
		return strings.Repeat("\x01", levels) + "\x00" + strings.Repeat("\x00", levels)
	}
	streams["long name of a field"] = stream(structDef(66, field(long, 1))+sliceDef(67, 66), 1,
		anInt(1), value("l", 67, "\x00", u(5_000), strings.Repeat("\x01\x01\x00", 5_000)))
	streams["long name of a type"] = stream(message(i(-66), "\x05\x01\x01", text(long), "\x00\x00\x00")+sliceDef(67, 66), 1,
		anInt(1), value("l", 67, "\x00", u(5_000), strings.Repeat("\x00", 5_000)))
	streams["keys within keys"] = stream(mapDef(66, 66, 1), 1, anInt(1), value("m", 66, "\x00", within(100)))
	streams["keys that are the same"] = stream("", 5_000, strings.Repeat(value("float64", 4, "\x00\xfe\xf8\x7f")+"\x00", 5_000))
	endless := strings.Repeat("\x01"+u(huge), 1000)
	streams["endless maps within"] = stream(structDef(67, field("M", 66))+mapDef(66, 67, 67), 1, anInt(1), value("m", 67, endless))
	streams["deepest"] = stream(sliceDef(66, 66), 1, anInt(1), value(path+"tree", 66, "\x00", strings.Repeat("\x01", 39_997), "\x00"))
	streams["empty bytes"] = stream(sliceDef(66, 5), 1, anInt(1), value("[][]uint8", 66, "\x00", u(50_000), strings.Repeat("\x00", 50_000)))
	if _, err := gobmap.Decode(streams["deepest"]); err != nil {
		t.Fatal(err)
	}
	for name, data := range streams {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, err := gobmap.Describe(data)
			runtime.ReadMemStats(&after)
			spent := after.TotalAlloc - before.TotalAlloc
			shown, jsonErr := json.Marshal(m)
			t.Logf("%d bytes, %d of JSON, for a stream of %d: %.200v", spent, len(shown), len(data), err)
			if spent > 1<<20+300*uint64(len(data)) || len(shown) > 100*len(data) || jsonErr != nil || name == "deepest" && err != nil {
				t.Errorf("%d bytes allocated, %d of JSON, for a stream of %d, %v", spent, len(shown), len(data), jsonErr)
			}
		})
	}
}
