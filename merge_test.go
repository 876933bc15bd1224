// Requests of one session that change the same key at the same time.

package redis_test

import (
	"encoding/gob"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"testing"

	"github.com/beego-session/redis/internal/redistest"
)

func mapsMerged(s *site) {
	id := s.create("cart", map[string]any{"kept": 1, "both": 1, "deleted": 1, "dropped": 1, "in": map[string]int{"x": 1}}, "names", map[string]string{})
	a, b := s.read(s, id), s.read(s, id)
	cartA, cartB := a.Get(ctx, "cart").(map[string]any), b.Get(ctx, "cart").(map[string]any)
	cartA["a"], cartA["both"], cartA["deleted"] = 1, "a", "changed by a"
	cartA["in"].(map[string]int)["a"] = 1
	delete(cartA, "dropped")
	set(s, a, "names", map[string]string{"a": "ann"}, "new", map[any]any{1: "a"})
	cartB["b"], cartB["both"], cartB["dropped"] = 1, "b", "changed by b"
	cartB["in"].(map[string]int)["b"] = 1
	delete(cartB, "deleted")
	set(s, b, "names", map[string]string{"b": "bob"}, "new", map[any]any{"1": "b"})
	a.SessionRelease(ctx, nil)
	b.SessionRelease(ctx, nil)
	s.holds(id,
		"cart", map[string]any{"kept": 1, "both": "b", "a": 1, "b": 1, "dropped": "changed by b", "in": map[string]int{"x": 1, "a": 1, "b": 1}},
		"names", map[string]string{"a": "ann", "b": "bob"}, "new", map[any]any{1: "a", "1": "b"})

	// The map of a handler is not written to; the one of the session is another now.
	if want := (map[string]any{"kept": 1, "both": "b", "b": 1, "dropped": "changed by b", "in": map[string]int{"x": 1, "b": 1}}); !reflect.DeepEqual(cartB, want) {
		s.Errorf("the merge wrote into a map that a handler holds: %v", cartB)
	}
	b.Get(ctx, "cart").(map[string]any)["again"] = 1
	b.SessionRelease(ctx, nil)
	if got := s.stored(id)["cart"].(map[string]any); got["again"] != 1 || got["a"] != 1 {
		s.Errorf("after another change the map is %v", got)
	}

	// Who deletes the key deletes it, and so does a flush; who changed it has it whole where others deleted it.
	id = s.create("a", map[string]int{"x": 1}, "b", map[string]int{"x": 1}, "c", map[string]int{"x": 1})
	mine, theirs, flushed := s.read(s, id), s.read(s, id), s.read(s, id)
	_ = mine.Delete(ctx, "a")
	mine.Get(ctx, "b").(map[string]int)["mine"] = 1
	mine.Get(ctx, "c").(map[string]int)["mine"] = 1
	theirs.Get(ctx, "a").(map[string]int)["theirs"] = 1
	_ = theirs.Delete(ctx, "b")
	theirs.Get(ctx, "c").(map[string]int)["theirs"] = 1
	_ = flushed.Flush(ctx)
	set(s, flushed, "c", map[string]int{"flushed": 1})
	theirs.SessionRelease(ctx, nil)
	mine.SessionRelease(ctx, nil)
	s.holds(id, "b", map[string]int{"x": 1, "mine": 1}, "c", map[string]int{"x": 1, "mine": 1, "theirs": 1})
	flushed.SessionRelease(ctx, nil)
	s.holds(id, "c", map[string]int{"flushed": 1})
}

// listOf is a map that encodes itself.
type listOf map[string]int

func (l listOf) GobEncode() ([]byte, error) {
	return []byte(fmt.Sprint(len(l), slices.Sorted(maps.Keys(l)))), nil
}
func (l *listOf) GobDecode(data []byte) error {
	*l = listOf{string(data): 1}
	return nil
}

type coordinate struct{ X, Y int }

func init() {
	gob.Register(map[string]int{})
	gob.Register(listOf{})
	gob.Register(map[coordinate]string{})
	gob.Register(http.Header{})
	gob.Register(map[any]string{})
	gob.Register(map[string]*account{})
	gob.Register(map[float64]string{})
}

// theLaterMap shows which maps are merged by entry: those whose entries can be told apart.
func theLaterMap(s *site) {
	var negativeZero = math.Copysign(0, -1)
	for name, row := range map[string]struct{ original, theirs, mine, want any }{
		"an integer as a key":           {nil, map[int]string{1: "a"}, map[int]string{2: "b"}, map[int]string{1: "a", 2: "b"}},
		"a struct as a key":             {nil, map[coordinate]string{{1, 2}: "a"}, map[coordinate]string{{2, 1}: "b"}, map[coordinate]string{{1, 2}: "a", {2, 1}: "b"}},
		"a named type":                  {http.Header{"A": {"1"}}, http.Header{"A": {"1"}, "B": {"1"}}, http.Header{"A": {"2"}}, http.Header{"A": {"2"}, "B": {"1"}}},
		"both zeros are one key":        {nil, map[float64]string{0: "a", 1: "a"}, map[float64]string{negativeZero: "b"}, map[float64]string{0: "b", 1: "a"}},
		"a nil map":                     {map[string]int{"a": 1, "b": 1}, map[string]int{"a": 1, "b": 1, "c": 1}, map[string]int(nil), map[string]int{"c": 1}},
		"a pointer that is the same":    {map[string]*account{"a": {"ann"}}, map[string]*account{"a": {"eve"}}, map[string]*account{"a": {"ann"}, "b": {"bob"}}, map[string]*account{"a": {"eve"}, "b": {"bob"}}},
		"a NaN as a key":                {map[any]string{math.NaN(): "a"}, map[any]string{math.NaN(): "a", 1: "a"}, map[any]string{2: "b"}, map[any]string{2: "b"}},
		"a type that encodes itself":    {listOf{}, listOf{"a": 1}, listOf{"b": 1, "c": 1}, listOf{"2 [b c]": 1}},
		"maps of different types":       {nil, map[string]int{"a": 1}, map[string]string{"b": "b"}, map[string]string{"b": "b"}},
		"an original of another type":   {1, map[string]int{"a": 1}, map[string]int{"b": 1}, map[string]int{"b": 1}},
		"a slice":                       {[]string{}, []string{"a"}, []string{"b"}, []string{"b"}},
		"a map that became another":     {map[string]any{"m": map[string]any{}}, map[string]any{"m": map[string]any{"a": 1}}, map[string]any{"m": 1}, map[string]any{"m": 1}},
		"a map in place of nil":         {map[string]any{"m": nil}, map[string]any{"m": map[string]any{"a": 1}}, map[string]any{"m": map[string]any{"b": 1}}, map[string]any{"m": map[string]any{"a": 1, "b": 1}}},
		"a nested one that was deleted": {map[string]any{"m": map[string]any{"x": 1}}, map[string]any{}, map[string]any{"m": map[string]any{"x": 1, "b": 1}}, map[string]any{"m": map[string]any{"x": 1, "b": 1}}},
	} {
		id := s.create()
		if row.original != nil {
			id = s.create("k", row.original)
		}
		theirs, mine := s.read(s, id), s.read(s, id)
		set(s, theirs, "k", row.theirs)
		theirs.SessionRelease(ctx, nil)
		set(s, mine, "k", row.mine)
		mine.SessionRelease(ctx, nil)
		if got := s.stored(id)["k"]; !reflect.DeepEqual(got, row.want) {
			s.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

// A tree is a map of numbers and trees.
type tree = map[string]any

// grow changes a tree here and there.
func grow(random *rand.Rand, t tree, depth, changes int) {
	for range changes {
		key := string(rune('a' + random.IntN(4)))
		inner, isTree := t[key].(tree)
		switch action := random.IntN(10); {
		case action < 2:
			delete(t, key)
		case isTree && action < 8:
			grow(random, inner, depth-1, 1+random.IntN(2))
		case action < 6 || depth == 0:
			t[key] = random.IntN(3)
		default:
			t[key] = tree{}
			grow(random, t[key].(tree), depth-1, random.IntN(3))
		}
	}
}

func copied(t tree) tree {
	c := tree{}
	for key, value := range t {
		if inner, ok := value.(tree); ok {
			value = copied(inner)
		}
		c[key] = value
	}
	return c
}

// A change is that of one entry: value is nil where it was deleted.
type change struct {
	path  []string
	value any
}

// changes are what makes one tree of another. Trees that both have are changed within.
func changes(from, to tree, path []string) (all []change) {
	for key := range from {
		if _, ok := to[key]; !ok {
			all = append(all, change{append(slices.Clip(path), key), nil})
		}
	}
	for key, value := range to {
		at := append(slices.Clip(path), key)
		was, wasTree := from[key].(tree)
		is, isTree := value.(tree)
		switch {
		case wasTree && isTree:
			all = append(all, changes(was, is, at)...)
		case !reflect.DeepEqual(from[key], value):
			all = append(all, change{at, value})
		}
	}
	return all
}

// apply makes a change of mine, which began with original, in a tree that others have changed.
func (c change) apply(t, original, mine tree) {
	for _, key := range c.path[:len(c.path)-1] {
		inner, ok := t[key].(tree)
		if original != nil {
			original, _ = original[key].(tree)
		}
		mine = mine[key].(tree)
		if !ok { // they have deleted or replaced what it is in
			t[key] = copied(mine)
			return
		}
		t = inner
	}
	key := c.path[len(c.path)-1]
	added, isTree := c.value.(tree)
	theirs, areTree := t[key].(tree)
	_, had := original[key]
	switch {
	case c.value == nil:
		delete(t, key)
	case isTree && areTree && !had: // both have added one
		for _, inner := range changes(tree{}, added, nil) {
			inner.apply(theirs, nil, added)
		}
	case isTree:
		t[key] = copied(added)
	default:
		t[key] = c.value
	}
}

// Each pair turns a tree into a value of another type, or back.
var plantings = []struct {
	name string
	of   func(tree) any
}{
	{"map[string]any", func(t tree) any { return copied(t) }},
	{"map[any]any", func(t tree) any { return planted(t) }},
}

func planted(t tree) map[any]any {
	m := map[any]any{}
	for key, value := range t {
		if inner, ok := value.(tree); ok {
			value = planted(inner)
		}
		m[map[string]any{"a": "a", "b": 7, "c": true, "d": 1.5}[key]] = value
	}
	return m
}

func TestMapsAreMergedLikeTheChangesMadeToThem(t *testing.T) {
	t.Parallel()
	s, _ := onMiniredis(t, "")
	random := seed(t)
	for range redistest.Times(150, 300) {
		original := tree{}
		grow(random, original, 3, 6)
		theirs, mine := copied(original), copied(original)
		grow(random, theirs, 3, 4)
		grow(random, mine, 3, 4)
		want := copied(theirs)
		for _, change := range changes(original, mine, nil) {
			change.apply(want, original, mine)
		}
		of := plantings[random.IntN(len(plantings))]
		id := s.create("m", of.of(original))
		a, b := s.read(s, id), s.read(s, id)
		set(s, a, "m", of.of(theirs))
		set(s, b, "m", of.of(mine))
		a.SessionRelease(ctx, nil)
		b.SessionRelease(ctx, nil)
		for name, got := range map[string]any{"stored": s.stored(id)["m"], "in the store": b.Get(ctx, "m")} {
			if !reflect.DeepEqual(got, of.of(want)) {
				t.Fatalf("%s of %v, theirs %v and mine %v: %s is %v, want %v", of.name, original, theirs, mine, name, got, want)
			}
		}
	}
}
