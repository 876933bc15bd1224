package redis

import "time"

// SetRefusalTime sets how long no script is tried after the server has refused one, and returns what puts it back.
func SetRefusalTime(d time.Duration) (restore func()) {
	old := refusalTime
	refusalTime = d
	return func() { refusalTime = old }
}

// SetAskInterval sets how long a server that had no IFEQ is not asked again, and returns what puts it back.
func SetAskInterval(d time.Duration) (restore func()) {
	old := askInterval
	askInterval = d
	return func() { askInterval = old }
}
