// The figure of how cost grows: requests per second and p99 on logarithmic axes.

package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// growthFigure draws four charts: of more and more requests at once, and of larger and larger sessions.
func growthFigure(f findings) string {
	rate := func(s series) float64 { return s.rate() }
	p99 := func(s series) float64 { return s.p99().Seconds() }
	round := strings.NewReplacer(".0", "", ".30", ".3", ".10", ".1") // as the figures at the axes are
	perSecond := func(y float64) string { return round.Replace(thousands(y)) }
	seconds := func(y float64) string { return round.Replace(milliseconds(time.Duration(math.Round(y * 1e9)))) }
	d := &drawing{y: 8}
	d.y += 20
	x := float64(margin)
	for _, name := range growing {
		fmt.Fprintf(d, `<path class="%s" d="M%.0f %d h22"/>`, class(name), x, d.y-5)
		d.text("", x+28, d.y, name)
		x += 44 + 7.5*float64(len(name))
	}
	d.y += 20
	fmt.Fprintf(d, `<path class="this" d="M%d %d h22"/>`, margin, d.y-5)
	d.text("faint", margin+28, d.y, "writing")
	fmt.Fprintf(d, `<path class="this dashed" d="M%d %d h22"/>`, margin+101, d.y-5)
	d.text("faint", margin+129, d.y, "reading")
	for _, crowd := range []bool{true, false} {
		of := fmt.Sprintf("%d at once, by KB", sizesAtOnce)
		if crowd {
			of = "by requests at once"
		}
		var shown []result
		for _, r := range f.growth {
			if r.crowd() == crowd {
				shown = append(shown, r)
			}
		}
		d.chart("Requests/s, "+of, shown, rate, perSecond)
		d.chart("p99, "+of, shown, p99, seconds)
	}
	d.y += 4
	d.notes("Both axes are logarithmic. " + machine([]findings{f}) + ".")
	return d.svg("How requests per second and p99 change with the number of requests at once and the size of the session")
}

// chart draws a figure of results: a curve for each contender and verb, over the steps.
func (d *drawing) chart(title string, results []result, figure func(series) float64, label func(float64) string) {
	d.y += 30
	d.text("group", margin, d.y, title)
	d.y += 12
	const left, right, height = 62, drawingWidth - margin - 12, 180
	if len(results) == 0 {
		return
	}
	var steps []string
	least, most := math.Inf(1), 0.0
	for _, r := range results {
		if !slices.Contains(steps, r.step()) {
			steps = append(steps, r.step())
		}
		for _, s := range r.taken {
			least, most = min(least, figure(s)), max(most, figure(s))
		}
	}
	x := func(step int) float64 { return left + float64(step)*float64(right-left)/float64(max(len(steps)-1, 1)) }
	low, high := math.Log10(least)-.05, math.Log10(most)+.05
	y := func(value float64) float64 { return float64(d.y) + height*(high-math.Log10(value))/(high-low) }
	for exponent := math.Floor(low); exponent <= high; exponent++ {
		for _, digit := range []float64{1, 3} {
			value := digit * math.Pow(10, exponent)
			if math.Log10(value) < low || math.Log10(value) > high {
				continue
			}
			fmt.Fprintf(d, `<path class="grid" d="M%d %.1f H%d"/>`, left, y(value), right)
			d.text("faint small end", left-6, int(y(value))+4, label(value))
		}
	}
	for i, step := range steps {
		fmt.Fprintf(d, `<path class="grid" d="M%.1f %d v%d"/>`, x(i), d.y, height)
		if i%2 == 0 || len(steps) < 6 { // as many as there is room for
			d.text("faint small middle", x(i), d.y+height+16, strings.TrimSuffix(step, " KB"))
		}
	}
	for _, name := range growing {
		for _, change := range []bool{false, true} {
			var points []string
			for _, r := range results {
				if r.change == change {
					px, py := x(slices.Index(steps, r.step())), y(figure(r.taken[name]))
					points = append(points, fmt.Sprintf("%.1f %.1f", px, py))
					fmt.Fprintf(d, `<circle class="%s" cx="%.1f" cy="%.1f" r="2.5"/>`, class(name), px, py)
				}
			}
			style := class(name)
			if !change {
				style += " dashed"
			}
			fmt.Fprintf(d, `<path class="%s" d="M%s"/>`+"\n", style, strings.Join(points, " L"))
		}
	}
	d.y += height + 20
}
