// This file owns what Linux adds: a redis-server does not outlive the test binary, even one that is killed.

package redistest

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// starter takes commands to the goroutine that starts them all. The kernel sends Pdeathsig when the thread that forked
// ends, not the process, so that goroutine keeps its thread for ever.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func startProcess(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	result := make(chan error)
	starter() <- func() { result <- cmd.Start() }
	return <-result
}
