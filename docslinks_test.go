// The links in README.md and the other pages lead somewhere.

package redis

import (
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/beego-session/redis/internal/markdown"
)

var (
	pointer = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

func TestTheLinksLeadSomewhere(t *testing.T) {
	for _, page := range markdown.Pages(t, ".") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range pointer.FindAllStringSubmatch(string(text), -1) {
			to, err := url.Parse(found[1])
			if err != nil || to.IsAbs() {
				continue
			}
			target := page
			if to.Path != "" {
				target = path.Join(path.Dir(page), to.Path)
			}
			data, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil || to.Fragment != "" && !slices.Contains(anchors(string(data)), to.Fragment) {
				t.Errorf("%s: the link to %s leads nowhere (%v)", page, found[1], err)
			}
		}
	}
}

// anchors returns what GitHub lets a link point to in a page.
func anchors(page string) (anchors []string) {
	for _, title := range heading.FindAllStringSubmatch(page, -1) {
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, title[1])
		anchors = append(anchors, anchor)
	}
	return anchors
}
