// The figure that README shows: bars of how many times as fast as beego's provider each session store is. It is as narrow as the
// column of a page on a phone, so that its text is as large there as what stands around it.

package bench

import (
	"fmt"
	"slices"
	"strings"
)

// drawing is an SVG of one width that grows downwards.
type drawing struct {
	strings.Builder
	y int // to where it is filled
}

const (
	drawingWidth = 360
	margin       = 12
)

const drawingHead = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="%[3]s">
<style>
text{font:15px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1f2328}.title{font-size:18px;font-weight:600}.group{font-weight:600}.faint{fill:#59636e}.small{font-size:14px}
.end{text-anchor:end}.middle{text-anchor:middle}path{fill:none;stroke-width:2;stroke-linejoin:round}.dashed{stroke-dasharray:5 4}
.paper{fill:#fff;stroke:#d0d7de}.grid{stroke:#d0d7de;stroke-width:1}
rect.other{fill:#afb8c1}rect.beego{fill:#6e7781}rect.this{fill:#0969da}
path.other{stroke:#bc4c00}path.beego{stroke:#6e7781}path.this{stroke:#0969da}circle.other{fill:#bc4c00}circle.beego{fill:#6e7781}circle.this{fill:#0969da}
@media (prefers-color-scheme:dark){
text{fill:#f0f6fc}.faint{fill:#9198a1}.paper{fill:#0d1117;stroke:#3d444d}.grid{stroke:#3d444d}
rect.other{fill:#57606a}rect.beego{fill:#8b949e}rect.this{fill:#4493f8}
path.other{stroke:#f0883e}path.beego{stroke:#9198a1}path.this{stroke:#4493f8}circle.other{fill:#f0883e}circle.beego{fill:#9198a1}circle.this{fill:#4493f8}}
</style>
<rect class="paper" x=".5" y=".5" width="%[4]d" height="%[5]d" rx="8"/>
`

func (d *drawing) text(class string, x float64, y int, text string) {
	fmt.Fprintf(d, `<text class="%s" x="%.1f" y="%d">%s</text>`+"\n", class, x, y, text)
}

// notes writes sentences below all else, a paragraph each.
func (d *drawing) notes(paragraphs ...string) {
	for _, p := range paragraphs {
		d.y += 8
		for _, line := range wrapped(p, 44) {
			d.y += 18
			d.text("faint small", margin, d.y, line)
		}
	}
}

func (d *drawing) svg(label string) string {
	height := d.y + margin
	return fmt.Sprintf(drawingHead, drawingWidth, height, label, drawingWidth-1, height-1) + d.String() + "</svg>\n"
}

// bar is a contender's in a group.
type bar struct {
	name, class string
	ratio, rate float64
}

// barsOf a result are those of the session stores, and of this provider on the other servers where they make a difference.
func barsOf(r result, others []findings) (bars []bar) {
	for _, name := range r.names {
		if !slices.Contains(drawn, name) {
			continue
		}
		bars = append(bars, bar{name, class(name), r.ratio(name), r.taken[name].rate()})
		for _, f := range others {
			for _, other := range f.results {
				if name == this && r.change && other.row == r.row {
					bars = append(bars, bar{"on " + f.server.name, "this", other.ratio(this), other.taken[this].rate()})
				}
			}
		}
	}
	return bars
}

// drawn are the contenders whose sessions live on while they are used, each once.
var drawn = []string{beego, this, "scs", "rbcervilla", "boj"}

// figure draws what stands for the rest: the small session, one request at a time and the most at once.
func figure(on string, all []findings) string {
	const (
		names, labels = 112, 100 // widths left and right of the bars
		line, height  = 21, 15
	)
	groups := map[bool][]result{}
	most := 1.0
	for _, r := range all[0].results {
		if r.payload != payloads[0] || r.far || r.workers != 1 && r.workers != slices.Max(goroutines) {
			continue
		}
		groups[r.change] = append(groups[r.change], r)
		for _, bar := range barsOf(r, all[1:]) {
			most = max(most, bar.ratio)
		}
	}
	d := &drawing{y: 8}
	for _, change := range []bool{false, true} {
		d.y += 24
		d.text("title", margin, d.y, map[bool]string{false: "Requests that read", true: "Requests that change something"}[change])
		for _, r := range groups[change] {
			d.y += 24
			d.text("group", margin, d.y, r.load())
			d.y += 7
			for _, b := range barsOf(r, all[1:]) {
				length := b.ratio / most * (drawingWidth - 2*margin - names - labels)
				d.text("", margin, d.y+height-2, b.name)
				fmt.Fprintf(d, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, b.class, margin+names, d.y, length, height)
				d.text("", margin+names+length+6, d.y+height-2,
					fmt.Sprintf(`%s <tspan class="faint">%s/s</tspan>`, times(b.ratio), thousands(b.rate)))
				d.y += line
			}
		}
		d.y += 10
	}
	servers := "Requests per second, and how many times those of beego's provider. Sessions of 0.2 KB on " + all[0].server.name
	for _, f := range all[1:] {
		servers += "; “on " + f.server.name + "”: this provider there, and beego's there is 1"
	}
	d.notes(servers+".", on+".")
	return d.svg("Requests per second of session stores, reading and writing")
}

// class of a contender in the style sheet.
func class(name string) string {
	switch name {
	case beego:
		return "beego"
	case this:
		return "this"
	}
	return "other"
}
