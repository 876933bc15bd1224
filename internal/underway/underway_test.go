package underway

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestLocksPassFromOneToTheNext(t *testing.T) {
	var l Locks
	var wg sync.WaitGroup
	held := map[string]*int{"a": new(int), "b": new(int)}
	for i := range 16 {
		id := string(rune('a' + i%2))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 200 {
				if !l.Lock(id, time.Now().Add(time.Minute)) {
					t.Error("not had within a minute")
					return
				}
				*held[id]++ // the race detector sees two holders
				l.Unlock(id)
			}
		}()
	}
	wg.Wait()
	if *held["a"] != 1600 || *held["b"] != 1600 {
		t.Errorf("held %d and %d times", *held["a"], *held["b"])
	}
	for i := range l.shards {
		if n := len(l.shards[i].held); n != 0 {
			t.Errorf("%d locks are left", n)
		}
	}
}

func TestALockThatIsNotHadInTimeIsNotHeld(t *testing.T) {
	var l Locks
	l.Lock("a", time.Now())
	var wg sync.WaitGroup
	var had, gaveUp int
	var mu sync.Mutex
	for range 32 { // of which some give up just when the lock is passed on to them
		wg.Add(1)
		go func() {
			defer wg.Done()
			ok := l.Lock("a", time.Now().Add(time.Millisecond))
			mu.Lock()
			if ok {
				had++
			} else {
				gaveUp++
			}
			mu.Unlock()
			if ok {
				time.Sleep(100 * time.Microsecond)
				l.Unlock("a")
			}
		}()
	}
	time.Sleep(time.Millisecond)
	l.Unlock("a")
	wg.Wait()
	t.Logf("%d had it, %d gave up", had, gaveUp)
	if !l.Lock("a", time.Now()) {
		t.Error("the lock was lost")
	}
}

func TestALookServesOneRead(t *testing.T) {
	defer func(d time.Duration) { offerTime = d }(offerTime)
	offerTime = time.Minute // how slow this machine is decides nothing
	var l Looks[string]
	take := func(wantValue string, wantFound bool) {
		t.Helper()
		value, offered, said := l.Take("id")
		if value != wantValue || offered != (wantValue != "") || said != map[bool]Said{true: Found}[wantFound] {
			t.Errorf("Take = %q, %v, %v; want %q, %v", value, offered, said, wantValue, wantFound)
		}
	}
	take("", false)
	l.Begin("id").Offer("value", 5)
	take("value", true)
	take("", false)

	// Two requests look, and then both read.
	l.Begin("id").Offer("first", 5)
	l.Begin("id").Offer("second", 6)
	take("second", true)
	take("", true)
	take("", false)

	// A look that failed has learned nothing.
	l.Begin("id").Offer("value", 5)
	l.Begin("id").Failed()
	take("value", true)

	look := l.Begin("id")
	look.Offer("value", 5)
	look.Failed() // as deferred: it has ended before
	take("value", true)

	l.Begin("id").Offer("too large", offerMax+1)
	take("", true)
	if n := len(l.shard("id").ids); n != 0 {
		t.Errorf("%d ids are left", n)
	}
}

func TestAnOfferIsNeverOlderThanTheLastAnswer(t *testing.T) {
	var l Looks[string]
	for name, act := range map[string]func(){
		"the next look finds nothing": func() {
			l.Begin("id").Offer("old", 3)
			l.Begin("id").Answered()
		},
		"a slow look answers after a later one": func() {
			slow := l.Begin("id")
			l.Begin("id").Answered()
			slow.Offer("old", 3)
		},
		"it was changed": func() {
			l.Begin("id").Offer("old", 3)
			l.Changed("id")
		},
		"it was changed during the look": func() {
			look := l.Begin("id")
			l.Changed("id")
			look.Offer("old", 3)
		},
	} {
		act()
		if value, offered, said := l.Take("id"); offered || said != Found {
			t.Errorf("%s: Take = %q, %v, %v", name, value, offered, said)
		}
	}
	slow := l.Begin("id")
	l.Begin("id").Offer("new", 3)
	slow.Offer("old", 3)
	if value, _, _ := l.Take("id"); value != "new" {
		t.Errorf("Take = %q", value)
	}
}

func TestLooksOfNoUseAreForgotten(t *testing.T) {
	var l Looks[string]
	const n = 600_000
	for i := range n {
		l.Begin(fmt.Sprint(i)).Offer("value", offerMax) // no read comes for it
	}
	var ids int
	for i := range l.shards {
		ids += len(l.shards[i].ids)
		if b := l.shards[i].bytes; b > shardMax {
			t.Errorf("a shard holds %d bytes", b)
		}
	}
	if most := len(l.shards) * 2 * noteMax; ids > most || ids == 0 {
		t.Errorf("%d ids are remembered, %d at most", ids, most)
	}
	if _, _, said := l.Take(fmt.Sprint(n - 1)); said != Found {
		t.Error("the last one was forgotten")
	}
}

func TestAnIDThatWasAssumedToBeThere(t *testing.T) {
	defer func(d time.Duration) { offerTime = d }(offerTime)
	offerTime = time.Minute
	var l Looks[string]
	take := func(wantValue string, wantOffered bool, want Said) {
		t.Helper()
		if value, offered, said := l.Take("id"); value != wantValue || offered != wantOffered || said != want {
			t.Errorf("Take = %q, %v, %v; want %q, %v, %v", value, offered, said, wantValue, wantOffered, want)
		}
	}
	assume := func() { l.Begin("id").Assume() }

	assume()
	assume()
	take("", true, Assumed)
	take("", true, Assumed)
	take("", false, Nothing)

	// A look that has found it serves one of the reads, and the other looks again.
	for _, looks := range [][]func(){
		{assume, func() { l.Begin("id").Offer("value", 5) }},
		{func() { l.Begin("id").Offer("value", 5) }, assume},
	} {
		looks[0]()
		looks[1]()
		take("value", true, Found)
		if _, _, said := l.Take("id"); said == Nothing {
			t.Error("of the second look nothing is known")
		}
		take("", false, Nothing)
	}

	offerTime = 0
	assume()
	take("", false, Assumed)
	if n := len(l.shard("id").ids); n != 0 {
		t.Errorf("%d ids are left", n)
	}
}

// An id that nobody has found must not become a new session because there were too many of them to be remembered.
func TestAssumedIDsThatAreForgottenCountAsAssumed(t *testing.T) {
	var l Looks[string]
	for i := range 600_000 {
		l.Begin(fmt.Sprint(i)).Assume()
	}
	var ids int
	for i := range l.shards {
		ids += len(l.shards[i].ids)
	}
	if most := len(l.shards) * 2 * noteMax; ids > most {
		t.Errorf("%d ids are remembered, %d at most", ids, most)
	}
	for i := range 600_000 {
		if _, _, said := l.Take(fmt.Sprint(i)); said != Assumed {
			t.Fatalf("id %d of 600,000: %v", i, said)
		}
	}
}
