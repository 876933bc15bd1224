package redis

import "time"

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
