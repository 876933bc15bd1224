// The goals that were missed, and what holds them.

package bench

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// reasons are what holds a row that misses a goal. They are written by hand after a comparison has shown which do, as is
// its goal; `go test -run Reasons -reasons .` then puts them into docs/bench.md.
var reasons = []reason{
	{`0\.5 ms away`, "As many round trips as the others have, counted (see All figures): what is between them is the machine, whose rounds " +
		"differ by as much."},
	{`reading .*, 128 at once`, "Both cores are busy: a request of 0.2 KB takes 10 to 14 µs of the client's processor time and 3 to 5 of the " +
		"server's, so that some 110k a second are all there is. Of the client's, a fifth is system calls, a fifth the heap, a tenth decoding. " +
		"Larger sessions are received, copied and decoded."},
	{`Redis 7\.0, writing .* at once`, "The script: a writing request of 0.2 KB takes 15 to 18 µs of the server's processor time, of which reading is 4, " +
		"and 27 to 33 of the client's; that is some 40k a second on two cores. An EVALSHA that does nothing takes the server 2 µs, and each " +
		"redis.call 1.5. One script for all saves of a pipeline took it 4.2 µs a save instead of 5.2, and saved no time on the whole that could be told " +
		"from noise: one save's trouble would be another's for that."},
	{`Valkey 8\.1, writing .* at once`, "No longer the server, of whose processor time a request of 0.2 KB takes 8 to 10 µs, but the client with 23 to 28, on the " +
		"same two cores: that is some 55k a second. Of the client's, a fifth is system calls and a fifth the heap; the rest is spread " +
		"over go-redis, the codec and the scheduler. From 5 KB on it is the bytes, as the old value is sent as well."},
	{`1 at a time`, "The rounds of this row differ by more than that (see ±)."},
}

type reason struct {
	missed string // a regular expression for its line in the document, as in "Redis 7.0, writing .*, 16 at once: .* beego's"
	why    string
}

var writeReasons = flag.Bool("reasons", false, "put the reasons for missed goals into ../docs/bench.md")

// missed tells in words which goals were not reached in a row.
func (s server) missed(r result) (goals []string) {
	row := fmt.Sprintf("- %s, %v: ", s.name, r)
	exact := func(ratio float64) string { return rounded(ratio, 3) + "×" }
	if ratio := r.ratio(this); ratio < r.goal(s.ifeq) {
		goals = append(goals, fmt.Sprintf("%s%s beego's, goal %s", row, exact(ratio), times(r.goal(s.ifeq))))
	}
	for _, name := range r.names {
		if name == beego || name == this || name == renewing || name == floor && (r.workers < 128 || r.payload.name != "0.2 KB") {
			continue
		}
		if ratio := r.taken[this].ratio(r.taken[name]); ratio < 1 {
			goals = append(goals, fmt.Sprintf("%s%s %s", row, exact(ratio), name))
		}
	}
	return goals
}

func missed(b *strings.Builder, all []findings) {
	var goals []string
	for _, f := range all {
		for _, r := range f.results {
			goals = append(goals, f.server.missed(r)...)
		}
	}
	if len(goals) == 0 {
		b.WriteString("\nEvery goal was reached, and this provider was ahead of every other store in every row; of the bare client too, at 0.2 KB and\n128 at once.\n")
		return
	}
	b.WriteString("\nMissed: a goal, or being ahead of another store, or of the bare client at 0.2 KB and 128 at once:\n\n")
	b.WriteString(explained(strings.Join(goals, "\n")+"\n", reasons))
}

// missedLine is one that missed wrote, with what stands below it.
var missedLine = regexp.MustCompile(`(?m)^(- .+, (?:reading|writing) .+: \S+× .+)\n(?:  .*\n)*`)

// explained returns the document with these reasons, and no others, below the goals that were missed.
func explained(document string, reasons []reason) string {
	return missedLine.ReplaceAllStringFunc(document, func(found string) string {
		line := missedLine.FindStringSubmatch(found)[1]
		for _, r := range reasons {
			if regexp.MustCompile(r.missed).MatchString(line) {
				return line + "\n" + indented(r.why)
			}
		}
		return line + "\n"
	})
}

func indented(text string) string {
	var b strings.Builder
	for _, line := range wrapped(text, 120) {
		b.WriteString("  " + line + "\n")
	}
	return b.String()
}

// wrapped breaks a text into lines of so many bytes.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func TestReasonsStandBelowTheGoalsThatTheyAreFor(t *testing.T) {
	const before = `
- A note, reading or writing: no goal.
  It goes on.

- Redis 7.0, reading 1 KB, 128 at once: 9.93× beego's, goal 14×
  An old reason
  of two lines.
- Redis 7.0, writing 1 KB, 16 at once: 2.37× beego's, goal 2.8×
- Redis 7.0, writing 1 KB, 1 at a time: 0.971× scs
  Another.

The end.
`
	const after = `
- A note, reading or writing: no goal.
  It goes on.

- Redis 7.0, reading 1 KB, 128 at once: 9.93× beego's, goal 14×
- Redis 7.0, writing 1 KB, 16 at once: 2.37× beego's, goal 2.8×
  It is so.
- Redis 7.0, writing 1 KB, 1 at a time: 0.971× scs
  It is so.

The end.
`
	now := []reason{{"writing 1 KB", "It is so."}, {"16 at once", "The first one counts."}}
	if got := explained(before, now); got != after {
		t.Errorf("got %s\nwant %s", got, after)
	}
}

func TestReasonsForMissedGoalsAreThoseOfTheDocument(t *testing.T) {
	document, err := os.ReadFile(docs + "bench.md")
	if err != nil {
		t.Fatal(err)
	}
	now := explained(string(document), reasons)
	switch {
	case now == string(document):
	case *writeReasons:
		if err := os.WriteFile(docs+"bench.md", []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("docs/bench.md has other reasons than missed_test.go: go test -run Reasons -reasons .")
	}
}
