// How things are written on a screen.

package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// shownOfID is how many characters of an id are shown.
const shownOfID = 6

// id is how an id is shown.
func (t *tool) id(id string) string {
	if t.options.ids {
		return plain(id)
	}
	return short(id)
}

// short is the beginning of an id, or of what hash_ids puts in its place.
func short(id string) string {
	shown := shownOfID
	if strings.HasPrefix(id, hashed) {
		shown += len(hashed)
	}
	runes := []rune(id)
	if len(runes) <= shown {
		return "…"
	}
	return plain(string(runes[:shown])) + "…"
}

const hashed = "sha256:"

// plain is a string with nothing in it that moves a cursor: ids and users come from the network.
func plain(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// cut is a string of so many characters at the most.
func cut(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// screen is how many characters a line has that fits on every screen.
const screen = 79

// wrapped breaks a text between words, so that its lines have so many characters at the most. All but the first are indented.
func wrapped(text string, width int, indent string) string {
	var b strings.Builder
	left := width
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case n+1 > left:
			b.WriteString("\n" + indent)
			left = width
		default:
			b.WriteByte(' ')
			left--
		}
		b.WriteString(word)
		left -= n
	}
	return b.String()
}

// span writes how long something is, with two units at most.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// age is how long ago something was, if it is known.
func age(since time.Time) string {
	if since.IsZero() {
		return "-"
	}
	return span(time.Since(since))
}

// left is how much time there is; zero is no end.
func left(until time.Time) string {
	if until.IsZero() {
		return "forever"
	}
	return span(time.Until(until) + time.Second/2)
}

// size writes a number of bytes.
func size(bytes int64) string {
	const units = "KMGTP"
	if bytes < 1<<10 {
		return fmt.Sprintf("%d B", bytes)
	}
	x, i := float64(bytes)/(1<<10), 0
	for x >= 1000 && i < len(units)-1 {
		x, i = x/(1<<10), i+1
	}
	if x < 9.95 {
		return fmt.Sprintf("%.1f %cB", x, units[i])
	}
	return fmt.Sprintf("%.0f %cB", x, units[i])
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is 1 session, or 2 sessions.
func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

// progress is a line that says how far something is, while it takes long and somebody looks.
type progress struct {
	w     io.Writer // nil: nobody looks
	begun time.Time
	last  time.Time
	shown bool
}

func (t *tool) progress() *progress {
	p := &progress{begun: time.Now()}
	if t.progresses {
		p.w = t.stderr
	}
	return p
}

func (p *progress) say(n int64, what string) {
	now := time.Now()
	if p.w == nil || now.Sub(p.begun) < 300*time.Millisecond || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	fmt.Fprintf(p.w, "\r\x1b[K%s …", plural(n, what))
}

func (p *progress) over() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
