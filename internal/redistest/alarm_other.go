// This file owns sleeping where nothing better than the runtime's timers is at hand.

//go:build !linux

package redistest

import "time"

type alarm struct{}

func newAlarm() *alarm               { return &alarm{} }
func (*alarm) sleep(d time.Duration) { time.Sleep(d) }
func (*alarm) close()                {}
