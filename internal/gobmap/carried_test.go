package gobmap_test

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/gobmap"
)

// hideable are parts of the names of registered types. A stream in which one is another of the same length is what a process
// reads that does not know the type.
var hideable = []string{"test.user", "test.account", "test.node", "test.tree", "test.profile", "test.role", "test.blob", "test.values",
	"test.point", "test.sealed", "test.pinned", "netip.Addr", "time.Time", "time.Duration", "big.Int", "[]interface {}", "map[string]interface {}"}

// hide makes the types unknown whose bits are set, and reveal makes all of them known again.
func hide(data string, which uint32) string {
	for i, name := range hideable {
		if which>>i&1 != 0 {
			data = strings.ReplaceAll(data, name, hidden(name))
		}
	}
	return data
}

func reveal(data string) string {
	for _, name := range hideable {
		data = strings.ReplaceAll(data, hidden(name), name)
	}
	return data
}

func hidden(name string) string { return name[:len(name)-1] + "~" }

// FuzzCarried shows that what a process does not know survives ten that do not know it, beside whatever else these save by
// hand and by encoding/gob, and that beego reads it then as it was.
func FuzzCarried(f *testing.F) {
	random := rand.NewChaCha8([32]byte{12})
	for range 200 {
		input := make([]byte, 200)
		random.Read(input)
		f.Add(random.Uint64(), input)
	}
	f.Fuzz(func(t *testing.T, choices uint64, input []byte) {
		m := (&source{input}).session()
		data, err := encodeGob(m)
		if err != nil || reveal(string(data)) != string(data) {
			return
		}
		want, err := decodeGob(data)
		if err != nil {
			return
		}
		again, err := gobmap.Encode(want)
		if err != nil {
			return
		}
		// Package time itself moves a time by 256 seconds whose offset is negative and has seconds.
		if read, err := gobmap.Decode(string(again)); err != nil || dump(read) != dump(want) {
			return
		}
		if choices&1 != 0 {
			data = again
		}
		stream := hide(string(data), uint32(choices>>12))
		var first map[any]any
		for round := range 10 {
			m, undecoded, err := gobmap.Carry(stream)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			delete(m, "own")
			delete(m, "more")
			carried := carriedIn(m)
			if (len(carried) == 0) != (len(undecoded) == 0) {
				t.Fatalf("round %d: %d carried along, because of %v", round, len(carried), undecoded)
			}
			if first == nil {
				first = carried
			} else if dump(first) != dump(carried) {
				t.Fatalf("round %d: %#v was %#v", round, carried, first)
			}
			if choices>>(round+1)&1 != 0 {
				m["own"] = profile{Name: "by gob", Extra: user{ID: int64(round)}, Bag: map[string]any{"a": point{X: round}}}
				m["more"] = []any{user{ID: 1}, profile{Extra: point{Y: 1}}}
			} else {
				m["own"] = user{Name: "by hand"}
			}
			data, err := gobmap.Encode(m)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			stream = string(data)
		}
		stream = reveal(stream)
		got, err := decodeGob([]byte(stream))
		if err != nil {
			t.Fatal(err)
		}
		delete(got, "own")
		delete(got, "more")
		if got, want := dump(got), dump(want); got != want {
			t.Fatalf("beego reads %s, which was %s", got, want)
		}
		ours, err := gobmap.Decode(stream)
		if err != nil {
			t.Fatal(err)
		}
		delete(ours, "own")
		delete(ours, "more")
		if got, want := dump(ours), dump(want); got != want {
			t.Fatalf("Decode returns %s, which was %s", got, want)
		}
	})
}

// carriedIn returns the entries that are carried along, without what is not.
func carriedIn(m map[any]any) map[any]any {
	carried := make(map[any]any)
	for k, v := range m {
		switch {
		case gobmap.IsCarried(v):
			carried[k] = v
		case gobmap.IsCarried(k):
			carried[k] = nil
		}
	}
	return carried
}

// FuzzCarry shows of any bytes that Carry returns what Decode returns, if it does, and that else what it carries along
// is the same when it was saved and read again, within bounds of memory.
func FuzzCarry(f *testing.F) {
	for i, data := range samples()[:100] {
		f.Add([]byte(hide(string(data), 0x5555<<(i%2))))
	}
	for _, data := range hostile() {
		if len(data) < 4<<10 {
			f.Add([]byte(data))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, decodeErr := gobmap.Decode(string(data))
		if decodeErr != nil && !safeForGob(data, decodeErr) {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, undecoded, err := gobmap.Carry(string(data))
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 16<<20+1000*uint64(len(data)) {
			t.Errorf("%d bytes allocated for a stream of %d", spent, len(data))
		}
		if decodeErr == nil {
			if err != nil || len(undecoded) > 0 || dump(m) != dump(want) {
				t.Fatalf("Carry returns %s, %v, %v, and Decode %s", dump(m), undecoded, err, dump(want))
			}
			return
		}
		carried := carriedIn(m)
		if err != nil || len(carried) == 0 {
			return
		}
		again, err := gobmap.Encode(m)
		if err != nil {
			if len(gobmap.Failing(m)) == 0 {
				t.Fatalf("none fails alone: %v", err)
			}
			again, err = gobmap.Encode(carried)
		}
		if err != nil {
			t.Fatal(err)
		}
		read, _, err := gobmap.Carry(string(again))
		if err != nil || dump(carried) != dump(carriedIn(read)) {
			t.Fatalf("%#v became %#v, %v", carried, carriedIn(read), err)
		}
	})
}
