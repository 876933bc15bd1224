// Package coalesce lets concurrent calls to one server share round trips: where callers would queue for the processor
// anyway, their items travel together as one batch.
package coalesce

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// slowYield is longer than it takes dozens of callers that each compute for 50 µs to have their turn, and shorter than
// the 10 ms that the scheduler lets a goroutine compute without a break.
const slowYield = 4 * time.Millisecond

// Limits bounds a Group. A field that is zero takes its default.
type Limits struct {
	Alone int // as long as no more callers than this are in Do, each runs alone and at once; default 2 x GOMAXPROCS
	Lanes int // batches that run at a time; default 16
	Batch int // items in one batch; default 64
	Queue int // items that wait for a lane; callers beyond that run alone; default 1024

	// Wait is how long a batch waits for a lane before it runs without one; default 100 ms. Lanes are for speed: run may
	// call Do itself, and what holds all of them must not hold whoever comes after.
	Wait time.Duration
}

// A Group hands items to one function, alone or several at a time. It holds no goroutine while it has nothing to do.
type Group[T any] struct {
	run    func(batch []T)
	limits Limits
	inside atomic.Int64  // callers in Do
	lanes  chan struct{} // one element for every batch that runs

	born    time.Time
	noYield atomic.Int64 // leaders do not yield until so many ns after born

	mu     sync.Mutex // protects the fields below, and every batch that is not yet taken
	open   *batch[T]  // the batch that new items join, nil if there is none
	queued int        // items in batches that are not yet taken

	slices sync.Pool // of *[]T, empty: those in which items were handed to run
}

// A batch belongs to all its callers. The one who opened it leads: it takes the batch and runs it for all.
type batch[T any] struct {
	items  *[]T
	gone   map[int]bool  // places of callers who left before the batch was taken
	done   chan struct{} // closed when run has returned
	failed error         // why run did not return; set before done is closed
}

// New returns a Group that hands items to run. Calls of run are concurrent; run must not keep the slice.
func New[T any](run func(batch []T), limits Limits) *Group[T] {
	limits.Alone = cmp.Or(limits.Alone, 2*runtime.GOMAXPROCS(0))
	limits.Lanes = cmp.Or(limits.Lanes, 16)
	limits.Batch = cmp.Or(limits.Batch, 64)
	limits.Queue = cmp.Or(limits.Queue, 1024)
	limits.Wait = cmp.Or(limits.Wait, 100*time.Millisecond)
	return &Group[T]{run: run, limits: limits, lanes: make(chan struct{}, limits.Lanes), born: time.Now()}
}

// Do returns nil once run has returned for the batch that held item; what came of it is for run to leave in the item.
//
// If ctx ends first, Do returns its error. An item that still waited is then never handed to run; of one that was
// handed over, nothing is known, and the caller must not touch it any more. Only a call that runs alone, on its
// caller's goroutine, does not return before run does: obeying ctx is up to run there.
//
// If run panics, Do panics in every caller of that batch.
func (g *Group[T]) Do(ctx context.Context, item T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	inside := g.inside.Add(1)
	defer g.inside.Add(-1)
	if inside <= int64(g.limits.Alone) {
		g.alone(item)
		return nil
	}
	b, place := g.join(item)
	if b == nil {
		g.alone(item)
		return nil
	}
	cancelled := ctx.Done()
	switch {
	case place == 0 && cancelled == nil:
		g.lead(b)
	case place == 0:
		go g.lead(b)
	}
	if cancelled == nil {
		<-b.done // a select costs more
	} else {
		select {
		case <-b.done:
		case <-cancelled:
			g.leave(b, place)
			return ctx.Err()
		}
	}
	if b.failed != nil {
		panic(b.failed)
	}
	return nil
}

// Queued returns how many items wait to be run.
func (g *Group[T]) Queued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queued
}

func (g *Group[T]) alone(item T) {
	items := g.slice()
	*items = append(*items, item)
	g.run(*items)
	g.recycle(items)
}

// slice returns one that is empty.
func (g *Group[T]) slice() *[]T {
	if s, ok := g.slices.Get().(*[]T); ok {
		return s
	}
	return new([]T)
}

// recycle takes back a slice that nobody uses any more.
func (g *Group[T]) recycle(s *[]T) {
	clear(*s)
	*s = (*s)[:0]
	g.slices.Put(s)
}

// join puts item into the open batch and returns its place there, or a nil batch if the queue is full.
// The caller at place 0 leads.
func (g *Group[T]) join(item T) (*batch[T], int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.queued >= g.limits.Queue {
		return nil, 0
	}
	b := g.open
	if b == nil {
		b = &batch[T]{items: g.slice(), done: make(chan struct{})}
		g.open = b
	}
	*b.items = append(*b.items, item)
	g.queued++
	n := len(*b.items)
	if n == g.limits.Batch {
		g.open = nil
	}
	return b, n - 1
}

// leave keeps the item at place from being run, unless the batch has been taken.
func (g *Group[T]) leave(b *batch[T], place int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b.gone == nil {
		b.gone = make(map[int]bool)
	}
	b.gone[place] = true
}

// lead runs b.
func (g *Group[T]) lead(b *batch[T]) {
	inLane := g.enter()
	returned := false
	defer func() {
		if !returned {
			b.failed = fmt.Errorf("coalesce: run did not return: %v\n\n%s", recover(), debug.Stack())
		}
		if inLane {
			<-g.lanes
		}
		close(b.done)
	}()
	g.yield()
	if items := g.take(b); len(items) > 0 {
		g.run(items)
	}
	g.recycle(b.items)
	returned = true
}

// enter waits for a lane, but not for long. It reports whether it has one, which is an element of lanes.
func (g *Group[T]) enter() bool {
	select {
	case g.lanes <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(g.limits.Wait)
	defer timer.Stop()
	select {
	case g.lanes <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// yield lets the callers who are ready to run join, and returns at once where there are none. Among goroutines that
// compute for long its own turn comes late: after that, nobody yields for thirty times as long.
func (g *Group[T]) yield() {
	start := time.Since(g.born)
	if int64(start) < g.noYield.Load() {
		return
	}
	runtime.Gosched()
	if took := time.Since(g.born) - start; took > slowYield {
		g.noYield.Store(int64(start + 31*took))
	}
}

// take closes b to new items and returns those whose callers still wait.
func (g *Group[T]) take(b *batch[T]) []T {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == b {
		g.open = nil
	}
	all := *b.items
	g.queued -= len(all)
	if b.gone == nil {
		return all
	}
	items := make([]T, 0, len(all))
	for i, item := range all {
		if !b.gone[i] {
			items = append(items, item)
		}
	}
	return items
}
