package record_test

import (
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/record"
	"github.com/beego/beego/v2/server/web/session"
)

type user struct {
	Name  string
	Extra any
}

type address struct{ Street string }

func init() {
	gob.Register(user{})
	gob.Register(address{})
	gob.Register([]address{})
}

func encode(t testing.TB, values map[any]any, before record.Value, v record.Version) record.Value {
	t.Helper()
	value, err := record.Encode(values, before, record.Meta{}, v)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestVersionsFollowTheStream(t *testing.T) {
	values := map[any]any{"n": 1}
	var saved []record.Version
	var value record.Value
	for i := range 3 * record.Kept {
		v := record.NewVersion()
		saved = append(saved, v)
		value = encode(t, values, value, v)
		if value.Version() != v {
			t.Fatalf("save %d has the version %q, want %q", i, value.Version(), v)
		}
		for j, v := range saved {
			if got, want := value.Holds(v), i-j < record.Kept; got != want {
				t.Errorf("after save %d the version of save %d is there: %v", i, j, got)
			}
		}
		if got, want := value.Complete(), i+1 < record.Kept; got != want {
			t.Errorf("after save %d Complete = %v", i, got)
		}
		if got, err := session.DecodeGob([]byte(value)); err != nil || !reflect.DeepEqual(got, values) {
			t.Fatalf("beego reads %v, %v", got, err)
		}
	}
	if value.Holds("") || value.Holds(record.NewVersion()) {
		t.Error("it holds what it does not")
	}
}

func TestWhatBeegoWroteHasNoVersion(t *testing.T) {
	for name, value := range map[string]record.Value{
		"its placeholder":  "",
		"a session":        record.Value(gobOf(t, map[any]any{"n": 1})),
		"with text behind": record.Value(gobOf(t, map[any]any{"n": 1})) + "trailing!",
		"no stream":        record.Value(strings.Repeat("\xf6", 18)),
		"half an entry":    record.Value(gobOf(t, map[any]any{"n": 1})) + record.Value(record.NewVersion()[:5]),
		"a cut stream":     record.Value(gobOf(t, map[any]any{"n": 1})[:20]) + record.Value(record.NewVersion()),
	} {
		if v := value.Version(); v != "" || value.Holds(v) || value.Complete() {
			t.Errorf("%s: Version = %q", name, v)
		}
	}
}

func gobOf(t testing.TB, values map[any]any) string {
	t.Helper()
	data, err := session.EncodeGob(values)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A user who chooses what a session holds does not choose its version: the end of the stream is found by its lengths.
func TestNothingInASessionPassesForAVersion(t *testing.T) {
	forged := string(record.NewVersion())
	for name, values := range map[string]map[any]any{
		"a string":                    {"s": forged},
		"many":                        {"s": strings.Repeat(forged, 20)},
		"a type defined in the value": {"a": user{"ann", []address{{forged}}}, "b": strings.Repeat(forged, 9)},
	} {
		for range 50 { // gob writes a map in any order
			value := record.Value(gobOf(t, values))
			if v := value.Version(); v != "" {
				t.Fatalf("%s: Version = %q", name, v)
			}
			v := record.NewVersion()
			if moved := value.Moved(v); moved.Version() != v || moved.Holds(record.Version(forged)) {
				t.Fatalf("%s: moved, it has the version %q, want %q", name, moved.Version(), v)
			}
		}
	}
}

func TestTheEndOfAnyStreamIsFound(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var value func(depth int) any
	value = func(depth int) any {
		switch n := random.IntN(8); {
		case n == 0 && depth > 0:
			return user{fmt.Sprint(n), value(depth - 1)}
		case n == 1 && depth > 0:
			return []any{value(depth - 1), value(depth - 1)}
		case n == 2:
			return []address{{"a"}, {strings.Repeat("b", random.IntN(300))}}
		case n == 3:
			return strings.Repeat("x", random.IntN(70_000))
		}
		return random.IntN(1000)
	}
	for range 500 {
		values := map[any]any{}
		for i := range random.IntN(6) {
			values[i] = value(3)
		}
		beegos, v, v2 := record.Value(gobOf(t, values)), record.NewVersion(), record.NewVersion()
		for _, value := range []record.Value{beegos.Moved(v), encode(t, values, beegos, v)} {
			if value.Version() != v || beegos.Version() != "" || !value.Complete() {
				t.Fatalf("%v has the version %q, want %q", values, value.Version(), v)
			}
			if next := encode(t, values, value, v2); next.Version() != v2 || !next.Holds(v) {
				t.Fatalf("%v: the next has the version %q, want %q", values, next.Version(), v2)
			}
		}
	}
}

func TestOtherEntriesAreKept(t *testing.T) {
	const created = "\xe3 a time "
	value := record.Value(gobOf(t, map[any]any{"n": 1})) + created
	if value.Version() != "" {
		t.Error("an entry that is no version is one")
	}
	for range 3 * record.Kept {
		v := record.NewVersion()
		value = encode(t, map[any]any{"n": 2}, value.Moved(record.NewVersion()), v)
		if n := strings.Count(string(value), created); n != 1 || value.Version() != v {
			t.Fatalf("it is there %d times, and the version is %q", n, value.Version())
		}
	}
}

func TestAMovedSessionIsReadByBeego(t *testing.T) {
	for _, before := range []record.Value{"", record.Value(gobOf(t, map[any]any{})), record.Empty(record.NewVersion())} {
		v := record.NewVersion()
		moved := before.Moved(v)
		if values, err := session.DecodeGob([]byte(moved)); err != nil || len(values) != 0 {
			t.Errorf("beego reads %v, %v", values, err)
		}
		if moved.Version() != v {
			t.Errorf("the version of %q is %q", moved, moved.Version())
		}
		if before != "" && moved.Unmoved() != before {
			t.Errorf("Unmoved = %q, want %q", moved.Unmoved(), before)
		}
	}
	if record.Value("").Unmoved() != "" {
		t.Error("what is empty was not moved")
	}
}

func TestAListingIsReplacedAndTheCreationStays(t *testing.T) {
	now := time.Now()
	var value record.Value
	var err error
	for i := range 20 {
		l := record.NewListing("id", fmt.Sprint("user", i), 60, now)
		if value, err = record.Encode(map[any]any{"n": 1}, value, record.Meta{Listing: l}, record.NewVersion()); err != nil {
			t.Fatal(err)
		}
		if got := value.Listing(); got != l || !got.Since("id", fmt.Sprint("user", i), 60, now, time.Minute) {
			t.Errorf("save %d: the listing is %x, want %x", i, got, l)
		}
	}
	if behind := len(value) - value.Size(); behind != 9*(record.Kept+2) {
		t.Errorf("%d bytes behind the stream", behind)
	}
	if got := value.Created(); got.Sub(now).Abs() > 10*time.Second {
		t.Errorf("created %v", got)
	}
	l := value.Moved(record.NewVersion()).Listing()
	for what, since := range map[string]bool{
		"another id":        l.Since("other", "user19", 60, now, time.Minute),
		"another user":      l.Since("id", "user1", 60, now, time.Minute),
		"another life time": l.Since("id", "user19", 61, now, time.Minute),
		"long ago":          l.Since("id", "user19", 60, now.Add(2*time.Minute), time.Minute),
		"a wrong clock":     l.Since("id", "user19", 60, now.Add(-2*time.Minute), time.Minute),
		"none":              record.Listing("").Since("", "", 60, time.Unix(0, 0), time.Minute),
	} {
		if since {
			t.Errorf("listed: %s", what)
		}
	}
	if value, _ = record.Encode(nil, value, record.Meta{}, record.NewVersion()); value.Listing() != "" {
		t.Error("the listing stays")
	}
	if beegos := record.Value(gobOf(t, map[any]any{"n": 1})); !beegos.Created().IsZero() || beegos.Listing() != "" {
		t.Error("what beego wrote has entries")
	}
}

func TestALifeTimeOfItsOwnAndAnAge(t *testing.T) {
	later := func(value record.Value, m record.Meta) record.Value {
		value, err := record.Encode(map[any]any{"n": 1}, value, m, record.NewVersion())
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	life := func(n int64) record.Meta { return record.Meta{OwnLife: &n} }
	of := func(tag byte, n uint64) string { return string(binary.BigEndian.AppendUint64([]byte{tag}, n)) }

	long := later("", life(record.MaxLife))
	if long.OwnLife() != record.MaxLife || record.Empty(record.NewVersion()).OwnLife() != 0 || record.Value("").OwnLife() != 0 {
		t.Errorf("the life time is %d s", long.OwnLife())
	}
	value := later(long, life(7))
	for range 2 * record.Kept {
		value = later(value.Moved(record.NewVersion()), record.Meta{})
	}
	if value.OwnLife() != 7 || strings.Count(string(value), of(0xe4, 7)) != 1 {
		t.Errorf("the life time is %d s after other saves", value.OwnLife())
	}
	if later(value, life(0)).OwnLife() != 0 {
		t.Error("the life time stays")
	}

	// The age begins anew, in the place of the one before, also where there was none. Nothing else goes by that.
	old := record.Value(strings.Replace(string(value), of(0xe3, uint64(value.Created().Unix())), of(0xe3, 5), 1))
	for what, value := range map[string]record.Value{
		"old":       later(old, record.Meta{NewAge: true}),
		"new":       later("", record.Meta{NewAge: true}),
		"of beegos": later(record.Value(gobOf(t, map[any]any{"n": 1})), record.Meta{NewAge: true}),
	} {
		if age := time.Since(value.Created()); age > time.Minute || strings.Count(string(value), of(0xe3, uint64(value.Created().Unix()))) != 1 {
			t.Errorf("%s: it is %v old", what, age)
		}
		if values, err := session.DecodeGob([]byte(value)); err != nil || values["n"] != 1 || (value.OwnLife() == 7) != (what == "old") {
			t.Errorf("%s: %v, %v, a life time of %d s", what, values, err, value.OwnLife())
		}
	}
	if got := later(old, record.Meta{}).Created(); !got.Equal(time.Unix(5, 0)) {
		t.Errorf("without that it is of %v", got)
	}

	// What another program may have written there is no life time.
	for _, n := range []uint64{1 << 63, 1<<64 - 1, uint64(record.MaxLife) + 1} {
		if got := record.Value(strings.Replace(string(value), of(0xe4, 7), of(0xe4, n), 1)).OwnLife(); got != 0 {
			t.Errorf("a life time of %d s", got)
		}
	}
}
