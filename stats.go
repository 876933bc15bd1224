// What a provider counts, so that whoever runs a site sees what its sessions do.

package redis

import (
	"sync/atomic"
	"time"

	"github.com/go-redis/redis/v7"
)

// Stats is what a [Provider] has done since the process began. Its counts only grow, also over a SessionInit. They are read one
// after the other while requests go on, so that one may be a request ahead of another. An Update that saved counts as a release
// everywhere but in Save.
type Stats struct {
	Found  uint64 // SessionRead of a session that there is
	Absent uint64 // SessionRead of one that there is not, or no longer

	Saved     uint64 // releases that wrote a session, and of these
	Created   uint64 // those that wrote a new one
	Merged    uint64 // times that a save met what another request had saved meanwhile, and was done again on that
	Touched   uint64 // releases that renewed the life time of a session and saved nothing
	Unchanged uint64 // releases that had nothing to do, or not again: a session that is too large is told once
	Gone      uint64 // releases that saved or renewed nothing because their session had been destroyed, regenerated or had expired

	Regenerated uint64 // sessions that got a new id
	Destroyed   uint64 // SessionDestroy that succeeded, also of a session that there was not

	Dropped uint64 // entries that could not be encoded, and whose change was lost while the others were saved
	Retries uint64 // round trips that were repeated because the connection failed or the server was not ready

	Errors map[Kind]uint64 // operations that failed, or that lost something; it has every kind, also with 0

	BytesRead    uint64 // of stored sessions, as they are in Redis
	BytesWritten uint64 // of sessions that were to be saved

	InFlight int // operations under way
	Queued   int // calls that wait to share a round trip, of those under way; 0 where none are shared

	// Load, in seconds, is of every look at Redis for a session: that of a SessionExist serves the SessionRead that follows.
	// Save, in seconds, is of every release that had to save, with its waits, merges and repeats, also where it failed.
	Load, Save Histogram

	// Size, in bytes, is of every session that was saved.
	Size Histogram

	// Pool is go-redis's own, of the connections that are in use now: those of all masters in a cluster. It begins anew with a
	// SessionInit of another configuration. It is zero where a client of the application has none.
	Pool redis.PoolStats
}

// Histogram is a distribution of values, in seconds or bytes.
type Histogram struct {
	Bounds []float64 // upper bounds of the buckets, ascending, each inclusive
	Counts []uint64  // how many values were within the bound of the same index, and above the one before; the last is of those above all
	Sum    float64   // of all values
}

// Count returns how many values there were.
func (h Histogram) Count() (n uint64) {
	for _, count := range h.Counts {
		n += count
	}
	return n
}

// Bounds of the histograms: twice to two and a half times as much from one to the next, from what a server on the same machine
// takes to the time limit of the default configuration, and from an empty session to what no session should be.
var (
	timeBounds = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	sizeBounds = []float64{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20}
)

// Stats returns what the provider has done so far. It asks nothing of Redis, and may be called as often as is wanted.
func (p *Provider) Stats() Stats {
	c := &p.counters
	s := Stats{
		Found: c.found.Load(), Absent: c.absent.Load(),
		Saved: c.saved.Load(), Created: c.created.Load(), Merged: c.merged.Load(),
		Touched: c.touched.Load(), Unchanged: c.unchanged.Load(), Gone: c.gone.Load(),
		Regenerated: c.regenerated.Load(), Destroyed: c.destroyed.Load(),
		Dropped: c.dropped.Load(), Retries: c.retries.Load(),
		BytesRead: c.bytesRead.Load(), BytesWritten: c.bytesWritten.Load(),
		Errors: make(map[Kind]uint64, len(kinds)),
		Load:   c.load.snapshot(timeBounds, float64(time.Second)), Save: c.save.snapshot(timeBounds, float64(time.Second)),
		Size: c.size.snapshot(sizeBounds, 1),
	}
	for i, kind := range kinds {
		s.Errors[kind] = c.errors[i].Load()
	}
	if b := p.backend.Load(); b != nil {
		s.InFlight = b.gate.inside()
		s.Queued = b.commands.queued()
		if on, ok := b.commands.link.(*goRedis); ok {
			if pool, ok := on.UniversalClient.(interface{ PoolStats() *redis.PoolStats }); ok {
				s.Pool = *pool.PoolStats()
			}
		}
	}
	return s
}

// counters is what a provider counts.
type counters struct {
	found, absent                             atomic.Uint64
	saved, created, merged, touched           atomic.Uint64
	unchanged, gone, regenerated, destroyed   atomic.Uint64
	dropped, retries, bytesRead, bytesWritten atomic.Uint64
	errors                                    [len(kinds)]atomic.Uint64
	load, save, size                          histogram
}

// histogram is a Histogram that grows. Its values are whole: nanoseconds, or bytes.
type histogram struct {
	counts [16]atomic.Uint64 // as many as the longest bounds need
	sum    atomic.Int64
}

// add counts a value, whose unit is as many of the bounds' as per says.
func (h *histogram) add(value int64, bounds []float64, per float64) {
	i := 0
	for i < len(bounds) && float64(value) > bounds[i]*per {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(value)
}

// wrote counts a session that was saved.
func (c *counters) wrote(d *draft) {
	c.saved.Add(1)
	if !d.base.present {
		c.created.Add(1)
	}
	c.bytesWritten.Add(uint64(len(d.value)))
	c.size.add(int64(len(d.value)), sizeBounds, 1)
}

func (h *histogram) since(begun time.Time) {
	h.add(int64(time.Since(begun)), timeBounds, float64(time.Second))
}

func (h *histogram) snapshot(bounds []float64, per float64) Histogram {
	out := Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds)+1), Sum: float64(h.sum.Load()) / per}
	for i := range out.Counts {
		out.Counts[i] = h.counts[i].Load()
	}
	return out
}
