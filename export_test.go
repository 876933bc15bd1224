package redis

import "time"

// SetRefusalTime sets how long no script is tried after the server has refused one, and returns what puts it back.
func SetRefusalTime(d time.Duration) (restore func()) {
	old := refusalTime
	refusalTime = d
	return func() { refusalTime = old }
}
