// Package redisprom gives Prometheus what a session provider counts. It is a package of its own, so that a program that does not
// import it does not link Prometheus' client.
//
//	sessions := web.GlobalSessions.GetProvider().(*redis.Provider) // once beego has started
//	prometheus.MustRegister(redisprom.New(sessions))
//
// Several providers in one process are told apart by a label of the application's choice:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"site": "shop"}, prometheus.DefaultRegisterer).MustRegister(redisprom.New(shop))
//	prometheus.WrapRegistererWith(prometheus.Labels{"site": "admin"}, prometheus.DefaultRegisterer).MustRegister(redisprom.New(admin))
//
// All names begin with beego_session_; times are in seconds and sizes in bytes. What each means, and what to alert on, is in
// docs/operations.md of the repository, with a dashboard for Grafana beside it. Serve the metrics beside beego's router and not through
// it, as the example does: beego starts a session for every request that it routes, and so for every scrape, also on its admin pages.
package redisprom

import (
	redis "github.com/beego-session/redis"
	"github.com/prometheus/client_golang/prometheus"
)

// New returns a collector of what [redis.Provider.Stats] returns, for one registry. The provider need not be configured yet: all
// metrics are there from the beginning, with 0. Those of the connection pool stay 0 for a client of the application that does not
// tell them.
func New(p *redis.Provider) prometheus.Collector { return collector{p} }

type collector struct{ provider *redis.Provider }

var (
	reads       = desc("reads_total", "Sessions that were asked for, by whether there was one.", "result")
	releases    = desc("releases_total", "Releases of sessions, by what they did; those that failed are among the errors.", "result")
	created     = desc("created_total", "Releases that saved a session that there had not been.")
	merges      = desc("merges_total", "Times that a save met what another request had saved meanwhile, and was done again on that.")
	regenerated = desc("regenerated_total", "Sessions that got a new id.")
	destroyed   = desc("destroyed_total", "Sessions that were destroyed, also where there was none.")
	dropped     = desc("dropped_entries_total", "Entries that could not be encoded, and whose change was lost.")
	retries     = desc("retries_total", "Round trips that were repeated because the connection failed or the server was not ready.")
	failed      = desc("errors_total", "Operations that failed, or that lost something, by kind.", "kind")

	read    = desc("read_bytes_total", "Bytes of sessions that were read, as they are in Redis.")
	written = desc("written_bytes_total", "Bytes of sessions that were to be saved.")
	size    = desc("size_bytes", "Bytes of a session that was saved.")
	load    = desc("load_duration_seconds", "Time of a look at Redis for a session.")
	save    = desc("save_duration_seconds", "Time of a release that had to save, with waits, merges and repeats, also where it failed.")

	inFlight = desc("operations_in_flight", "Operations under way.")
	queued   = desc("operations_queued", "Calls that wait to share a round trip, of the operations under way.")

	connections = desc("pool_connections", "Open connections to Redis, by state.", "state")
	hits        = desc("pool_hits_total", "Times that the pool had a free connection.")
	misses      = desc("pool_misses_total", "Times that the pool had none.")
	timeouts    = desc("pool_timeouts_total", "Times that none became free in time.")
	stale       = desc("pool_stale_connections_total", "Connections that the pool has removed because they were idle or old.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("beego_session_"+name, help, labels, nil)
}

func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.provider.Stats()
	counter := func(d *prometheus.Desc, n uint64, label ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label...)
	}
	gauge := func(d *prometheus.Desc, n int, label ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), label...)
	}
	histogram := func(d *prometheus.Desc, h redis.Histogram) {
		ch <- prometheus.MustNewConstHistogram(d, h.Count(), h.Sum, cumulative(h))
	}

	counter(reads, s.Found, "found")
	counter(reads, s.Absent, "absent")
	counter(releases, s.Saved, "saved")
	counter(releases, s.Touched, "touched")
	counter(releases, s.Unchanged, "unchanged")
	counter(releases, s.Gone, "gone")
	counter(created, s.Created)
	counter(merges, s.Merged)
	counter(regenerated, s.Regenerated)
	counter(destroyed, s.Destroyed)
	counter(dropped, s.Dropped)
	counter(retries, s.Retries)
	for kind, n := range s.Errors {
		counter(failed, n, string(kind))
	}

	counter(read, s.BytesRead)
	counter(written, s.BytesWritten)
	histogram(size, s.Size)
	histogram(load, s.Load)
	histogram(save, s.Save)

	gauge(inFlight, s.InFlight)
	gauge(queued, s.Queued)

	total, idle := int(s.Pool.TotalConns), int(s.Pool.IdleConns)
	gauge(connections, idle, "idle")
	gauge(connections, max(total-idle, 0), "used") // the pool counts the one after the other
	counter(hits, uint64(s.Pool.Hits))
	counter(misses, uint64(s.Pool.Misses))
	counter(timeouts, uint64(s.Pool.Timeouts))
	counter(stale, uint64(s.Pool.StaleConns))
}

// cumulative returns how many values were within each bound.
func cumulative(h redis.Histogram) map[float64]uint64 {
	buckets := make(map[float64]uint64, len(h.Bounds))
	var n uint64
	for i, bound := range h.Bounds {
		n += h.Counts[i]
		buckets[bound] = n
	}
	return buckets
}
