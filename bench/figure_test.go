// The figure that README shows: bars of how many times as fast as beego's provider each store is.

package bench

import (
	"fmt"
	"strings"
)

const figureHead = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="Requests per second of session stores, reading and writing">
<style>
.paper{fill:#fff;stroke:#d0d7de}.other{fill:#afb8c1}.beego{fill:#6e7781}.this{fill:#0969da}.renewing{fill:#80b3ee}.bare{fill:none;stroke:#6e7781;stroke-dasharray:3 2}
text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}.group{font-weight:600}.faint{fill:#59636e}
@media (prefers-color-scheme:dark){
.paper{fill:#0d1117;stroke:#3d444d}.other{fill:#57606a}.beego{fill:#8b949e}.this{fill:#4493f8}.renewing{fill:#27528a}.bare{stroke:#8b949e}
text{fill:#f0f6fc}.faint{fill:#9198a1}}
</style>
<rect class="paper" x=".5" y=".5" width="%[3]d" height="%[4]d" rx="8"/>
`

// figure draws what stands for the rest: the small session under every load, and the large one under the highest.
func figure(on string, results []result) string {
	const (
		width, panel, margin = 1000, 490, 20
		names, labels        = 116, 104 // widths left and right of the bars
		line, bar            = 17, 12
		top, gap             = 46, 30 // above the groups, and above each
	)
	var shown []result
	most := 1.0
	for _, r := range results {
		if r.payload.name == "0.2 KB" || r.payload.name == "5 KB" && r.workers == 128 {
			shown = append(shown, r)
			for _, s := range r.taken {
				most = max(most, s.ratio(r.taken[beego]))
			}
		}
	}
	var bars strings.Builder
	bottom := 0
	for i, change := range []bool{false, true} {
		x, y := margin+i*panel, top
		fmt.Fprintf(&bars, `<text class="title" x="%d" y="28">Requests that %s their session</text>`+"\n", x, []string{"read", "write"}[i])
		for _, r := range shown {
			if r.change != change {
				continue
			}
			y += gap
			fmt.Fprintf(&bars, `<text class="group" x="%d" y="%d">%s</text>`+"\n", x, y-8, r.title())
			for k, c := range r.contenders() {
				s := r.taken[c.name]
				ratio, y := s.ratio(r.taken[beego]), y+k*line
				length := ratio / most * (panel - margin - names - labels)
				fmt.Fprintf(&bars, `<text x="%d" y="%d">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`,
					x, y+bar-2, c.name, c.class(), x+names, y, length, bar)
				fmt.Fprintf(&bars, `<text x="%.1f" y="%d">%.1f× <tspan class="faint">%s/s</tspan></text>`+"\n",
					float64(x+names)+length+6, y+bar-2, ratio, thousands(s.rate()))
			}
			y += len(contenders) * line // so that the two panels stand side by side
		}
		bottom = max(bottom, y)
	}
	for _, note := range []string{
		"Requests per second, and how many times those of beego's own provider. " + on + ".",
		"Renewing: this provider with touch_interval 0s. Fixed expiry: scs without idle timeout, where reading does not keep a session alive.",
	} {
		bottom += line
		fmt.Fprintf(&bars, `<text class="faint" x="%d" y="%d">%s</text>`+"\n", margin, bottom, note)
	}
	height := bottom + margin
	return fmt.Sprintf(figureHead, width, height, width-1, height-1) + bars.String() + "</svg>\n"
}

// class of a contender's bars in the style sheet.
func (c contender) class() string {
	switch c.name {
	case beego:
		return "beego"
	case this:
		return "this"
	case renewing:
		return "renewing"
	case floor:
		return "bare"
	}
	return "other"
}
