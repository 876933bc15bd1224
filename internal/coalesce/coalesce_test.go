// What a Group promises, shown with run functions that the tests hold and release.
package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/coalesce"
)

// held is a Group whose run reports every batch on started, and returns when it is let go.
type held struct {
	*coalesce.Group[int]
	t       *testing.T
	started chan []int
	release chan struct{}
}

// newHeld returns one whose run calls then in between, unless that is nil. Nobody runs without a lane.
func newHeld(t *testing.T, limits coalesce.Limits, then func(batch []int)) *held {
	limits.Wait = time.Hour
	h := &held{t: t, started: make(chan []int), release: make(chan struct{})}
	h.Group = coalesce.New(func(batch []int) {
		h.started <- slices.Clone(batch)
		if then != nil {
			then(batch)
		}
		<-h.release
	}, limits)
	return h
}

var (
	errPanic = errors.New("panic")
	errExit  = errors.New("exit of the goroutine")
)

// call calls Do in a goroutine and returns what comes of it: its error, errPanic or errExit.
func (h *held) call(ctx context.Context, item int) (outcome <-chan error) {
	c := make(chan error, 1)
	go func() {
		err := errExit
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("%w: %v", errPanic, v)
			}
			c <- err
		}()
		err = h.Do(ctx, item)
	}()
	return c
}

// enqueue calls Do and waits until item is in the queue.
func (h *held) enqueue(ctx context.Context, item int) (outcome <-chan error) {
	h.t.Helper()
	n := h.Queued()
	c := h.call(ctx, item)
	h.await("an item in the queue", func() bool { return h.Queued() == n+1 })
	return c
}

// fillLanes puts the items 1, 2, … in flight: one alone, and one in every lane.
func (h *held) fillLanes(lanes int) (outcomes []<-chan error) {
	h.t.Helper()
	for item := 1; item <= 1+lanes; item++ {
		outcomes = append(outcomes, h.call(context.Background(), item))
		h.wantStarted(item)
	}
	return outcomes
}

// wantLane checks that a Group with one lane, where nothing is in flight, has it free.
func (h *held) wantLane() {
	h.t.Helper()
	calls := h.fillLanes(1)
	close(h.release)
	h.wantReturned(nil, calls...)
}

func (h *held) await(what string, condition func() bool) {
	h.t.Helper()
	for start := time.Now(); !condition(); runtime.Gosched() {
		if time.Since(start) > 10*time.Second {
			h.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (h *held) nextBatch() []int {
	h.t.Helper()
	select {
	case batch := <-h.started:
		return batch
	case <-time.After(10 * time.Second):
		h.t.Fatal("run was not called")
		return nil
	}
}

func (h *held) wantStarted(want ...int) {
	h.t.Helper()
	if got := h.nextBatch(); !slices.Equal(got, want) {
		h.t.Fatalf("run was given %v, want %v", got, want)
	}
}

func (h *held) wantReturned(want error, outcomes ...<-chan error) {
	h.t.Helper()
	for i, c := range outcomes {
		select {
		case err := <-c:
			if !errors.Is(err, want) {
				h.t.Fatalf("call %d came to %v, want %v", i, err, want)
			}
		case <-time.After(10 * time.Second):
			h.t.Fatalf("call %d: Do did not return, want %v", i, want)
		}
	}
}

func (h *held) wantWaiting(outcomes ...<-chan error) {
	h.t.Helper()
	for i, c := range outcomes {
		select {
		case err := <-c:
			h.t.Fatalf("call %d: Do returned %v before its batch had run", i, err)
		default:
		}
	}
}

func TestFewCallersRunAloneAndAtOnce(t *testing.T) {
	h := newHeld(t, coalesce.Limits{Alone: 3, Lanes: 1}, nil)
	var calls []<-chan error
	for item := range 3 {
		calls = append(calls, h.call(context.Background(), item))
		h.wantStarted(item)
	}
	h.wantWaiting(calls...)
	close(h.release)
	h.wantReturned(nil, calls...)
}

func TestCallersBeyondTheLanesTravelTogetherInOrder(t *testing.T) {
	h := newHeld(t, coalesce.Limits{Alone: 1, Lanes: 2}, nil)
	first := h.fillLanes(2)
	var waiting []<-chan error
	for item := 10; item < 20; item++ {
		waiting = append(waiting, h.enqueue(context.Background(), item))
	}
	h.release <- struct{}{} // may be the call that runs alone, which frees no lane
	h.release <- struct{}{}
	h.wantStarted(10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
	h.wantWaiting(waiting...)
	close(h.release)
	h.wantReturned(nil, append(first, waiting...)...)
}

func TestBatchIsLimited(t *testing.T) {
	h := newHeld(t, coalesce.Limits{Alone: 1, Lanes: 1, Batch: 3}, nil)
	calls := h.fillLanes(1)
	for item := 10; item < 17; item++ {
		calls = append(calls, h.enqueue(context.Background(), item))
	}
	close(h.release)
	var sizes []int
	for range 3 {
		sizes = append(sizes, len(h.nextBatch()))
	}
	slices.Sort(sizes)
	if want := []int{1, 3, 3}; !slices.Equal(sizes, want) {
		t.Errorf("seven items travelled in batches of %v, want %v", sizes, want)
	}
	h.wantReturned(nil, calls...)
}

func TestCallersRunAloneWhileTheQueueIsFull(t *testing.T) {
	h := newHeld(t, coalesce.Limits{Alone: 1, Lanes: 1, Queue: 2}, nil)
	calls := h.fillLanes(1)
	calls = append(calls, h.enqueue(context.Background(), 10), h.enqueue(context.Background(), 11))
	for item := 20; item < 23; item++ {
		calls = append(calls, h.call(context.Background(), item))
		h.wantStarted(item)
	}
	for range 5 {
		h.release <- struct{}{}
	}
	h.wantStarted(10, 11)
	close(h.release)
	h.wantReturned(nil, calls...)
	if n := h.Queued(); n != 0 {
		t.Errorf("%d items are still queued", n)
	}
}

func TestHangingLaneDoesNotHoldUpTheOthers(t *testing.T) {
	hang := make(chan struct{})
	h := newHeld(t, coalesce.Limits{Alone: 1, Lanes: 2}, func(batch []int) {
		if batch[0] < 10 {
			<-hang
		}
	})
	hanging := h.fillLanes(1)
	for item := 10; item < 100; item++ {
		other := h.call(context.Background(), item)
		h.wantStarted(item)
		h.release <- struct{}{}
		h.wantReturned(nil, other)
	}
	h.wantWaiting(hanging...)
	close(hang)
	close(h.release)
	h.wantReturned(nil, hanging...)
}

func TestCancelledCallersLeaveTheirBatchToTheOthers(t *testing.T) {
	for _, test := range []struct {
		name  string
		leave []int
		want  []int
	}{
		{"leader", []int{10}, []int{11, 12, 13}},
		{"follower", []int{12}, []int{10, 11, 13}},
		{"leader and followers", []int{10, 11, 13}, []int{12}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHeld(t, coalesce.Limits{Alone: 1, Lanes: 1}, nil)
			stay := h.fillLanes(1)
			var leave []<-chan error
			ctx, cancel := context.WithCancel(context.Background())
			for item := 10; item < 14; item++ {
				if slices.Contains(test.leave, item) {
					leave = append(leave, h.enqueue(ctx, item))
				} else {
					stay = append(stay, h.enqueue(context.Background(), item))
				}
			}
			cancel()
			h.wantReturned(context.Canceled, leave...)
			h.wantWaiting(stay...)
			h.release <- struct{}{}
			h.release <- struct{}{}
			h.wantStarted(test.want...)
			close(h.release)
			h.wantReturned(nil, stay...)
		})
	}
}

func TestBatchThatAllCallersLeftIsNotRun(t *testing.T) {
	h := newHeld(t, coalesce.Limits{Alone: 1, Lanes: 1}, nil)
	first := h.fillLanes(1)
	ctx, cancel := context.WithCancel(context.Background())
	left := []<-chan error{h.enqueue(ctx, 10), h.enqueue(ctx, 11)}
	cancel()
	h.wantReturned(context.Canceled, left...)
	h.release <- struct{}{}
	h.release <- struct{}{}
	h.wantReturned(nil, first...)
	h.await("an empty queue", func() bool { return h.Queued() == 0 })

	h.wantLane()
}

func TestCallersOfABatchInFlightReturnWhenTheyAreCancelled(t *testing.T) {
	h := newHeld(t, coalesce.Limits{Alone: 1, Lanes: 1}, nil)
	stay := h.fillLanes(1)
	ctx, cancel := context.WithCancel(context.Background())
	leave := []<-chan error{h.enqueue(ctx, 10)}
	stay = append(stay, h.enqueue(context.Background(), 11))
	leave = append(leave, h.enqueue(ctx, 12))
	h.release <- struct{}{}
	h.release <- struct{}{}
	h.wantStarted(10, 11, 12)
	cancel()
	h.wantReturned(context.Canceled, leave...)
	h.wantWaiting(stay[2])
	close(h.release)
	h.wantReturned(nil, stay...)
}

func TestRunMayCallDoItself(t *testing.T) {
	const callers = 4
	var g *coalesce.Group[int]
	inside := make(chan struct{}, callers)
	all := make(chan struct{})
	g = coalesce.New(func(batch []int) {
		if batch[0] == 0 {
			return // called by run
		}
		inside <- struct{}{}
		<-all // those who run alone, and those in a lane
		if err := g.Do(context.Background(), 0); err != nil {
			t.Error(err)
		}
	}, coalesce.Limits{Alone: 1, Lanes: callers - 1, Batch: 1, Wait: time.Millisecond})
	outcome := make(chan error, callers)
	for range callers {
		go func() { outcome <- g.Do(context.Background(), 1) }()
	}
	for range callers {
		<-inside
	}
	close(all)
	for range callers {
		if err := <-outcome; err != nil {
			t.Error(err)
		}
	}
}

func TestEndedContextIsNotRun(t *testing.T) {
	g := coalesce.New(func(batch []int) { t.Errorf("run was given %v", batch) }, coalesce.Limits{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Do(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Do returned %v, want %v", err, context.Canceled)
	}
}

func TestPanicReachesAllCallersOfTheBatchAndFreesTheLane(t *testing.T) {
	cancellable, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, test := range []struct {
		name   string
		leader context.Context
	}{
		{"on the leader's goroutine", context.Background()},
		{"on a goroutine of its own", cancellable},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHeld(t, coalesce.Limits{Alone: 1, Lanes: 1}, func(batch []int) {
				if slices.Contains(batch, 10) {
					panic("ten")
				}
			})
			first := h.fillLanes(1)
			calls := []<-chan error{h.enqueue(test.leader, 10), h.enqueue(context.Background(), 11), h.enqueue(cancellable, 12)}
			h.release <- struct{}{}
			h.release <- struct{}{}
			h.wantReturned(nil, first...)
			h.wantStarted(10, 11, 12)
			h.wantReturned(errPanic, calls...)
			h.wantLane()
		})
	}
}

func TestPanicOfACallThatRunsAloneIsItsCallers(t *testing.T) {
	g := coalesce.New(func(batch []int) {
		if batch[0] == 1 {
			panic("one")
		}
	}, coalesce.Limits{Alone: 1})
	func() {
		defer func() {
			if v := recover(); v != "one" {
				t.Errorf("recovered %v, want one", v)
			}
		}()
		_ = g.Do(context.Background(), 1)
	}()
	if err := g.Do(context.Background(), 2); err != nil {
		t.Error(err)
	}
}

func TestRunThatExitsItsGoroutineReleasesTheOtherCallers(t *testing.T) {
	h := newHeld(t, coalesce.Limits{Alone: 1, Lanes: 1}, func(batch []int) {
		if slices.Contains(batch, 10) {
			runtime.Goexit()
		}
	})
	first := h.fillLanes(1)
	leader := h.enqueue(context.Background(), 10)
	follower := h.enqueue(context.Background(), 11)
	h.release <- struct{}{}
	h.release <- struct{}{}
	h.wantReturned(nil, first...)
	h.wantStarted(10, 11)
	h.wantReturned(errPanic, follower)
	h.wantReturned(errExit, leader)
	h.wantLane()
}

// TestManyCallers checks under random load that every item is run exactly once before its Do returns nil, at most once
// if its caller left, in batches within the limit, and that nothing is left behind.
func TestManyCallers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		limits := coalesce.Limits{
			Alone: 1 + random.IntN(4),
			Lanes: 1 + random.IntN(4),
			Batch: 1 + random.IntN(8),
			Queue: 1 + random.IntN(32),
		}
		t.Logf("%+v", limits)
		manyCallers(t, limits, random.Uint64())
	}
}

func manyCallers(t *testing.T, limits coalesce.Limits, seed uint64) {
	type item struct {
		pauses int
		runs   int // without a lock: Do must order run before its own return
	}
	var mu sync.Mutex
	runs := map[*item]int{}
	g := coalesce.New(func(batch []*item) {
		if len(batch) == 0 || len(batch) > limits.Batch {
			t.Errorf("batch of %d items, limit %d", len(batch), limits.Batch)
		}
		for _, it := range batch {
			for range it.pauses {
				runtime.Gosched()
			}
			it.runs++
			mu.Lock()
			runs[it]++
			mu.Unlock()
		}
	}, limits)
	var callers sync.WaitGroup
	for caller := range 16 {
		random := rand.New(rand.NewPCG(seed, uint64(caller)))
		callers.Add(1)
		go func() {
			defer callers.Done()
			for range 100 {
				it := &item{pauses: random.IntN(4)}
				ctx, cancel := context.Background(), context.CancelFunc(func() {})
				if random.IntN(2) == 0 {
					ctx, cancel = context.WithCancel(ctx)
					if random.IntN(2) == 0 {
						pauses := random.IntN(8)
						callers.Add(1)
						go func() {
							defer callers.Done()
							for range pauses {
								runtime.Gosched()
							}
							cancel()
						}()
					}
				}
				err := g.Do(ctx, it)
				switch {
				case err == nil && it.runs != 1:
					t.Errorf("Do returned nil, and the item was run %d times", it.runs)
				case err != nil && ctx.Err() == nil:
					t.Errorf("Do returned %v, and its context is alive", err)
				}
				cancel()
			}
		}()
	}
	callers.Wait()
	for start := time.Now(); g.Queued() > 0; runtime.Gosched() {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("%d items are left in the queue", g.Queued())
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, n := range runs {
		if n != 1 {
			t.Errorf("an item was run %d times", n)
		}
	}
}
