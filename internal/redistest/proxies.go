// This file owns proxies that sites put before their servers: twemproxy, which spreads keys over servers, and HAProxy, which
// leads to the master.

package redistest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Twemproxy starts a twemproxy that spreads keys over servers, and returns its address. hashTag is its setting of that
// name: "{}" keeps keys with the same part in braces together, and empty is what it is unless it is set. The test is skipped
// where nutcracker, the program, is not installed.
func Twemproxy(tb testing.TB, hashTag string, servers ...*Server) string {
	tb.Helper()
	return startProxy(tb, "nutcracker", func(addr, file string) (config string, args []string) {
		config = fmt.Sprintf("sessions:\n  listen: %s\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n", addr)
		if hashTag != "" {
			config += fmt.Sprintf("  hash_tag: %q\n", hashTag)
		}
		config += "  servers:\n"
		for _, server := range servers {
			config += fmt.Sprintf("  - %s:1\n", server.Addr())
		}
		return config, []string{"-c", file, "-s", fmt.Sprint(leasePort(tb))}
	})
}

// HAProxy starts an HAProxy that leads to the server which says that it is a master, and returns its address. Connections
// that are open stay where they are. The test is skipped where haproxy is not installed.
func HAProxy(tb testing.TB, servers ...*Server) string {
	tb.Helper()
	return startProxy(tb, "haproxy", func(addr, file string) (config string, args []string) {
		config = fmt.Sprintf(`defaults
  mode tcp
  timeout connect 1s
  timeout client 1h
  timeout server 1h
listen sessions
  bind %s
  option tcp-check
  tcp-check send AUTH\ %s\ %s\r\n
  tcp-check expect string +OK
  tcp-check send info\ replication\r\n
  tcp-check expect string role:master
`, addr, adminUser, adminPassword)
		for i, server := range servers {
			config += fmt.Sprintf("  server s%d %s check inter 50ms fall 1 rise 1\n", i, server.Addr())
		}
		return config, []string{"-f", file}
	})
}

func startProxy(tb testing.TB, program string, configure func(addr, file string) (config string, args []string)) (addr string) {
	tb.Helper()
	if _, err := exec.LookPath(program); err != nil {
		tb.Skipf("skipped: %s is not installed", program)
	}
	dir := tempDir(tb)
	addr = fmt.Sprintf("127.0.0.1:%d", leasePort(tb))
	config, args := configure(addr, filepath.Join(dir, "conf"))
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(config), 0o600); err != nil {
		tb.Fatal("redistest: ", err)
	}
	cmd := exec.Command(program, args...)
	var output strings.Builder
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &output, &output
	if err := startProcess(cmd); err != nil {
		tb.Fatalf("redistest: start %s: %v", program, err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if tb.Failed() {
			tb.Logf("%s said:\n%s", program, output.String())
		}
	})
	await(tb, program+" listens", func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return addr
}
