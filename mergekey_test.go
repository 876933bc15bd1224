// What an application says of keys that several requests change at once.

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web/session"
)

// atOnce runs requests over two providers that read one session before any of them is released.
func (s *site) atOnce(n int, id string, providers [2]*redis.Provider, request func(i int, store session.Store)) {
	s.Helper()
	var read, released sync.WaitGroup
	read.Add(n)
	for i := range n {
		released.Add(1)
		go func() {
			defer released.Done()
			store, err := providers[i%2].SessionRead(ctx, id)
			read.Done()
			if err != nil {
				s.Error(err)
				return
			}
			read.Wait()
			request(i, store)
			store.SessionRelease(ctx, nil)
		}()
	}
	released.Wait()
}

func manyAtOnce(s *site) {
	providers := [2]*redis.Provider{s.with(`"skip_empty":false`, life), s.with(`"skip_empty":false`, life)}
	if strings.Contains(s.Name(), "without_scripts") { // processes may lose each other's changes
		providers[1] = providers[0]
	}
	for _, p := range providers {
		p.MergeKey("n", redis.Sum)
	}
	for _, n := range []int{10, 50} {
		id := s.create("cart", map[string]any{"items": map[string]any{}}, "n", 0, "updated", 0)
		s.atOnce(n, id, providers, func(i int, store session.Store) {
			if err := store.(*redis.SessionStore).Update(ctx, func(store session.Store) error {
				return store.Set(ctx, "updated", store.Get(ctx, "updated").(int)+1)
			}); err != nil {
				s.Error(err)
			}
			store.Get(ctx, "cart").(map[string]any)["items"].(map[string]any)[fmt.Sprint(i)] = i
			set(s, store, "n", store.Get(ctx, "n").(int)+1)
		})
		values := s.stored(id)
		if got := len(values["cart"].(map[string]any)["items"].(map[string]any)); got != n {
			s.Errorf("%d of %d additions to a map in a map are there", got, n)
		}
		if values["n"] != n {
			s.Errorf("%v of %d additions to a number are there", values["n"], n)
		}
		if values["updated"] != n {
			s.Errorf("%v of %d updates are there", values["updated"], n)
		}
	}
}

type points int8

func mergeFunctions(s *site) {
	p := s.with(`"skip_empty":false`, life)
	at := func(second int64) time.Time { return time.Unix(second, 0).UTC() }
	for name, row := range map[string]struct {
		f                             func(original, mine, theirs any) any
		original, mine, theirs, merge any
	}{
		"a sum":                           {redis.Sum, 5, 7, 8, 10},
		"a sum, both the same":            {redis.Sum, 5, 6, 6, 7},
		"a sum, mine set to what it was":  {redis.Sum, 5, 5, 8, 8},
		"a sum of nothing before":         {redis.Sum, nil, 1, 2, 3},
		"a sum that they deleted":         {redis.Sum, 5, 7, nil, 2},
		"a sum of a named type":           {redis.Sum, points(1), points(2), points(3), points(4)},
		"a sum that is too large":         {redis.Sum, points(0), points(100), points(100), points(127)},
		"a sum that is too small":         {redis.Sum, points(0), points(-100), points(-100), points(-128)},
		"a sum below zero":                {redis.Sum, uint(5), uint(1), uint(2), uint(0)},
		"a sum of large numbers":          {redis.Sum, uint64(math.MaxUint64 - 2), uint64(math.MaxUint64 - 1), uint64(math.MaxUint64 - 1), uint64(math.MaxUint64)},
		"a sum of durations":              {redis.Sum, time.Second, 3 * time.Second, time.Minute, time.Minute + 2*time.Second},
		"a sum of fractions":              {redis.Sum, 0.5, 1.5, 0.25, 1.25},
		"a sum of complex numbers":        {redis.Sum, 1i, 2i, 1 + 1i, 1 + 2i},
		"a sum of different types":        {redis.Sum, int32(5), int64(7), int8(8), int64(10)},
		"a sum of integers and fractions": {redis.Sum, 1, 2.5, 2, 3.5},

		"a union":                       {redis.Union, []string{"a", "b", "c"}, []string{"a", "c", "mine"}, []string{"theirs", "c", "b"}, []string{"theirs", "c", "mine"}},
		"a union of nothing before":     {redis.Union, nil, []int{1, 2, 2}, []int{3, 1, 3}, []int{3, 1, 2}},
		"a union that they deleted":     {redis.Union, []int{1, 2}, []int{1, 2, 3}, nil, []int{3}},
		"a union of any":                {redis.Union, []any{1, "1"}, []any{1, "1", 1.5}, []any{1, "1", math.Inf(1)}, []any{1, "1", math.Inf(1), 1.5}},
		"a union of what is no key":     {redis.Union, [][]string{{"a"}, {"b"}}, [][]string{{"b"}, {"c"}}, [][]string{{"a"}, {"b"}, {"d"}}, [][]string{{"b"}, {"d"}, {"c"}}},
		"a union of pointers":           {redis.Union, []*account{{"ann"}}, []*account{{"ann"}, {"bob"}}, []*account{{"ann"}, {"eve"}}, []*account{{"ann"}, {"eve"}, {"bob"}}},
		"a union that becomes empty":    {redis.Union, []int{1, 2}, []int{1}, []int{2}, []int(nil)},
		"a union of maps":               {redis.Union, map[string]bool{"a": true}, map[string]bool{"b": true}, map[string]bool{"a": true, "c": true}, map[string]bool{"b": true, "c": true}},
		"the larger, mine":              {redis.Larger, 1, 3, 2, 3},
		"the larger, theirs":            {redis.Larger, 1, 2, 3, 3},
		"the larger, they deleted it":   {redis.Larger, 3, 1, nil, 1},
		"the larger of strings":         {redis.Larger, "", "b", "a", "b"},
		"the larger of times":           {redis.Larger, at(1), at(2), at(3), at(3)},
		"the larger of types":           {redis.Larger, nil, int8(1), 1.5, 1.5},
		"the larger than NaN":           {redis.Larger, nil, math.NaN(), 1.5, 1.5},
		"the larger of large numbers":   {redis.Larger, nil, uint64(math.MaxUint64), -1, uint64(math.MaxUint64)},
		"the later map":                 {redis.Later, map[string]int{"a": 1}, map[string]int{"a": 1, "b": 1}, map[string]int{"c": 1}, map[string]int{"a": 1, "b": 1}},
		"the later":                     {redis.Later, 1, 2, 3, 2},
		"nil deletes":                   {func(_, _, _ any) any { return nil }, 1, 2, 3, nil},
		"another type":                  {func(o, m, t any) any { return fmt.Sprint(o, m, t) }, 1, 2, nil, "1 2 <nil>"},
		"no more functions for the key": {nil, map[string]int{}, map[string]int{"a": 1}, map[string]int{"b": 1}, map[string]int{"a": 1, "b": 1}},
	} {
		p.MergeKey("k", redis.Larger)
		p.MergeKey("k", row.f)
		id := s.create("other", 1)
		if row.original != nil {
			set := s.read(p, id)
			_ = set.Set(ctx, "k", row.original)
			set.SessionRelease(ctx, nil)
		}
		mine, theirs := s.read(p, id), s.read(p, id)
		if set(s, mine, "k", row.mine, "mine", 1); row.theirs != nil {
			set(s, theirs, "k", row.theirs)
		}
		set(s, theirs, "theirs", 1)
		if row.theirs == nil {
			_ = theirs.Delete(ctx, "k")
		}
		theirs.SessionRelease(ctx, nil)
		mine.SessionRelease(ctx, nil)
		want := map[any]any{"other": 1, "mine": 1, "theirs": 1}
		if row.merge != nil {
			want["k"] = row.merge
		}
		if got := s.stored(id); !reflect.DeepEqual(got, want) {
			s.Errorf("%s: stored is %v, want %v", name, got, want)
		}
		if got := mine.Get(ctx, "k"); !reflect.DeepEqual(got, row.merge) {
			s.Errorf("%s: Get = %v, want %v", name, got, row.merge)
		}
		before := s.raw.Get(id).Val()
		mine.SessionRelease(ctx, nil)
		if s.raw.Get(id).Val() != before {
			s.Errorf("%s: a release after it saved again", name)
		}
	}
}

// whenItIsAsked shows of which changes a merge function is not asked.
func whenItIsAsked(s *site) {
	p := s.with(`"skip_empty":false`, life)
	p.MergeKey("k", func(_, mine, _ any) any {
		s.Errorf("the function was asked of %v", mine)
		return mine
	})
	p.MergeKey([]string{"no key"}, redis.Sum)
	other := func(id string, keysAndValues ...any) {
		store := s.read(s, id)
		set(s, store, keysAndValues...)
		store.SessionRelease(ctx, nil)
	}
	for name, row := range map[string]struct {
		mine   func(store session.Store)
		theirs []any
		want   any
	}{
		"only theirs":    {func(store session.Store) { set(s, store, "a", 1) }, []any{"k", 2}, 2},
		"only mine":      {func(store session.Store) { set(s, store, "k", 3) }, []any{"a", 2}, 3},
		"only looked at": {func(store session.Store) { _ = store.Get(ctx, "k"); set(s, store, "a", 1) }, []any{"k", 2}, 2},
		"deleted":        {func(store session.Store) { _ = store.Delete(ctx, "k") }, []any{"k", 2}, nil},
		"flushed":        {func(store session.Store) { _ = store.Flush(ctx); set(s, store, "k", 4) }, []any{"k", 2}, 4},
	} {
		id := s.create("k", 1)
		store := s.read(p, id)
		row.mine(store)
		other(id, row.theirs...)
		store.SessionRelease(ctx, nil)
		if got := s.stored(id)["k"]; got != row.want {
			s.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

// badMergeFunctions shows that a function that fails costs nothing but its key.
func badMergeFunctions(s *site) {
	p := s.with(`"skip_empty":false`, life)
	var mu sync.Mutex
	var told []redis.Failure
	p.OnError(func(_ context.Context, f redis.Failure) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, f)
	})
	for name, row := range map[string]struct {
		f    func(original, mine, theirs any) any
		kind redis.Kind
	}{
		"panics":                        {func(_, _, _ any) any { panic("oh") }, redis.KindOther},
		"panics with an error":          {func(_, _, _ any) any { panic(errors.New("oh")) }, redis.KindOther},
		"is not for it":                 {redis.Union, redis.KindOther},
		"cannot compare it":             {func(o, m, _ any) any { return redis.Larger(o, m, "a") }, redis.KindOther},
		"returns what cannot be saved":  {func(_, _, _ any) any { return func() {} }, redis.KindUnencodable},
		"returns a nil pointer":         {func(_, _, _ any) any { return (*account)(nil) }, redis.KindUnencodable},
		"returns a map that holds such": {func(_, _, _ any) any { return map[string]any{"c": make(chan int)} }, redis.KindUnencodable},
	} {
		told = nil
		calls := 0
		id := s.create("bad", 0, "n", 1)
		mine := s.read(p, id)
		set(s, mine, "bad", 1, "n", 2, "mine", 1)
		theirs := func() {
			store := s.read(s, id)
			set(s, store, "bad", store.Get(ctx, "bad").(int)+10, "n", store.Get(ctx, "n").(int)+1)
			store.SessionRelease(ctx, nil)
		}
		p.MergeKey("bad", func(original, mine, theirs any) any { calls++; return row.f(original, mine, theirs) })
		p.MergeKey("n", func(original, mine, from any) any { // and there is another conflict while it runs, once
			if from == 2 {
				theirs()
			}
			return redis.Sum(original, mine, from)
		})
		theirs()
		mine.SessionRelease(ctx, nil)
		s.holds(id, "bad", 1, "n", 4, "mine", 1)
		if len(told) != 1 || told[0].Kind != row.kind || !strings.Contains(told[0].Err.Error(), `"bad"`) || strings.Contains(told[0].Err.Error(), id) {
			s.Errorf("%s: told %v, want one of the kind %s", name, told, row.kind)
		}
		if calls != 1 {
			s.Errorf("%s: called %d times", name, calls)
		}
		mine.SessionRelease(ctx, nil)
		if len(told) != 1 {
			s.Errorf("%s: told again: %v", name, told[1:])
		}
	}
}

// freeMergeFunctions shows that a function may do anything with the session and its provider, and that it has copies.
func freeMergeFunctions(s *site) {
	p := s.with(`"skip_empty":false`, life)
	id := s.create("k", map[string]any{"n": 1}, "n", 0)
	mine := s.read(p, id)
	held := mine.Get(ctx, "k").(map[string]any)
	held["n"] = 2
	theirs := s.read(p, id)
	theirs.Get(ctx, "k").(map[string]any)["n"] = 3
	theirs.SessionRelease(ctx, nil)

	calls, global := 0, map[string]any{"n": 100}
	p.MergeKey("k", func(o, m, t any) any {
		calls++
		for i, v := range []any{o, m, t} {
			if n := v.(map[string]any)["n"]; calls == 1 && n != i+1 {
				s.Errorf("value %d is %v", i, n)
			}
			v.(map[string]any)["n"] = "spoiled"
		}
		switch calls {
		case 1:
			set(s, mine, "set meanwhile", 1)
			if err := p.SessionDestroy(ctx, newID()); err != nil {
				s.Error(err)
			}
			store := s.read(p, id)
			set(s, store, "k", map[string]any{"n": 50}, "another request", 1)
			store.SessionRelease(ctx, nil) // so that there is another conflict
		case 2:
			set(s, mine, "k", map[string]any{"n": 5}) // so that the result is void
		case 3:
			mine.SessionRelease(ctx, nil) // which asks in turn
		}
		return global
	})
	within(s, func() { mine.SessionRelease(ctx, nil) })
	if got := held["n"]; got != 2 {
		s.Errorf("the function had the map of the handler: %v", got)
	}
	s.holds(id, "k", map[string]any{"n": 100}, "n", 0, "set meanwhile", 1, "another request", 1)
	mine.Get(ctx, "k").(map[string]any)["n"] = 6
	if global["n"] != 100 {
		s.Error("the session holds the map that the function returned")
	}
	if calls < 4 {
		s.Errorf("called %d times", calls)
	}
}

// within fails the test where f does not end.
func within(t testing.TB, f func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}
