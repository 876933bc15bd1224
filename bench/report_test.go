// What was measured, in words and tables.

package bench

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

const docs = "../docs/"

// publish prints the report, and writes it and the figures if every row was measured enough.
func publish(t *testing.T, written map[string]string) {
	t.Helper()
	fmt.Println(written["bench.md"])
	if *only != "" || *valkey == "" || *rounds < 5 || *cell < 100*time.Millisecond {
		fmt.Printf("Not written to %s: that takes all rows, a second server by -valkey, five rounds and 100 ms.\n", docs)
		return
	}
	old, err := os.ReadFile(docs + "bench.md")
	if err != nil {
		t.Fatal(err)
	}
	written["bench.md"] = withElsewhere(written["bench.md"], string(old))
	for name, content := range written {
		if err := os.WriteFile(docs+name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// elsewhere is the section of the document that another command measures.
var elsewhere = regexp.MustCompile(`(?s)\n## What encryption costs\n.*?(\n## |$)`)

// withElsewhere returns a report with that section as it was in the old document.
func withElsewhere(report, old string) string {
	at := elsewhere.FindStringSubmatchIndex(old)
	if at == nil {
		return report
	}
	return strings.Replace(report, "\n## All figures\n", old[at[0]:at[2]]+"\n## All figures\n", 1)
}

func report(on string, all []findings) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmarks

Whole requests: load a session by its id, read one value, for a writing request change it, save. Each store is used through
its own public API; all of them run in turn in one process, against one server on the same machine. Every figure is the
median of %d rounds of %v, to two digits: the rounds differ by about a tenth, and some by a quarter (± in the last table). A ratio is
that of the figures beside it. Made by

`+"```sh\n%s\n```"+`

on %s.
`, *rounds, *cell, command(all), on)
	if len(all[0].results) > 0 {
		summary(&b, false, all)
		summary(&b, true, all)
		fmt.Fprintf(&b, notes, poolSize)
		missed(&b, all)
	}
	if len(all[0].growth) > 0 {
		growth(&b, all)
	}
	if len(all[0].cluster) > 0 {
		clusters(&b, all)
	}
	if len(all[0].saves) > 0 {
		safeSave(&b, all)
	}
	if len(all[0].beside.beside) > 0 {
		beside(&b, all)
	}
	if len(all[0].results) > 0 {
		details(&b, all)
	}
	return b.String()
}

// command is the one that measured, with its flags.
func command(all []findings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cd bench && go test -run Compare -compare -rounds %d -cell %v", *rounds, *cell)
	for _, f := range all[1:] {
		fmt.Fprintf(&b, ` -valkey "$(../.ci/server %s)"`, strings.ToLower(strings.ReplaceAll(f.server.name, " ", "-")))
	}
	if *only != "" {
		fmt.Fprintf(&b, " -rows %q", *only)
	}
	b.WriteString(" -timeout 60m -v .")
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
- Every store may have %d connections, which is beego's default, but for boj, whose pool does not wait for one.
- "bare client" is go-redis v7 alone: a GET, for writing also a SETEX, with no codec and no session.
- Only this provider compares before it writes, so only its requests lose nothing of each other.
- Whatever takes a context is given one that can be cancelled, as net/http gives one to every request; each goroutine has one for
  all its requests, so that making it costs none of the stores anything.
- A request that writes has two round trips, one for reading and one for saving, as scs and rbcervilla have: 0.5 ms away they tie. There
  is no third thing left to save. To read without asking, from what this process saved last, would serve a session that was logged out
  or changed elsewhere, and asking whether it was is that round trip. To save after the response has gone out would let the
  next request of the same browser find the session as it was before, and lose it with the process. What can travel with something
  else does: the life time and the tombstone with the read, SessionRead with SessionExist, a large value with its script.
  Renewing the life time with the read, before it is known whether that is due, would make every read a write; it is one round trip
  once in a hundredth of the life time.
`

// machine names what the figures depend on.
func machine(all []findings) string {
	var servers []string
	for _, f := range all {
		name, _, _ := strings.Cut(f.server.name, " ")
		servers = append(servers, name+" "+f.server.version)
	}
	return fmt.Sprintf("%s, %d cores, %s/%s, %s, %s, %s", processor(), runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH,
		runtime.Version(), strings.Join(servers, " and "), time.Now().Format("January 2006"))
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
		if !strings.HasPrefix(m[1], "beego-session/") && !strings.HasPrefix(m[1], "alicebob/") {
			versions = append(versions, m[1])
		}
	}
	return strings.Join(versions, ", ")
}

func processor() string {
	const unknown = "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		return cmp.Or(submatch(`model name\s*: (.+)`, string(info)), unknown)
	}
	return unknown
}

// submatch is what the first group of a pattern matches, if it does.
func submatch(pattern, s string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// summary is a table of requests per second for each server: a line per row, a column per contender.
func summary(b *strings.Builder, change bool, all []findings) {
	for _, f := range all {
		fmt.Fprintf(b, "\n## Requests per second, %s, %s\n\n| session | requests |", row{change: change}.verb(), f.server.name)
		columns := 3
		for _, c := range contenders {
			if !change || !c.readingOnly {
				fmt.Fprintf(b, " %s |", c.name)
				columns++
			}
		}
		b.WriteString(" goal |\n" + strings.Repeat("|---", columns) + "|\n")
		for _, r := range f.results {
			if r.change != change {
				continue
			}
			fmt.Fprintf(b, "| %s | %s |", r.payload.name, r.load())
			for _, name := range r.names {
				fmt.Fprintf(b, " %s", thousands(r.taken[name].rate()))
				if name != beego {
					fmt.Fprintf(b, " (%s)", times(r.ratio(name)))
				}
				b.WriteString(" |")
			}
			fmt.Fprintf(b, " %s", times(r.goal(f.server.ifeq)))
			if shown(r.ratio(this)) < r.goal(f.server.ifeq) {
				b.WriteString(", missed")
			}
			b.WriteString(" |\n")
		}
	}
}

// safeSave is a table of microseconds per save.
func safeSave(b *strings.Builder, all []findings) {
	fmt.Fprintf(b, `
## The price of the safe save

One save each on the bare client: a plain SETEX; SET … IFEQ with the value that was read, where the server has it; save.lua, which
compares the version; from %d KB on also with the value under a temporary key that it renames; both as the script was before; and
for comparison a script that compares what is stored with the old bytes, as it would be without versions. Times are wall time per
save, over all goroutines or over the %d saves of a pipeline, which is how the provider sends them under load; ratios are to
SETEX, and in brackets are the µs that the server itself spends on one, by INFO commandstats.

Where the server has IFEQ the provider sends that, as long as the old and the new value have at most 16 KB together: beyond that
renaming takes no longer, and half the network. Elsewhere it renames from %d KB on, because the server spends less on it from there on.

The price is what the safe save adds to SETEX, as a part of a whole writing request of this provider, by the command that it sends. At
16 at once it is too high rather than too low, because there the provider sends commands together and the bare client does not; that
of a pipeline is a part of a request at %d at once. It is a difference of two figures that vary, so it is given to the nearest 5 %%, and
"none" where it is less than the rounds differ by.
`, renamedFrom>>10, pipelined, largeValue>>10, saveRow{batch: pipelined}.requests())
	for _, f := range all {
		var names []string // of all savers: a large session has them all
		for _, name := range saverNames {
			if _, ok := f.saves[len(f.saves)-1].taken[name]; ok {
				names = append(names, name)
			}
		}
		fmt.Fprintf(b, "\n%s:\n\n| session | requests | %s | whole request | price |\n%s|\n", f.server.name,
			strings.Join(names, " | "), strings.Repeat("|---", len(names)+4))
		for _, r := range f.saves {
			fmt.Fprintf(b, "| %s | %s |", r.name, r.load())
			for _, name := range names {
				s, ok := r.taken[name]
				if !ok {
					b.WriteString(" |")
					continue
				}
				fmt.Fprintf(b, " %s", duration(s.each()))
				if name != setex {
					fmt.Fprintf(b, " (%s)", times(shown(s.each())/shown(r.taken[setex].each())))
				}
				fmt.Fprintf(b, " [%s] |", rounded(r.server[name], digits))
			}
			if r.request == nil {
				b.WriteString(" | |\n")
				continue
			}
			fmt.Fprintf(b, " %s | %s |\n", duration(r.request.each()), percent(r.price()))
		}
	}
}

// beside is a table of what a large session costs the others.
func beside(b *strings.Builder, all []findings) {
	b.WriteString(`
## Beside a large session

Writing requests of 64 users with sessions of 0.2 KB, all at once, and beside them

| server | | requests/s | p50 | p99 |
|---|---|---|---|---|
`)
	for _, f := range all {
		for i, name := range f.beside.beside {
			s := f.beside.taken[i]
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", f.server.name, name, thousands(s.rate()), milliseconds(s.p50()), milliseconds(s.p99()))
		}
	}
}

// details is a table of all that was measured.
func details(b *strings.Builder, all []findings) {
	b.WriteString(`
## All figures

Half of the rounds were within ± of the median. Allocations are those of the whole process per request; round trips were
counted, and allocations were not, where a proxy in the process makes the server far.
`)
	for _, f := range all {
		fmt.Fprintf(b, `
%s:

| request | store | requests/s | ± | p50 | p99 | allocations | bytes | round trips |
|---|---|---|---|---|---|---|---|---|
`, f.server.name)
		for _, r := range f.results {
			for _, name := range r.names {
				s := r.taken[name]
				allocs, bytes, roundTrips := "", "", ""
				if r.far {
					roundTrips = fmt.Sprintf("%.1f", s.median(func(s sample) float64 { return s.roundTrips }))
				} else {
					allocs = fmt.Sprintf("%.0f", s.median(func(s sample) float64 { return s.allocs }))
					bytes = rounded(s.median(func(s sample) float64 { return s.bytes }), digits)
				}
				fmt.Fprintf(b, "| %v | %s | %s | %.0f %% | %s | %s | %s | %s | %s |\n", r, name, rounded(s.rate(), digits), 100*s.spread(),
					duration(microseconds(s.p50())), duration(microseconds(s.p99())), allocs, bytes, roundTrips)
			}
		}
	}
}
