// Merge functions: what an application says of a key that several requests change at once.

package redis

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/beego-session/redis/internal/gobmap"
	"github.com/beego-session/redis/internal/record"
)

// mergeFunc is a function that was given to MergeKey.
type mergeFunc = func(original, mine, theirs any) any

// mergeFuncs are those of a provider, by key.
type mergeFuncs struct {
	mu sync.Mutex        // protects what follows
	of map[any]mergeFunc // never changed, but replaced
}

// MergeKey names a function that merges the values of a key. It is called where a release, or an Update, has to save a key that it
// has set or changed, and finds that another request has changed the key as well since it was read. It gets the value that both
// began with, that of this request and that of the other, and returns what the session is to have. An absent value is nil: original
// where the key is new, and theirs where the others have deleted it. A result of nil deletes the key. [Sum], [Union], [Larger] and
// [Later] are such functions. Without one, maps are merged entry by entry, and of other values the later release wins. The function
// is not asked about a key that this request has deleted, nor after its Flush.
//
// The values are copies, which the function may change and return. It may be called several times for one release, as often as
// others save meanwhile, each time with its last result as mine and with their last value as original. It runs in the request that
// releases, and several calls may be under way at a time. It may do anything with the session, and with the provider except close
// it; its time counts towards the time limit of the operation. Where it panics, or returns what cannot be saved, the later release
// wins, and OnError is told.
//
// Functions may be named while requests are served, and stay over a SessionInit. With nil the key has none again. A key that is not
// hashable is ignored, as no session has it.
func (p *Provider) MergeKey(key any, f func(original, mine, theirs any) any) {
	if !hashable(key) {
		return // no session has it
	}
	p.merges.mu.Lock()
	defer p.merges.mu.Unlock()
	of := maps.Clone(p.merges.of)
	if of == nil {
		of = make(map[any]mergeFunc)
	}
	if of[key] = f; f == nil {
		delete(of, key)
	}
	p.merges.of = of
}

func (m *mergeFuncs) all() map[any]mergeFunc {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of
}

// merging is what one release, or Update, has merge functions do. They are called when it has left the lock of its session, as they may
// do anything with that. So a merge that needs results which are not there ends with merging as its error, and is begun anew when they are.
type merging struct {
	of        map[any]mergeFunc
	theirs    record.Value // what others saved, and
	revision  int          // that of the store, for which
	results   map[any]*mergeCall
	wanted    map[any]*mergeCall
	failed    map[any]struct{} // keys of which the later release wins
	conflicts int              // so far
	turn      bool             // held among those of this process that are to merge again
}

// mergeCall is a call of a merge function.
type mergeCall struct {
	original, mine, theirs any // private copies
	taken                  any // another copy of mine: should that change meanwhile, the result is void
	result                 any
}

func (m *merging) Error() string { return "merge functions are to be called" }

// begin takes care that no results are used but those of what others saved and of the store as it is.
func (m *merging) begin(theirs record.Value, revision int) {
	if m.theirs != theirs || m.revision != revision {
		m.theirs, m.revision, m.results = theirs, revision, nil
	}
	m.wanted = nil
}

// both tells what becomes of a key whose value I changed and they may have changed.
func (m *merging) both(key, was, mine, theirs any) any {
	if m.of[key] == nil {
		return mergeMaps(was, mine, theirs)
	}
	if _, failed := m.failed[key]; failed || gobmap.IsCarried(theirs) || gobmap.Equal(was, theirs) {
		return mine
	}
	if gobmap.IsCarried(was) {
		was = nil
	}
	if call := m.results[key]; call != nil && gobmap.Equal(call.taken, mine) {
		return call.result
	}
	taken, err := gobmap.Copy(mine)
	if err != nil {
		return mine // of which the save will tell
	}
	private, _ := gobmap.Copy(taken)
	if m.wanted == nil {
		m.wanted = make(map[any]*mergeCall)
	}
	m.wanted[key] = &mergeCall{original: was, mine: private, theirs: theirs, taken: taken}
	return mine
}

// call calls the functions that are wanted.
func (m *merging) call(sid string, failures *untold) {
	for key, call := range m.wanted {
		err := call.run(m.of[key])
		if err == nil {
			if m.results == nil {
				m.results = make(map[any]*mergeCall)
			}
			m.results[key] = call
			continue
		}
		if m.failed == nil {
			m.failed = make(map[any]struct{})
		}
		m.failed[key] = struct{}{}
		failures.add("merge", sid, fmt.Errorf("of the key %.60q the later release wins: %w", fmt.Sprint(key), err))
	}
}

func (c *mergeCall) run(f mergeFunc) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = failing{KindOther, fmt.Errorf("its merge function panicked: %v", p)}
		}
	}()
	result := f(c.original, c.mine, c.theirs)
	if c.result, err = gobmap.Copy(result); err != nil {
		return failing{KindUnencodable, fmt.Errorf("what its merge function returned: %w", err)}
	}
	return nil
}

// wants tells whether a step of an operation ended because merge functions are to be called before, calls them, and returns what
// the next step goes on with.
func (b *backend) wants(err error, sid string, m *merging, failures *untold) (next *merging, again bool) {
	wanted, ok := err.(*merging)
	if !ok {
		return m, false
	}
	b.takeTurn(wanted, sid)
	wanted.call(sid, failures)
	return wanted, true
}

// turnTime is how long a request waits for others of its process and session to be through with what they do without a lock. Then it
// goes on beside them: one may wait for it, as a function that releases another store of the session.
const turnTime = 500 * time.Millisecond

// takeTurn has the requests of a session in this process go one after the other that have met a conflict, and that do without a lock
// what they do about it. Else each would find each time that another had been faster.
func (b *backend) takeTurn(m *merging, sid string) {
	if !m.turn {
		m.turn = b.requests.merging.Lock(sid, time.Now().Add(turnTime))
	}
}

// leaveTurn ends takeTurn.
func (b *backend) leaveTurn(m *merging, sid string) {
	if m != nil && m.turn {
		m.turn = false
		b.requests.merging.Unlock(sid)
	}
}

// Sum is for [Provider.MergeKey]: a number that requests add to or subtract from. It returns theirs + mine - original, in the type
// of mine and limited to its range, where an absent value is 0. It panics, so that the later release wins, if one of the values is
// no number, or if mine is an integer and another is not.
func Sum(original, mine, theirs any) any {
	sum := reflect.New(reflect.TypeOf(mine)).Elem()
	if to := sum.Type(); sum.CanInt() || sum.CanUint() {
		total := new(big.Int).Add(integerOf(theirs), integerOf(mine))
		total.Sub(total, integerOf(original))
		least, most := new(big.Int), new(big.Int).Lsh(big.NewInt(1), uint(to.Bits()))
		if sum.CanInt() {
			most.Rsh(most, 1)
			least.Neg(most)
		}
		most.Sub(most, big.NewInt(1))
		switch {
		case total.Cmp(least) < 0:
			total = least
		case total.Cmp(most) > 0:
			total = most
		}
		if sum.CanInt() {
			sum.SetInt(total.Int64())
		} else {
			sum.SetUint(total.Uint64())
		}
		return sum.Interface()
	}
	total := numberOf(theirs) + numberOf(mine) - numberOf(original)
	if sum.CanFloat() && imag(total) == 0 {
		sum.SetFloat(real(total))
	} else {
		sum.SetComplex(total)
	}
	return sum.Interface()
}

// integerOf is the value of an integer of any type. It panics for what is none.
func integerOf(v any) *big.Int {
	switch n := reflect.ValueOf(v); {
	case v == nil:
		return new(big.Int)
	case n.CanInt():
		return big.NewInt(n.Int())
	case n.CanUint():
		return new(big.Int).SetUint64(n.Uint())
	}
	panic(fmt.Sprintf("a %T is no integer", v))
}

// numberOf is the value of a number of any type. It panics for what is none.
func numberOf(v any) complex128 {
	switch n := reflect.ValueOf(v); {
	case v == nil:
		return 0
	case n.CanInt():
		return complex(float64(n.Int()), 0)
	case n.CanUint():
		return complex(float64(n.Uint()), 0)
	case n.CanFloat():
		return complex(n.Float(), 0)
	case n.CanComplex():
		return n.Complex()
	}
	panic(fmt.Sprintf("a %T is no number", v))
}

// Union is for [Provider.MergeKey]: a slice that is a set, like one of ids. It returns theirs without what this request has
// removed, followed by what it has added, each value once; two values are the same if they are stored alike. Of maps it merges the
// entries, as is done without it. It panics, so that the later release wins, for values of other kinds, and if mine and theirs are
// of different types.
func Union(original, mine, theirs any) any {
	of := reflect.TypeOf(mine)
	if of.Kind() == reflect.Map {
		return mergeMaps(original, mine, theirs)
	} else if of.Kind() != reflect.Slice {
		panic(fmt.Sprintf("a %T is no set", mine))
	}
	for _, other := range []any{original, theirs} {
		if other != nil && reflect.TypeOf(other) != of {
			panic(fmt.Sprintf("a %T cannot be united with a %T", mine, other))
		}
	}
	were, are, seen := setOf(original), setOf(mine), new(set)
	union := reflect.MakeSlice(of, 0, 0)
	add := func(all any, wanted func(v any) bool) {
		for v := range elements(all) {
			if wanted(v.Interface()) && !seen.has(v.Interface()) {
				seen.add(v.Interface())
				union = reflect.Append(union, v)
			}
		}
	}
	add(theirs, func(v any) bool { return are.has(v) || !were.has(v) })
	add(mine, func(v any) bool { return !were.has(v) })
	return union.Interface()
}

// set is a set of values. Those that are found by == are looked up.
type set struct {
	found  map[any]struct{}
	others []any
}

func setOf(slice any) *set {
	s := new(set)
	for v := range elements(slice) {
		s.add(v.Interface())
	}
	return s
}

func (s *set) add(v any) {
	if !lookedUp(v) {
		s.others = append(s.others, v)
		return
	}
	if s.found == nil {
		s.found = make(map[any]struct{})
	}
	s.found[v] = struct{}{}
}

func (s *set) has(v any) bool {
	if lookedUp(v) {
		_, ok := s.found[v]
		return ok
	}
	return slices.ContainsFunc(s.others, func(other any) bool { return gobmap.Same(other, v) })
}

func lookedUp(v any) bool { return hashable(v) && sameAgain(reflect.ValueOf(v)) }

// elements are those of a slice; nil has none.
func elements(slice any) iter.Seq[reflect.Value] {
	return func(yield func(reflect.Value) bool) {
		if slice == nil {
			return
		}
		for i, all := 0, reflect.ValueOf(slice); i < all.Len(); i++ {
			if !yield(all.Index(i)) {
				return
			}
		}
	}
}

// Larger is for [Provider.MergeKey]: the largest value that a request has set, like a high score or the last time that something
// was seen. It returns the larger of mine and theirs, which are two numbers, two strings or two [time.Time]. An absent value is
// less than any other, and so is NaN. It panics, so that the later release wins, if the two cannot be compared.
func Larger(_, mine, theirs any) any {
	if theirs == nil || compare(mine, theirs) >= 0 {
		return mine
	}
	return theirs
}

func compare(a, b any) int {
	if a, ok := a.(time.Time); ok {
		if b, ok := b.(time.Time); ok {
			return a.Compare(b)
		}
	}
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	switch whole := func(v reflect.Value) bool { return v.CanInt() || v.CanUint() }; {
	case x.Kind() == reflect.String && y.Kind() == reflect.String:
		return strings.Compare(x.String(), y.String())
	case whole(x) && whole(y):
		return integerOf(a).Cmp(integerOf(b))
	case (whole(x) || x.CanFloat()) && (whole(y) || y.CanFloat()):
		return cmp.Compare(real(numberOf(a)), real(numberOf(b)))
	}
	panic(fmt.Sprintf("a %T cannot be compared with a %T", a, b))
}

// Later is for [Provider.MergeKey]: the later release wins, as it does without a function, but of a map as a whole.
func Later(_, mine, _ any) any { return mine }
