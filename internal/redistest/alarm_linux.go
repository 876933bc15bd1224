// This file owns precise sleeping. The runtime's timers come up to a millisecond late in a program that idles, which is
// more than the latency of a network; the kernel's arrive at once, as events on a file.

package redistest

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// alarm sleeps for one goroutine. Where the kernel gives it no timer it is as precise as time.Sleep.
type alarm struct {
	fd   uintptr
	file *os.File
}

func newAlarm() *alarm {
	const monotonic = 1
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, monotonic, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return &alarm{}
	}
	return &alarm{fd, os.NewFile(fd, "timerfd")}
}

func (a *alarm) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	if a.file == nil {
		time.Sleep(d)
		return
	}
	spec := struct{ interval, value syscall.Timespec }{value: syscall.NsecToTimespec(int64(d))}
	_, _, errno := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, a.fd, 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		time.Sleep(d)
		return
	}
	var expirations [8]byte
	_, _ = a.file.Read(expirations[:])
}

func (a *alarm) close() { _ = a.file.Close() }
