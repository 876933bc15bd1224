package redis

import (
	"time"

	"github.com/beego-session/redis/internal/record"
)

// SetRefusalTime sets how long no script is tried after the server has refused one, and returns what puts it back.
func SetRefusalTime(d time.Duration) (restore func()) {
	first, most := firstRefusalTime, refusalTime
	firstRefusalTime, refusalTime = d, d
	return func() { firstRefusalTime, refusalTime = first, most }
}

// SetAskInterval sets how long a server that had no IFEQ is not asked again, and returns what puts it back.
func SetAskInterval(d time.Duration) (restore func()) {
	old := askInterval
	askInterval = d
	return func() { askInterval = old }
}

// SetAskTime sets how long a server may take to answer whether it has IFEQ, and returns what puts it back.
func SetAskTime(d time.Duration) (restore func()) {
	old := askTime
	askTime = d
	return func() { askTime = old }
}

// Tests look for lines in the log, and more of them are written in a second than a site would want.
func init() { linesPerSecond = 1 << 30 }

// SetLinesPerSecond sets how many failures of a kind are logged in a second, and returns what puts it back.
func SetLinesPerSecond(n int) (restore func()) {
	old := linesPerSecond
	linesPerSecond = n
	return func() { linesPerSecond = old }
}

// Opened returns what is stored under a key as beego's provider could read it, decrypted where that is needed.
func Opened(p *Provider, key, value string) (string, error) {
	b := p.backend.Load()
	opened, err := b.unseal(key, record.Value(value))
	return string(opened), err
}

// Sealed is the reverse of Opened.
func Sealed(p *Provider, key, value string) (string, error) {
	b := p.backend.Load()
	sealed, err := b.seal(key, record.Value(value))
	return string(sealed), err
}
