// Differential fuzzing against beego's codec, in both directions.

package gobmap_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/beego-session/redis/internal/gobmap"
)

// FuzzDecode shows that Decode accepts what beego's DecodeGob accepts, with equal
// values, and rejects what that rejects, within bounds of memory.
func FuzzDecode(f *testing.F) {
	for _, data := range samples() {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := gobmap.Decode(string(data))
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > allowed(data) {
			t.Errorf("%d bytes allocated for a stream of %d", spent, len(data))
		}
		if err != nil && !safeForGob(data, err) {
			return
		}
		want, wantErr := decodeGob(data)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("gobmap: %v, gob: %v", err, wantErr)
		}
		if got, want := dump(got), dump(want); got != want {
			t.Fatalf("decoded %s, gob decodes %s", got, want)
		}
	})
}

// allowed returns the number of bytes that decoding data may allocate. A struct
// with all its fields zero takes one byte in a stream.
func allowed(data []byte) uint64 { return 512<<10 + 300*uint64(len(data)) }

// safeForGob reports whether encoding/gob may be asked about a stream that was
// rejected with err. A length of over 65,535 begins with one of a few bytes; gob
// might try to allocate for it. What was refused deliberately gob may accept.
func safeForGob(data []byte, err error) bool {
	large := slices.ContainsFunc(data, func(c byte) bool { return 0xf8 <= c && c <= 0xfd })
	return !large && !strings.Contains(err.Error(), "refused")
}

// samples returns streams that beego wrote in this process.
func samples() [][]byte {
	random := rand.NewChaCha8([32]byte{})
	var streams [][]byte
	for len(streams) < 200 {
		input := make([]byte, 200)
		random.Read(input)
		if data, err := encodeGob((&source{input}).session()); err == nil && len(data) < 4<<10 {
			streams = append(streams, data)
		}
	}
	return streams
}

// FuzzDescribe shows that Describe accepts what Decode accepts, with equal values of the basic types, that what it returns
// can be written as JSON, and that both are in proportion to the stream.
func FuzzDescribe(f *testing.F) {
	for _, data := range samples()[:50] {
		f.Add(data)
	}
	for _, data := range hostile() {
		if len(data) < 4<<10 {
			f.Add([]byte(data))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := gobmap.Describe(string(data))
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 1<<20+1000*uint64(len(data)) {
			t.Errorf("%d bytes allocated for a stream of %d", spent, len(data))
		}
		want, wantErr := gobmap.Decode(string(data))
		if err != nil {
			if wantErr == nil && !strings.Contains(err.Error(), "refused") {
				t.Fatalf("%v, but Decode returns %s", err, dump(want))
			}
			return
		}
		shown, err := json.Marshal(got)
		if err != nil || len(shown) > 1<<20+600*len(data) {
			t.Fatalf("%d bytes of JSON for a stream of %d: %v", len(shown), len(data), err)
		}
		for k, v := range want {
			k, known := shownKey(k)
			if v, basic := shownValue(v); known && basic {
				if shown, there := got[k]; !there || shown != v {
					t.Fatalf("%q is shown as %#v, and is %#v", k, shown, v)
				}
			}
		}
	})
}

// shownKey returns how a key of a bool, string or integer type is shown.
func shownKey(k any) (string, bool) {
	switch k := k.(type) {
	case string:
		return k, utf8.ValidString(k) && !strings.HasSuffix(k, ")")
	case bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, uintptr:
		return fmt.Sprintf("%T(%v)", k, k), true
	}
	return "", false
}

// shownValue returns how a value of a basic type is shown.
func shownValue(v any) (any, bool) {
	switch v := v.(type) {
	case nil, bool:
		return v, true
	case int, int8, int16, int32, int64:
		return reflect.ValueOf(v).Int(), true
	case uint, uint8, uint16, uint32, uint64, uintptr:
		return reflect.ValueOf(v).Uint(), true
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strconv.FormatFloat(v, 'g', -1, 64), true
		}
		return v, true
	case string:
		return v, utf8.ValidString(v)
	}
	return nil, false
}

// FuzzRoundTrip shows that Encode and beego's EncodeGob agree on what can be
// saved, and that everyone reads everyone's streams alike.
func FuzzRoundTrip(f *testing.F) {
	random := rand.NewChaCha8([32]byte{})
	for range 200 {
		input := make([]byte, 200)
		random.Read(input)
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		m := (&source{input}).session()
		theirs, theirErr := encodeGob(m)
		ours, err := gobmap.Encode(m)
		if (err == nil) != (theirErr == nil) {
			t.Fatalf("%s\ngobmap: %v, gob: %v", dump(m), err, theirErr)
		}
		if failing := gobmap.Failing(m); (len(failing) > 0) != (err != nil) {
			t.Fatalf("%s\n%v failing, but error %v", dump(m), failing, err)
		}
		if err != nil {
			return
		}
		want, wantErr := decodeGob(theirs)
		for name, decode := range map[string]func() (map[any]any, error){
			"gob decodes ours":      func() (map[any]any, error) { return decodeGob(ours) },
			"gobmap decodes gob's":  func() (map[any]any, error) { return gobmap.Decode(string(theirs)) },
			"gobmap decodes gobmap": func() (map[any]any, error) { return gobmap.Decode(string(ours)) },
		} {
			got, err := decode()
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%s: %s\n%v, want %v", name, dump(m), err, wantErr)
			}
			if got, want := dump(got), dump(want); got != want {
				t.Fatalf("%s: got %s, want %s", name, got, want)
			}
		}
	})
}

// FuzzEqual shows that Equal tells apart what a reader could, and nothing else.
func FuzzEqual(f *testing.F) {
	random := rand.NewChaCha8([32]byte{})
	for i := range 200 {
		input := make([]byte, 100)
		random.Read(input)
		f.Add(input, i%100, byte(i%3))
	}
	f.Fuzz(func(t *testing.T, input []byte, change int, by byte) {
		changed := slices.Clone(input)
		if 0 <= change && change < len(changed) {
			changed[change] += by
		}
		a, b := (&source{input}).value(3), (&source{changed}).value(3)
		readA, errA := readBack(a)
		readB, errB := readBack(b)
		if errA != nil || errB != nil {
			return
		}
		if again, err := readBack(readA); err != nil || dump(again) != dump(readA) {
			return // a time with an odd number of seconds to UTC reads back as another one each time
		}
		if equal, want := gobmap.Equal(readA, b), dump(readA) == dump(readB); equal != want {
			t.Errorf("Equal = %v\n%s was read\n%s reads back as %s", equal, dump(readA), dump(b), dump(readB))
		}
		if !gobmap.Equal(readA, a) || !gobmap.Equal(readA, readA) {
			t.Errorf("%s is not equal to what reads back of it, %s", dump(a), dump(readA))
		}
	})
}

func readBack(v any) (any, error) {
	data, err := encodeGob(map[any]any{"": v})
	if err != nil {
		return nil, err
	}
	m, err := decodeGob(data)
	return m[""], err
}
