// What docs/bench.md says has to agree with itself, with its figure and with README.md, whoever has edited it.

package bench

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// table is one of the document.
type table struct {
	section string // the heading above it
	server  string // if it is one server's
	columns []string
	rows    []map[string]string // cells by column
}

func tables(document string) (all []table) {
	section, server := "", ""
	var t *table
	for _, line := range strings.Split(document, "\n") {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section, server = heading, ""
		}
		if name := submatch(`\b((?:Redis|Valkey) \d+\.\d+)(?::|$)`, line); name != "" && !strings.HasPrefix(line, "|") {
			server = name
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			t = nil
		case strings.HasPrefix(line, "|---"):
		case t == nil:
			all = append(all, table{section: section, server: server, columns: cells(line)})
			t = &all[len(all)-1]
		default:
			row := map[string]string{}
			for i, cell := range cells(line) {
				row[t.columns[i]] = cell
			}
			t.rows = append(t.rows, row)
		}
	}
	return all
}

func cells(line string) []string {
	list := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|"), "|")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// figureOf is the figure at the beginning of a cell: requests, or µs.
func figureOf(t *testing.T, cell string) float64 {
	t.Helper()
	f := regexp.MustCompile(`^([\d.]+)(k| ms|)`).FindStringSubmatch(cell)
	if f == nil {
		t.Fatalf("%q is no figure", cell)
	}
	x, err := strconv.ParseFloat(f[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	if f[2] != "" {
		x *= 1000
	}
	return x
}

// ratioOf is the ratio in brackets in a cell.
func ratioOf(cell string) string { return submatch(`\(([\d.]+×)\)`, cell) }

func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRatiosInTheDocumentAreThoseOfTheFiguresBesideThem(t *testing.T) {
	checked := 0
	check := func(what, cell, base string, ratio float64) {
		checked++
		if got, want := ratioOf(cell), times(ratio); got != want {
			t.Errorf("%s: %s beside %s, want %s", what, cell, base, want)
		}
	}
	for _, table := range tables(page(t, docs+"bench.md")) {
		for _, row := range table.rows {
			what := fmt.Sprintf("%s, %s, %s %s", table.section, table.server, row["session"], row["requests"])
			for _, column := range table.columns {
				cell := row[column]
				switch {
				case strings.HasPrefix(table.section, "Requests per second") && column != beego && slices.ContainsFunc(contenders, func(c contender) bool { return c.name == column }):
					check(what, cell, row[beego], figureOf(t, cell)/figureOf(t, row[beego]))
				case table.section == "Cluster" && strings.Contains(column, "master"):
					provider, _, _ := strings.Cut(column, ", ")
					base := row[provider+", "+alone]
					check(what, cell, base, figureOf(t, cell)/figureOf(t, base))
				case slices.Contains(saverNames, column) && column != setex && cell != "":
					check(what, cell, row[setex], figureOf(t, cell)/figureOf(t, row[setex]))
				case ratioOf(cell) != "":
					t.Errorf("%s, %s: nobody knows of what %s is a ratio", what, column, cell)
				}
			}
		}
	}
	if checked < 500 {
		t.Errorf("%d were checked", checked)
	}
}

func TestFiguresInTheDocumentHaveTwoDigits(t *testing.T) {
	figure := regexp.MustCompile(`^[\d.]+(?:k| ms| µs|×|)\b|\([\d.]+×\)|\[[\d.]+\]`)
	exact := []string{"session", "requests", "request", "at once", "±", "allocations", "round trips"}
	for _, table := range tables(page(t, docs+"bench.md")) {
		for _, row := range table.rows {
			for column, cell := range row {
				if slices.Contains(exact, column) {
					continue
				}
				for _, found := range figure.FindAllString(cell, -1) {
					if digits := strings.Trim(strings.ReplaceAll(regexp.MustCompile(`[^\d.]`).ReplaceAllString(found, ""), ".", ""), "0"); len(digits) > 2 {
						t.Errorf("%s, %s, %s: %s", table.section, table.server, column, cell)
					}
				}
			}
		}
	}
}

// What a goal is and whether it is missed stands in the tables; below them stands why.
func TestWhatTheDocumentSaysWasMissedIsWhatItsTablesMissed(t *testing.T) {
	document := page(t, docs+"bench.md")
	var want []string
	for _, table := range tables(document) {
		verb, ok := strings.CutPrefix(table.section, "Requests per second, ")
		if !ok {
			continue
		}
		verb, server, _ := strings.Cut(verb, ", ")
		for _, row := range table.rows {
			what := fmt.Sprintf("- %s, %s %s, %s: ", server, verb, row["session"], row["requests"])
			goal, missed := strings.CutSuffix(row["goal"], ", missed")
			if ratio := ratioOf(row[this]); (figureOf(t, ratio) < figureOf(t, goal)) != missed {
				t.Errorf("%s%s, goal %s", what, ratio, row["goal"])
			} else if missed {
				want = append(want, what+ratio+" beego's, goal "+goal)
			}
			for _, c := range contenders {
				if cell, ok := row[c.name]; ok && c.name != beego && c.name != this && c.name != renewing &&
					(c.name != floor || row["session"] == "0.2 KB" && row["requests"] == "128 at once") {
					if ratio := figureOf(t, row[this]) / figureOf(t, cell); shown(ratio) < tie {
						want = append(want, what+times(ratio)+" "+c.name)
					}
				}
			}
		}
	}
	var got []string
	for _, line := range missedLine.FindAllString(missedSection.FindString(document), -1) {
		got = append(got, strings.TrimSuffix(line, "\n"))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("missed is said to be\n%s\nand is\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPricesInTheDocumentAreThoseOfTheTimesBesideThem(t *testing.T) {
	prices := map[string][]string{} // by server and requests
	for _, table := range tables(page(t, docs+"bench.md")) {
		for _, row := range table.rows {
			if row["price"] == "" {
				continue
			}
			safe := row[setIfEq]
			if safe == "" {
				safe = row[script]
				if row["session"] == "5 KB" {
					safe = row[scriptRenames]
				}
			}
			price := percent((figureOf(t, safe) - figureOf(t, row[setex])) / figureOf(t, row["whole request"]))
			if row["price"] != price {
				t.Errorf("%s, %s, %s: the price is %s, want %s", table.server, row["session"], row["requests"], row["price"], price)
			}
			key := table.server + ", " + row["requests"]
			prices[key] = append(prices[key], strings.TrimSuffix(price, " %"))
		}
	}
	said := regexp.MustCompile(`Saving safely costs (\d+) to (\d+) % of a writing request on Redis 7\.0 when one comes at a time, and (\d+) to (\d+) %\s+with 16 at once;\s+` +
		`on Valkey 8\.1, which has a command for it, with 16 at once (\d+) % at the most`).FindStringSubmatch(page(t, "../README.md"))
	if said == nil {
		t.Fatal("README.md does not say what saving safely costs")
	}
	span := func(requests string) (least, most string) {
		percents := []int{}
		for _, price := range prices[requests] {
			n, _ := strconv.Atoi(price) // none is 0
			percents = append(percents, n)
		}
		if len(percents) == 0 {
			t.Fatalf("no prices of %s", requests)
		}
		return fmt.Sprint(slices.Min(percents)), fmt.Sprint(slices.Max(percents))
	}
	var want [5]string
	want[0], want[1] = span("Redis 7.0, 1 at a time")
	want[2], want[3] = span("Redis 7.0, 16 at once")
	_, want[4] = span("Valkey 8.1, 16 at once")
	if !slices.Equal(said[1:], want[:]) {
		t.Errorf("README.md says that saving safely costs %q, docs/bench.md %q", said[1:], want)
	}
}

func TestTheFigureShowsTheFiguresOfTheDocument(t *testing.T) {
	known := map[string]bool{}
	for _, table := range tables(page(t, docs+"bench.md")) {
		for _, row := range table.rows {
			if strings.HasPrefix(table.section, "Requests per second") && row["session"] == "0.2 KB" {
				for column, cell := range row {
					rate, _, _ := strings.Cut(cell, " ")
					if column == beego {
						known["1.0× "+rate] = true
					}
					known[ratioOf(cell)+" "+rate] = true
				}
			}
		}
	}
	bars := regexp.MustCompile(`>([\d.]+×) <tspan class="faint">([\d.]+k?)/s<`).FindAllStringSubmatch(page(t, docs+"bench.svg"), -1)
	if len(bars) < 20 {
		t.Errorf("the figure has %d bars", len(bars))
	}
	for _, bar := range bars {
		if !known[bar[1]+" "+bar[2]] {
			t.Errorf("the figure shows %s of %s/s, which docs/bench.md does not", bar[1], bar[2])
		}
	}
}
