// The goals that were missed, and what holds them.

package bench

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
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
	{`1 at a time`, "The rounds of these rows differ by more than that (see ± in the last table)."},
}

type reason struct {
	missed string // a regular expression for its line in the document, as in "Redis 7.0, writing .*, 16 at once: .* beego's"
	why    string
}

var writeReasons = flag.Bool("reasons", false, "put the reasons for missed goals into ../docs/bench.md")

// tie is how far behind another store this provider is not told from it: the rounds of most rows differ by more.
const tie = 0.9

// missed tells in words which goals were not reached in a row.
func (s server) missed(r result) (goals []string) {
	row := fmt.Sprintf("- %s, %v: ", s.name, r)
	if ratio := r.ratio(this); shown(ratio) < r.goal(s.ifeq) {
		goals = append(goals, fmt.Sprintf("%s%s beego's, goal %s", row, times(ratio), times(r.goal(s.ifeq))))
	}
	for _, name := range r.names {
		if name == beego || name == this || name == renewing || name == floor && (r.workers < 128 || r.payload.name != "0.2 KB") {
			continue
		}
		if ratio := r.taken[this].ratio(r.taken[name]); shown(ratio) < tie {
			goals = append(goals, fmt.Sprintf("%s%s %s", row, times(ratio), name))
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
	b.WriteString("\n## What was missed\n\n")
	if len(goals) == 0 {
		b.WriteString("Every goal was reached, and no other store was ahead in any row; nor was the bare client, at 0.2 KB and 128 at once.\n")
		return
	}
	b.WriteString(explained(strings.Join(goals, "\n")+"\n", reasons))
}

const missedHead = `A goal, or not to be behind another store, or the bare client at 0.2 KB and 128 at once. What is less than a tenth behind is a tie: the
rounds differ by more.
`

var (
	missedSection = regexp.MustCompile(`(?s)\n## What was missed\n\n(.*?)(\n## |$)`)
	missedLine    = regexp.MustCompile(`(?m)^- .+, (?:reading|writing) .+: \S+× .+\n`)
)

// explained returns what was missed below the reasons for it, of which a row has the first that matches. Those without come first.
func explained(goals string, reasons []reason) string {
	lines := missedLine.FindAllString(goals, -1)
	below := make([]string, 1+len(reasons))
	for _, line := range lines {
		of := slices.IndexFunc(reasons, func(r reason) bool { return regexp.MustCompile(r.missed).MatchString(line) })
		below[1+of] += line
	}
	var b strings.Builder
	b.WriteString(missedHead)
	for i, lines := range below {
		if lines == "" {
			continue
		}
		b.WriteString("\n")
		if i > 0 {
			b.WriteString(strings.Join(wrapped(reasons[i-1].why, 120), "\n") + "\n\n")
		}
		b.WriteString(lines)
	}
	return b.String()
}

// withReasons returns the document with these reasons, and no others, for what was missed.
func withReasons(document string, reasons []reason) string {
	at := missedSection.FindStringSubmatchIndex(document)
	if at == nil || !missedLine.MatchString(document[at[2]:at[3]]) {
		return document
	}
	return document[:at[2]] + explained(document[at[2]:at[3]], reasons) + document[at[3]:]
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

func TestWhatWasMissedStandsBelowItsReason(t *testing.T) {
	const before = `
- A note, reading or writing: no goal.

## What was missed

An old reason
of two lines.

- Redis 7.0, reading 1 KB, 128 at once: 9.9× beego's, goal 14×
- Redis 7.0, writing 1 KB, 16 at once: 2.4× beego's, goal 2.8×
- Redis 7.0, writing 1 KB, 1 at a time: 0.87× scs

## The end
`
	const after = `
- A note, reading or writing: no goal.

## What was missed

` + missedHead + `
- Redis 7.0, reading 1 KB, 128 at once: 9.9× beego's, goal 14×

It is so.

- Redis 7.0, writing 1 KB, 16 at once: 2.4× beego's, goal 2.8×
- Redis 7.0, writing 1 KB, 1 at a time: 0.87× scs

## The end
`
	now := []reason{{"writing 1 KB", "It is so."}, {"16 at once", "The first one counts."}}
	if got := withReasons(before, now); got != after {
		t.Errorf("got %s\nwant %s", got, after)
	}
}

func TestReasonsForMissedGoalsAreThoseOfTheDocument(t *testing.T) {
	document, err := os.ReadFile(docs + "bench.md")
	if err != nil {
		t.Fatal(err)
	}
	now := withReasons(string(document), reasons)
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
