// With -compare: beego's own provider beside this one, in a process of its own. Nothing of this is needed by an application.

package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
)

// comparison is the program in compare/, running, with its sessions in the same Redis. It serves what it is asked under /beego.
type comparison struct {
	http.Handler
	cmd   *exec.Cmd
	stdin io.Closer
	rest  chan struct{} // closed when all has been read of what it says
}

// startComparison has the go command build and start it: it cannot be a part of this program, as compare/main.go explains.
func startComparison(redisAddr string) (*comparison, error) {
	cmd := exec.Command("go", "run", "github.com/beego-session/redis/examples/visits/compare", redisAddr)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("-compare has the go command build a second program: %w", err)
	}
	c := &comparison{cmd: cmd, stdin: stdin, rest: make(chan struct{})}

	lines := bufio.NewReader(stdout)
	target, err := listens(lines)
	go func() {
		io.Copy(os.Stderr, lines)
		close(c.rest)
	}()
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("-compare could not start a second program (%w): it needs the go command, in the folder of this module", err)
	}
	c.Handler = http.StripPrefix("/beego", httputil.NewSingleHostReverseProxy(target))
	return c, nil
}

// listens returns where the program says that it listens. Beego may have said something before.
func listens(lines *bufio.Reader) (*url.URL, error) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if addr, ok := strings.CutPrefix(line, "listening on "); ok {
			return url.Parse(strings.TrimSpace(addr))
		}
	}
}

// stop ends the program, which does so when its standard input does, also where this process is killed.
func (c *comparison) stop() {
	c.stdin.Close()
	<-c.rest
	c.cmd.Wait()
}
