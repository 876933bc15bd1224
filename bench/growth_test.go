// How cost grows: with the requests that are under way at once, and with the size of the session.

package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

var (
	growing = []string{this, beego, "scs"}

	crowds = []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512}
	sizes  = []*payload{
		sized("0.1 KB", 100), sized("0.3 KB", 300), sized("1 KB", 1<<10), sized("3 KB", 3<<10), sized("10 KB", 10<<10),
		sized("30 KB", 30<<10), sized("100 KB", 100<<10), sized("300 KB", 300<<10), sized("1 MB", 1<<20),
	}
)

// sizesAtOnce is how many requests are under way while sessions grow.
const sizesAtOnce = 16

// sized is a session of about so many bytes: the counter, and strings of 1 KB at most.
func sized(name string, bytes int) *payload {
	p := &payload{name: name, fixed: map[string]any{}, key: "visits", counter: number}
	const others = 64 // bytes of the stream and its version
	for left := bytes - others; left > 0; left -= 1 << 10 {
		p.fixed[fmt.Sprintf("part_%04d", len(p.fixed))] = strings.Repeat("x", min(left, 1<<10))
	}
	return p
}

// crowd tells whether the row is one of more and more requests at once, else it is one of larger and larger sessions.
func (r row) crowd() bool { return r.payload == payloads[0] }

func compareGrowth(t *testing.T, s server, field entrants, sessions int) (results []result) {
	t.Helper()
	crowds, sizes := crowds, sizes
	if !*compare { // large ones take long even once
		crowds, sizes = crowds[:2], sizes[:2]
	}
	field = slices.DeleteFunc(slices.Clone(field), func(e *entrant) bool { return !slices.Contains(growing, e.name) })
	of := func(p *payload, crowds ...int) (rows []row) {
		for _, change := range []bool{false, true} {
			for _, workers := range crowds {
				if r := (row{p, change, workers, false}); wanted(t, "growth: "+r.String()) {
					rows = append(rows, r)
				}
			}
		}
		return rows
	}
	results = field.compare(t, payloads[0], max(sessions, slices.Max(crowds)), of(payloads[0], crowds...))
	s.flush(t)
	for _, p := range sizes {
		const memory = 32 << 20 // of the server for each store
		n := max(min(sessions, memory/len(encoded(p, 0))), sizesAtOnce)
		if !*compare {
			n = sizesAtOnce
		}
		results = append(results, field.compare(t, p, n, of(p, sizesAtOnce))...)
		s.flush(t)
	}
	return results
}

// growth is a section with the figure and the tables behind it.
func growth(b *strings.Builder, all []findings) {
	fmt.Fprintf(b, `
## How cost grows

With the requests that are under way at once, each for a session of 0.2 KB; and with the size of the session, %d at once. These
sessions hold a counter and strings of 1 KB at most. From %d requests on there are more of them than connections. The figure is of %s.

![Requests per second and p99 of this provider, beego's and scs: from 1 to 512 requests at once, and from 0.1 KB to 1 MB](growth.svg)
`, sizesAtOnce, crowds[slices.IndexFunc(crowds, func(n int) bool { return n > poolSize })], all[0].server.name)
	for _, f := range all {
		for _, crowd := range []bool{true, false} {
			what := "at once"
			if !crowd {
				what = "session"
			}
			fmt.Fprintf(b, "\nRequests/s and p99, %s:\n\n| %s |", f.server.name, what)
			for _, verb := range []string{"reading", "writing"} {
				for _, name := range growing {
					fmt.Fprintf(b, " %s, %s |", verb, name)
				}
			}
			b.WriteString("\n" + strings.Repeat("|---", 1+2*len(growing)) + "|\n")
			var writing []result
			for _, r := range f.growth {
				if r.crowd() == crowd && r.change {
					writing = append(writing, r)
				}
			}
			for _, w := range writing {
				fmt.Fprintf(b, "| %s |", w.step())
				for _, change := range []bool{false, true} {
					for _, r := range f.growth {
						if r.step() != w.step() || r.crowd() != crowd || r.change != change {
							continue
						}
						for _, name := range growing {
							s := r.taken[name]
							fmt.Fprintf(b, " %s, %s |", thousands(s.rate()), milliseconds(s.p99()))
						}
					}
				}
				b.WriteString("\n")
			}
		}
	}
}

// step is where on its axis the row stands.
func (r row) step() string {
	if r.crowd() {
		return fmt.Sprint(r.workers)
	}
	return r.payload.name
}
