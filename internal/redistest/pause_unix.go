// This file owns the signals that pause and resume a process.

//go:build unix

package redistest

import (
	"os"
	"syscall"
)

func pauseProcess(p *os.Process, paused bool) error {
	if paused {
		return p.Signal(syscall.SIGSTOP)
	}
	return p.Signal(syscall.SIGCONT)
}
