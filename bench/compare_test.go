// Package bench compares this session provider with beego's own and with other session stores for Go, side by side in
// one process and on one real redis-server. The full comparison takes about 15 minutes:
//
//	go test -run Compare -compare -timeout 60m -v .
//
// This file owns what is compared: sizes, goroutines, reading and writing, near and far.
package bench

import (
	"encoding/xml"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/redistest"
)

var (
	compare = flag.Bool("compare", false, "measure, print the figures, and write them to ../docs; without it every cell is only tried out")
	only    = flag.String("rows", "", "with -compare: only the rows whose names match this regular expression; nothing is written")
	rounds  = flag.Int("rounds", 11, "with -compare: how often every figure is measured")
	cell    = flag.Duration("cell", 220*time.Millisecond, "with -compare: how long for")
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

// goal is how many times as fast as beego's provider this one is meant to be.
func (r row) goal() float64 {
	switch {
	case r.far && r.change:
		return 1.4
	case r.far:
		return 2.8
	case r.change && r.workers == 128 && r.payload.name == "5 KB":
		return 4
	case r.change:
		return map[int]float64{1: 1.4, 16: 2.5, 128: 5}[r.workers]
	}
	return map[int]float64{1: 2.5, 16: 4, 128: 10}[r.workers]
}

// result is what was measured of a row.
type result struct {
	row
	taken map[string]series // by the contender's name
}

// contenders of the row, in their order.
func (r result) contenders() (field []contender) {
	for _, c := range contenders {
		if _, ok := r.taken[c.name]; ok {
			field = append(field, c)
		}
	}
	return field
}

// missed tells in words which goals were not reached.
func (r result) missed() (goals []string) {
	mine := r.taken[this]
	if ratio := mine.ratio(r.taken[beego]); ratio < r.goal() {
		goals = append(goals, fmt.Sprintf("%v: %.2f× beego's, goal %.1f×", r, ratio, r.goal()))
	}
	for _, c := range r.contenders() {
		if c.name == this || c.name == renewing || c.name == floor && (r.workers < 128 || r.payload.name != "0.2 KB") {
			continue
		}
		if ratio := mine.ratio(r.taken[c.name]); ratio < 1 {
			goals = append(goals, fmt.Sprintf("%v: %.2f× %s", r, ratio, c.name))
		}
	}
	return goals
}

// wanted tells whether a row is to be measured.
func wanted(t *testing.T, r fmt.Stringer) bool {
	t.Helper()
	matched, err := regexp.MatchString(*only, r.String())
	if err != nil {
		t.Fatal(err)
	}
	return matched
}

// Without -compare this shows that every contender saves what it should, in every cell, and that the report can be written.
func TestCompare(t *testing.T) {
	sessions := 4096
	if !*compare {
		sessions, *rounds, *cell, *only = 256, 1, 5*time.Millisecond, ""
	}
	s := redistest.Start(t)
	field := enter(t, s)
	var results []result
	for _, p := range payloads {
		rows := slices.DeleteFunc(rowsOf(p), func(r row) bool { return !wanted(t, r) })
		if len(rows) == 0 {
			continue
		}
		for _, e := range field {
			e.create(t, p, sessions)
		}
		for _, r := range rows {
			results = append(results, field.measure(t, r))
		}
		if err := s.Client().FlushAll().Err(); err != nil {
			t.Fatal(err)
		}
	}
	saves, large := compareSaves(t, s, sessions), compareBeside(t, s, sessions)
	on := machine(t, s)
	text, svg := report(on+"; "+modules(t), results, saves, large), figure(on, results)
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
		t.Errorf("the figure: %v", err)
	}
	if *compare {
		publish(t, text, svg)
	}
}

// entrant is a contender on a server.
type entrant struct {
	contender
	near, far store
	proxy     *redistest.ProxyT // on the way to the far one
	population
}

type entrants []*entrant

func enter(t *testing.T, s *redistest.Server) (field entrants) {
	t.Helper()
	for _, c := range contenders {
		e := &entrant{contender: c, proxy: redistest.Proxy(t, s.Addr())}
		e.proxy.SetDelay(delay / 2)
		var err error
		if e.near, err = c.open(s.Addr()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if e.far, err = c.open(e.proxy.Addr()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		field = append(field, e)
	}
	return field
}

func (e *entrant) create(t *testing.T, p *payload, n int) {
	t.Helper()
	var err error
	if e.population, err = populate(e.near, p, n); err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
}

func (field entrants) measure(t *testing.T, r row) result {
	t.Helper()
	field = slices.Clone(field)
	field = slices.DeleteFunc(field, func(e *entrant) bool { return r.change && e.readingOnly })
	taken, err := interleaved(len(field), *rounds, func(c int) (sample, error) {
		e := field[c]
		store, before := e.near, e.proxy.RoundTrips()
		if r.far {
			store = e.far
		}
		s, err := measure(r.workers, *cell, func(worker int) func() error {
			return e.worker(store, r.payload, worker, r.workers, r.change)
		})
		s.roundTrips = float64(e.proxy.RoundTrips()-before) / float64(s.operations)
		if err != nil {
			err = fmt.Errorf("%v, %s: %w", r, e.name, err)
		}
		return s, err
	})
	if err != nil {
		t.Fatal(err)
	}
	res := result{r, map[string]series{}}
	for c, e := range field {
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
	sessions := population{counts: make([]int, n)}
	for range n {
		id, err := s.create(p)
		if err != nil {
			return population{}, err
		}
		sessions.ids = append(sessions.ids, id)
	}
	return sessions, nil
}

// worker visits sessions that no other worker visits, in random order.
func (sessions population) worker(s store, p *payload, i, workers int, change bool) func() error {
	from, to := i*len(sessions.ids)/workers, (i+1)*len(sessions.ids)/workers
	return func() error {
		k := from + rand.IntN(to-from)
		err := s.visit(sessions.ids[k], p, sessions.counts[k], change)
		if err == nil && change {
			sessions.counts[k]++
		}
		return err
	}
}
