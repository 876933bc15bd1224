// What was measured, in words and tables.

package bench

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/redistest"
)

const docs = "../docs/"

// publish prints the report, and writes it and the figure if every row was measured enough.
func publish(t *testing.T, text, svg string) {
	t.Helper()
	fmt.Println(text)
	if *only != "" || *rounds < 5 || *cell < 100*time.Millisecond {
		fmt.Printf("Not written to %s: that takes all rows, five rounds and 100 ms.\n", docs)
		return
	}
	if err := os.MkdirAll(docs, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"bench.md": text, "bench.svg": svg} {
		if err := os.WriteFile(docs+name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func report(on string, results []result, saves []saveResult, large besideResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmarks

Whole requests: load a session by its id, read one value, for a writing request change it, save. Each store is used through
its own public API; all of them run in turn in one process, against one redis-server on the same machine. Every figure is the
median of %d rounds of %v. A ratio is to beego's own provider in the same round, and again the median. Made by
`+"`cd bench && go test -run Compare -compare -timeout 60m -v .`"+` on

%s.
`, *rounds, *cell, on)
	if len(results) > 0 {
		summary(&b, false, results)
		summary(&b, true, results)
		b.WriteString(notes)
		goals(&b, results)
	}
	if len(saves) > 0 {
		safeSave(&b, saves)
	}
	if len(large.beside) > 0 {
		beside(&b, large)
	}
	if len(results) > 0 {
		details(&b, results)
	}
	return b.String()
}

const notes = `
Sessions of 0.2 KB hold 5 values, those of 1 KB 17, those of 5 KB 70. A struct is a registered one, beside 4 values, and is the
value that is read and changed. The goal is what this provider is meant to reach.

- A session that is read must not expire while it is in use. beego's provider and boj, rbcervilla and scs (with an idle timeout)
  save it for that in every request. This provider renews its life time, once a hundredth of it has passed: "this, renewing" does
  that in every request, with touch_interval 0s. "scs, fixed expiry" writes nothing for a request that reads, and its sessions
  expire however much they are used.
- rbcervilla and boj are behind gorilla/sessions, which also reads and sets the cookie. boj sends a PING before every command.
- "bare client" is go-redis v7 alone: a GET, for writing also a SETEX, with no codec and no session.
- Only this provider compares before it writes, so only its requests lose nothing of each other.
`

// machine names what the figures depend on.
func machine(t *testing.T, s *redistest.Server) string {
	t.Helper()
	info, err := s.Client().Info("server").Result()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s, %d cores, %s/%s, %s, Redis %s, %s", processor(), runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH,
		runtime.Version(), submatch(`redis_version:(\S+)`, info), time.Now().Format("January 2006"))
}

// modules names what is compared.
func modules(t *testing.T) string {
	t.Helper()
	var versions []string
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	direct, _, _ := strings.Cut(string(mod), "// indirect")
	for _, m := range regexp.MustCompile(`(?m)^\tgithub\.com/(\S+ v\S+)$`).FindAllStringSubmatch(direct, -1) {
		if !strings.HasPrefix(m[1], "beego-session/") {
			versions = append(versions, m[1])
		}
	}
	return strings.Join(versions, ", ")
}

func processor() string {
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		return submatch(`model name\s*: (.+)`, string(info))
	}
	return "unknown processor"
}

func submatch(pattern, s string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return "unknown"
}

// summary is a table of requests per second: a line per row, a column per contender.
func summary(b *strings.Builder, change bool, results []result) {
	verb := row{change: change}.verb()
	fmt.Fprintf(b, "\n## Requests per second, %s\n\n| session | requests |", verb)
	columns := 3
	for _, c := range contenders {
		if !change || !c.readingOnly {
			fmt.Fprintf(b, " %s |", c.name)
			columns++
		}
	}
	b.WriteString(" goal |\n" + strings.Repeat("|---", columns) + "|\n")
	for _, r := range results {
		if r.change != change {
			continue
		}
		fmt.Fprintf(b, "| %s | %s |", r.payload.name, r.load())
		for _, c := range r.contenders() {
			s := r.taken[c.name]
			fmt.Fprintf(b, " %s", thousands(s.rate()))
			if c.name != beego {
				fmt.Fprintf(b, " (%.2f×)", s.ratio(r.taken[beego]))
			}
			b.WriteString(" |")
		}
		fmt.Fprintf(b, " %.1f× |\n", r.goal())
	}
}

func goals(b *strings.Builder, results []result) {
	var missed []string
	for _, r := range results {
		missed = append(missed, r.missed()...)
	}
	if len(missed) == 0 {
		b.WriteString("\nEvery goal was reached, and this provider was ahead of every other store in every row; of the bare client too, at 0.2 KB and\n128 at once.\n")
		return
	}
	b.WriteString("\nMissed: a goal, or being ahead of another store, or of the bare client at 0.2 KB and 128 at once:\n\n")
	for _, m := range missed {
		fmt.Fprintf(b, "- %s\n", m)
	}
}

// safeSave is a table of microseconds per save.
func safeSave(b *strings.Builder, saves []saveResult) {
	b.WriteString(`
## The price of the safe save

One save each on the bare client: a plain SETEX; save.lua, which compares the version; the same with the value under a temporary
key that it renames; and for comparison a script that compares what is stored with the old bytes, as it would be without versions.
Times are per save over all goroutines, ratios to SETEX; in brackets are the µs that the server spends on one, by INFO
commandstats. The provider renames from 16 KB on. The price is what save.lua adds to SETEX, as a part of a whole writing request of this
provider; at 16 at once that is too high rather than too low, because there the provider sends commands together and the bare
client does not.

`)
	fmt.Fprintf(b, "| session | requests | %s | whole request | price |\n|---|---|---|---|---|---|---|---|\n", strings.Join(saves[0].savers, " | "))
	each := func(s series) string { return fmt.Sprintf("%.1f µs", 1e6/s.rate()) }
	for _, r := range saves {
		fmt.Fprintf(b, "| %s | %s ", r.name, r.load())
		for i, s := range r.taken {
			if i == 0 {
				fmt.Fprintf(b, "| %s [%.1f] ", each(s), r.server[i])
				continue
			}
			fmt.Fprintf(b, "| %s (%.2f×) [%.1f] ", each(s), 1/s.ratio(r.taken[0]), r.server[i])
		}
		if r.request == nil {
			b.WriteString("| | |\n")
			continue
		}
		fmt.Fprintf(b, "| %s | %.0f %% |\n", each(r.request), 100*r.price())
	}
}

// beside is a table of what a large session costs the others.
func beside(b *strings.Builder, r besideResult) {
	b.WriteString(`
## Beside a large session

Writing requests of 64 users with sessions of 0.2 KB, all at once, and beside them

| | requests/s | p50 | p99 |
|---|---|---|---|
`)
	for i, name := range r.beside {
		ms := func(figure func(sample) time.Duration) float64 {
			return r.taken[i].median(func(s sample) float64 { return microseconds(figure(s)) / 1000 })
		}
		fmt.Fprintf(b, "| %s | %s | %.1f ms | %.1f ms |\n", name, thousands(r.taken[i].rate()),
			ms(func(s sample) time.Duration { return s.p50 }), ms(func(s sample) time.Duration { return s.p99 }))
	}
}

// details is a table of all that was measured.
func details(b *strings.Builder, results []result) {
	b.WriteString(`
## All figures

Half of the rounds were within ± of the median. Allocations are those of the whole process per request; round trips were
counted, and allocations were not, where a proxy in the process makes the server far.

| request | store | requests/s | ± | p50 µs | p99 µs | allocations | bytes | round trips |
|---|---|---|---|---|---|---|---|---|
`)
	for _, r := range results {
		for _, c := range r.contenders() {
			s := r.taken[c.name]
			median := func(format string, shown bool, figure func(sample) float64) string {
				if !shown {
					return ""
				}
				return fmt.Sprintf(format, s.median(figure))
			}
			fmt.Fprintf(b, "| %v | %s | %.0f | %.0f %% | %s | %s | %s | %s | %s |\n", r, c.name, s.rate(), 100*s.spread(),
				median("%.0f", true, func(s sample) float64 { return microseconds(s.p50) }),
				median("%.0f", true, func(s sample) float64 { return microseconds(s.p99) }),
				median("%.0f", !r.far, func(s sample) float64 { return s.allocs }),
				median("%.0f", !r.far, func(s sample) float64 { return s.bytes }),
				median("%.1f", r.far, func(s sample) float64 { return s.roundTrips }))
		}
	}
}
