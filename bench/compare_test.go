// Package bench compares this session provider with beego's own and with other session stores for Go, side by side in
// one process and on real servers. The full comparison takes about 20 minutes:
//
//	go test -run Compare -compare -valkey "$(../.ci/server valkey-8.1)" -timeout 60m -v .
//
// This file owns what is compared: servers, sizes, goroutines, reading and writing, near and far.
package bench

import (
	"cmp"
	"context"
	"encoding/xml"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/redistest"
	goredisv7 "github.com/go-redis/redis/v7"
)

var (
	compare = flag.Bool("compare", false, "measure, print the figures, and write them to ../docs; without it all is only tried out")
	valkey  = flag.String("valkey", "", "measure on a second server as well, that this command starts, see ../.ci/server")
	only    = flag.String("rows", "", "with -compare: only the rows that match this regular expression, as '^growth: writing|^saving 1 KB'; nothing is written")
	rounds  = flag.Int("rounds", 7, "with -compare: how often every figure is measured")
	cell    = flag.Duration("cell", 150*time.Millisecond, "with -compare: how long for")
)

var goroutines = []int{1, 16, 128}

// delay is what the network of a far server adds to a round trip.
const delay = 500 * time.Microsecond

// row is one kind of request, on which the contenders are compared.
type row struct {
	payload *payload
	change  bool
	workers int // goroutines; 1 if far
	far     bool
}

func (r row) String() string { return r.verb() + " " + r.title() }

func (r row) title() string { return r.payload.name + ", " + r.load() }

// load is how many requests are under way, and from where.
func (r row) load() string {
	switch {
	case r.far:
		return fmt.Sprintf("1 at a time, %v ms away", float64(delay)/float64(time.Millisecond))
	case r.workers == 1:
		return "1 at a time"
	}
	return fmt.Sprintf("%d at once", r.workers)
}

func (r row) verb() string {
	if r.change {
		return "writing"
	}
	return "reading"
}

func rowsOf(p *payload) (rows []row) {
	for _, change := range []bool{false, true} {
		for _, workers := range goroutines {
			rows = append(rows, row{p, change, workers, false})
		}
		rows = append(rows, row{p, change, 1, true})
	}
	return rows
}

// goal is how many times as fast as beego's provider this one is meant to be, on a server that has SET ... IFEQ or not.
func (r row) goal(ifeq bool) float64 {
	switch {
	case r.far && r.change:
		return 1.4
	case r.far:
		return 2.8
	case !r.change && r.workers == 128 && r.payload.name == "struct":
		return 10
	case !r.change:
		return map[int]float64{1: 2.5, 16: 4, 128: 14}[r.workers]
	case r.workers == 16 && ifeq:
		return 3.2
	case r.workers == 128 && ifeq:
		return map[string]float64{"0.2 KB": 8, "1 KB": 7, "5 KB": 6, "struct": 5}[r.payload.name]
	case r.workers == 128:
		return map[string]float64{"0.2 KB": 6, "1 KB": 5, "5 KB": 4, "struct": 5}[r.payload.name]
	}
	return map[int]float64{1: 1.4, 16: 2.8}[r.workers]
}

// result is what was measured of a row.
type result struct {
	row
	names []string          // of the contenders, in their order
	taken map[string]series // by these
}

func (r result) ratio(name string) float64 { return r.taken[name].ratio(r.taken[beego]) }

// server is what the contenders are compared on.
type server struct {
	*redistest.Server
	name, version string // as in "Redis 7.0", and "7.0.15"
	ifeq          bool   // it has SET ... IFEQ
}

// start starts the server of REDIS_SERVER.
func start(t *testing.T) server {
	t.Helper()
	s := server{Server: redistest.Start(t), name: "Redis"}
	info, err := s.Client().Info("server").Result()
	if err != nil {
		t.Fatal(err)
	}
	if s.version = submatch(`valkey_version:(\S+)`, info); s.version != "" {
		s.name = "Valkey"
	} else {
		s.version = submatch(`redis_version:(\S+)`, info)
	}
	s.name += " " + submatch(`^(\d+\.\d+)`, s.version)
	s.ifeq = s.Client().Do("set", "ifeq", "new", "ifeq", "old").Err() == goredisv7.Nil // else a syntax error
	return s
}

// flush removes all that the contenders have stored.
func (s server) flush(t *testing.T) {
	t.Helper()
	if err := s.Client().FlushAll().Err(); err != nil {
		t.Fatal(err)
	}
}

// findings are all that was measured on one server.
type findings struct {
	server  server
	results []result
	growth  []result
	cluster []result
	saves   []saveResult
	beside  besideResult
}

// wanted tells whether a row is to be measured.
func wanted(t *testing.T, row string) bool {
	t.Helper()
	matched, err := regexp.MatchString(*only, row)
	if err != nil {
		t.Fatal(err)
	}
	return matched
}

// Without -compare this shows that every contender saves what it should, in every row, and that the report can be written.
func TestCompare(t *testing.T) {
	sessions := 4096
	if !*compare {
		sessions, *rounds, *cell, *only = 128, 1, 2*time.Millisecond, ""
	}
	servers := []string{os.Getenv("REDIS_SERVER")}
	if *valkey != "" {
		servers = append(servers, *valkey)
	}
	var all []findings
	for i, command := range servers {
		t.Run(fmt.Sprintf("server %d", i+1), func(t *testing.T) {
			t.Setenv("REDIS_SERVER", command)
			all = append(all, find(t, sessions))
		})
	}
	if t.Failed() || len(all) == 0 {
		return
	}
	on := machine(all)
	written := map[string]string{
		"bench.md": report(on+"; "+modules(t), all), "bench.svg": figure(on, all), "growth.svg": growthFigure(all[0]),
	}
	for name, content := range written {
		if !strings.HasSuffix(name, ".svg") {
			continue
		}
		if err := xml.Unmarshal([]byte(content), new(struct{})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if *compare {
		publish(t, written)
	}
}

// find measures all there is to measure on the server of REDIS_SERVER.
func find(t *testing.T, sessions int) findings {
	t.Helper()
	began := time.Now()
	f := findings{server: start(t)}
	field := enter(t, f.server)
	for _, p := range payloads {
		rows := slices.DeleteFunc(rowsOf(p), func(r row) bool { return !wanted(t, r.String()) })
		f.results = append(f.results, field.compare(t, p, sessions, rows)...)
		f.server.flush(t)
	}
	f.growth = compareGrowth(t, f.server, field, sessions)
	f.cluster = compareCluster(t, f.server, sessions)
	f.saves = compareSaves(t, f.server, sessions)
	f.beside = compareBeside(t, f.server, sessions)
	t.Logf("%s: measured in %v", f.server.name, time.Since(began).Round(time.Second))
	return f
}

// entrant is a contender on a server.
type entrant struct {
	contender
	near, far store
	proxy     *redistest.ProxyT // on the way to the far one
	population
}

type entrants []*entrant

func enter(t *testing.T, s server) (field entrants) {
	t.Helper()
	for _, c := range contenders {
		e := &entrant{contender: c, near: c.at(t, s.Addr()), proxy: redistest.Proxy(t, s.Addr())}
		e.proxy.SetDelay(delay / 2)
		e.far = c.at(t, e.proxy.Addr())
		field = append(field, e)
	}
	return field
}

func (c contender) at(t *testing.T, addrs ...string) store {
	t.Helper()
	s, err := c.open(strings.Join(addrs, ";"))
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	return s
}

// compare gives every contender so many sessions of a payload and measures the rows on them.
func (field entrants) compare(t *testing.T, p *payload, sessions int, rows []row) (results []result) {
	t.Helper()
	if len(rows) == 0 {
		return nil
	}
	for _, e := range field {
		var err error
		if e.population, err = populate(e.near, p, sessions); err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
	}
	for _, r := range rows {
		results = append(results, field.measure(t, r))
	}
	return results
}

func (field entrants) measure(t *testing.T, r row) result {
	t.Helper()
	field = slices.Clone(field)
	field = slices.DeleteFunc(field, func(e *entrant) bool { return r.change && e.readingOnly })
	taken, err := interleaved(len(field), *rounds, func(c int) (sample, error) {
		e := field[c]
		store, roundTrips := e.near, func() int { return 0 }
		if r.far {
			store, roundTrips = e.far, e.proxy.RoundTrips
		}
		before := roundTrips()
		s, err := measure(r.workers, *cell, func(ctx context.Context, worker int) func() error {
			return e.worker(ctx, store, r.payload, worker, r.workers, r.change)
		})
		s.roundTrips = float64(roundTrips()-before) / float64(s.operations)
		if err != nil {
			err = fmt.Errorf("%v, %s: %w", r, e.name, err)
		}
		return s, err
	})
	if err != nil {
		t.Fatal(err)
	}
	res := result{row: r, taken: map[string]series{}}
	for c, e := range field {
		res.names = append(res.names, e.name)
		res.taken[e.name] = taken[c]
	}
	return res
}

// population is the sessions of one store, and where the counter of each stands.
type population struct {
	ids    []string
	counts []int
}

func populate(s store, p *payload, n int) (population, error) {
	sessions := population{make([]string, n), make([]int, n)}
	errs := make(chan error)
	const creators = 16
	for i := range creators {
		go func() {
			var err error
			for k := i; k < n && err == nil; k += creators {
				sessions.ids[k], err = s.create(p)
			}
			errs <- err
		}()
	}
	var err error
	for range creators {
		err = cmp.Or(err, <-errs)
	}
	return sessions, err
}

// worker visits sessions that no other worker visits, in random order.
func (sessions population) worker(ctx context.Context, s store, p *payload, i, workers int, change bool) func() error {
	from, to := i*len(sessions.ids)/workers, (i+1)*len(sessions.ids)/workers
	return func() error {
		k := from + rand.IntN(to-from)
		err := s.visit(ctx, sessions.ids[k], p, sessions.counts[k], change)
		if err == nil && change {
			sessions.counts[k]++
		}
		return err
	}
}
