// What a process keeps about requests under way, where the order of events decides and only these types can be asked.

package redis

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestHandoffRefusesAValueThatWasReadBeforeASave(t *testing.T) {
	h := newHandoff()
	changes := h.changes("id")
	h.forget("id") // the value is on its way from Redis when a save ends
	h.offer("id", stored{data: "old", present: true}, changes)
	if _, ok := h.take("id"); ok {
		t.Error("the old value was handed on")
	}
	h.offer("id", stored{data: "new", present: true}, h.changes("id"))
	if found, ok := h.take("id"); !ok || found.data != "new" {
		t.Errorf("take = %v, %v", found, ok)
	}
	h.offer("id", stored{data: "expired", present: true, expires: time.Now()}, h.changes("id"))
	if _, ok := h.take("id"); ok {
		t.Error("an expired value was handed on")
	}
}

func TestIDLocksPassFromOneToTheNext(t *testing.T) {
	l := newIDLocks()
	var wg sync.WaitGroup
	held := map[string]*int{"a": new(int), "b": new(int)}
	for i := range 16 {
		id := string(rune('a' + i%2))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 200 {
				if !l.lock(id, time.Minute) {
					t.Error("not had within a minute")
					return
				}
				*held[id]++ // the race detector sees two holders
				l.unlock(id)
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

func TestAnIDLockThatIsNotHadInTimeIsNotHeld(t *testing.T) {
	l := newIDLocks()
	l.lock("a", 0)
	var wg sync.WaitGroup
	var had, gaveUp int
	var mu sync.Mutex
	for range 32 { // of which some give up just when the lock is passed on to them
		wg.Add(1)
		go func() {
			defer wg.Done()
			ok := l.lock("a", time.Millisecond)
			mu.Lock()
			if ok {
				had++
			} else {
				gaveUp++
			}
			mu.Unlock()
			if ok {
				time.Sleep(100 * time.Microsecond)
				l.unlock("a")
			}
		}()
	}
	time.Sleep(time.Millisecond)
	l.unlock("a")
	wg.Wait()
	t.Logf("%d had it, %d gave up", had, gaveUp)
	if !l.lock("a", 0) {
		t.Error("the lock was lost")
	}
}

func TestRemovalsRememberTheLatest(t *testing.T) {
	r := newRemovals()
	r.add("early")
	before := r.now()
	r.add("id")
	if !r.since("id", before) || r.since("id", r.now()) || r.since("early", before) || r.since("other", 0) {
		t.Error("the order of removals and reads is wrong")
	}
	for i := range 3 * removedKept {
		r.add(fmt.Sprint(i))
		if i%100 == 0 {
			r.add("id") // removed again and again, it stays
		}
	}
	if !r.since("id", before) || r.since("early", 0) {
		t.Error("the wrong ids were forgotten")
	}
	if n := len(r.at); n > removedKept {
		t.Errorf("%d ids are kept", n)
	}
}
