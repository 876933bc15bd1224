// Package redistest starts real redis-server processes for tests: standalone, with TLS, as a Cluster, under Sentinels.
// They listen on free loopback ports, keep their data in a temporary directory, and end with the test that started
// them, however it ends. Every starter skips the test where redis-server is missing, see Require.
//
// REDIS_SERVER in the environment is the command of another server to start, such as valkey-server: a program in PATH or
// an absolute path, and arguments that go before the configuration file, separated by spaces.
//
// This file owns one process: its port, its configuration file, its start and end, and the admin connection to it.
package redistest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"
)

const (
	// Every server has this user with all rights, so that helpers and assertions work whatever requirepass or ACL
	// rules a test sets for the users it is about.
	adminUser     = "redistest"
	adminPassword = "redistest"

	// patience bounds every wait. It is long because test machines stall, not because anything takes that long.
	patience     = 20 * time.Second
	pollInterval = 2 * time.Millisecond
)

// command returns the command that starts a server.
func command() []string {
	if command := strings.Fields(os.Getenv("REDIS_SERVER")); len(command) > 0 {
		return command
	}
	return []string{"redis-server"}
}

// Require skips the test where the server is not installed. With REQUIRE_REDIS=1 in the environment it fails instead.
func Require(tb testing.TB) {
	tb.Helper()
	name := command()[0]
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("REQUIRE_REDIS") == "1" {
		tb.Fatalf("%s is not installed, and REQUIRE_REDIS=1", name)
	}
	tb.Skipf("skipped: %s is not installed (REQUIRE_REDIS=1 makes this a failure)", name)
}

// Server is one redis-server process. Its port and its data directory stay the same over Kill, Stop and Restart.
type Server struct {
	tb       testing.TB
	dir      string
	port     int
	program  []string // and its arguments
	sentinel bool
	client   *redis.Client
	nodeID   string // in a cluster; set by StartCluster

	mu     sync.Mutex // protects what follows
	proc   *process   // nil while the server is down
	paused bool
}

type process struct {
	*os.Process
	exited chan struct{} // closed once the process is gone and reaped
}

// Start starts a redis-server. args are pairs of a configuration directive and its value, as in
// "--appendonly", "yes", "--user", "app on >secret ~* +@all". A value is written to redis.conf as it is: one argument
// that holds spaces needs quotes of its own. Persistence is off unless args turn it on. An aclfile is not possible,
// since users stand in redis.conf.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return StartTLS(tb, nil, args...)
}

// launch starts a server on a free port, with the directives that args returns for it.
func launch(tb testing.TB, program []string, sentinel bool, args func(port int) []string) *Server {
	tb.Helper()
	Require(tb)
	for attempt := 1; ; attempt++ {
		s := &Server{tb: tb, program: program, sentinel: sentinel, port: leasePort(tb), dir: tempDir(tb)}
		s.client = newAdminClient(s.Socket())
		if err := os.WriteFile(s.configFile(), s.config(args(s.port)), 0o600); err != nil {
			tb.Fatal("redistest: ", err)
		}
		tb.Cleanup(s.cleanup)
		err := s.start()
		if errors.Is(err, errPortTaken) && attempt < 20 {
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		return s
	}
}

// leasePort returns a port that no other test of any process that uses this package holds, until the test ends. Holding
// the UDP port of the same number is the lease: redis-server does not use it, and it ends with this process. The range
// is below the ports that systems give to outgoing connections, so none of these takes the port of a server that is
// down; and port+10000, a Cluster node's bus port, is leased along with it.
func leasePort(tb testing.TB) int {
	tb.Helper()
	for i := 0; i < 1000; i++ {
		port := 10000 + rand.Intn(10000)
		lease, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		tb.Cleanup(func() { lease.Close() })
		return port
	}
	tb.Fatal("redistest: no free port in 10000-19999")
	return 0
}

// tempDir is not tb.TempDir, whose path holds the test's name and may be too long for a unix socket (104 bytes).
func tempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		tb.Fatal("redistest: ", err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// config returns a configuration file. Where a directive is repeated, redis-server takes the last one, which is the
// caller's.
func (s *Server) config(args []string) []byte {
	s.tb.Helper()
	all := append([]string{
		"--bind", "127.0.0.1",
		"--protected-mode", "no",
		"--unixsocket", s.Socket(),
		"--dir", s.dir,
		"--daemonize", "no",
		"--save", `""`,
		"--appendonly", "no",
		"--repl-diskless-sync-delay", "0", // 5 s by default: what every replica would wait for its first copy
		"--user", fmt.Sprintf("%s on >%s ~* +@all", adminUser, adminPassword),
	}, args...)
	if len(all)%2 != 0 {
		s.tb.Fatalf("redistest: arguments are not pairs of a directive and its value: %q", args)
	}
	var b bytes.Buffer
	for i := 0; i < len(all); i += 2 {
		name, ok := strings.CutPrefix(all[i], "--")
		if !ok {
			s.tb.Fatalf("redistest: directive %q does not begin with --", all[i])
		}
		value := all[i+1]
		if value == "" {
			value = `""`
		}
		fmt.Fprintf(&b, "%s %s\n", name, value)
	}
	return b.Bytes()
}

// replicationArgs let a server be a replica of any other.
var replicationArgs = []string{"--masteruser", adminUser, "--masterauth", adminPassword}

func addrs(servers []*Server) []string {
	var list []string
	for _, s := range servers {
		list = append(list, s.Addr())
	}
	return list
}

// newAdminClient connects through the unix socket, where neither TLS nor another program on the same port is in the way.
func newAdminClient(socket string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Network:  "unix",
		Addr:     socket,
		Username: adminUser,
		Password: adminPassword,
		// After as many failed dials as the pool is large, go-redis refuses to dial for up to a second. A server that
		// is restarted must be there at once.
		PoolSize: 10000,
		// A restart leaves dead connections in the pool; every retry uses one up.
		MaxRetries:      5,
		MinRetryBackoff: -1,
		MaxRetryBackoff: -1,
	})
}

var errPortTaken = errors.New("redistest: port taken by another program")

// start starts the process and waits until it answers. The caller holds mu, or is the only one to know the server.
func (s *Server) start() error {
	logFile, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	defer logFile.Close()
	earlier, err := logFile.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("redistest: %w", err)
	}

	cmd := exec.Command(s.program[0], append(s.program[1:len(s.program):len(s.program)], s.configFile())...)
	if s.sentinel {
		cmd.Args = append(cmd.Args, "--sentinel")
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, logFile, logFile
	if err := startProcess(cmd); err != nil {
		return fmt.Errorf("redistest: start %s: %w", s.program[0], err)
	}
	p := &process{Process: cmd.Process, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.exited)
	}()

	for deadline := time.Now().Add(patience); ; time.Sleep(pollInterval) {
		err := s.client.Ping().Err()
		if err == nil {
			s.proc, s.paused = p, false
			return nil
		}
		select {
		case <-p.exited:
			log, _ := os.ReadFile(s.logFile())
			log = log[min(int(earlier), len(log)):]
			if bytes.Contains(log, []byte("Address already in use")) {
				return errPortTaken
			}
			return fmt.Errorf("redistest: redis-server exited at its start; its log:\n%s", log)
		default:
		}
		if time.Now().After(deadline) {
			_ = p.Kill()
			<-p.exited
			return fmt.Errorf("redistest: redis-server on %s did not answer for %v: %w", s.Addr(), patience, err)
		}
	}
}

func (s *Server) configFile() string { return filepath.Join(s.dir, "redis.conf") }
func (s *Server) logFile() string    { return filepath.Join(s.dir, "redis.log") }

// Addr returns the server's address, 127.0.0.1 and its port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Port returns the server's TCP port, which speaks TLS if the server was started with certificates.
func (s *Server) Port() int { return s.port }

// Socket returns the path of the unix socket that the server listens on as well. It never speaks TLS.
func (s *Server) Socket() string { return filepath.Join(s.dir, "redis.sock") }

// Client returns a connection for assertions. It has all rights, goes through the unix socket as a user of its own,
// survives restarts, and is closed when the test ends.
func (s *Server) Client() *redis.Client { return s.client }

// Calls returns how often each command was executed since the server started, by its lower-case name (a subcommand as
// "config|get"). It counts what scripts call as well, and what Client sends.
func (s *Server) Calls() map[string]int {
	s.tb.Helper()
	stats, err := s.info("commandstats")
	if err != nil {
		s.tb.Fatal(err)
	}
	calls := map[string]int{}
	for name, value := range stats {
		var n int
		if _, err := fmt.Sscanf(value, "calls=%d,", &n); err != nil {
			s.tb.Fatalf("redistest: INFO commandstats of %s: %s:%s: %v", s.Addr(), name, value, err)
		}
		calls[strings.TrimPrefix(name, "cmdstat_")] = n
	}
	return calls
}

// AwaitReplica returns once a replica has all that the server has acknowledged, and goes on to receive what follows. It
// fails the test if that takes longer than 20 seconds.
func (s *Server) AwaitReplica() {
	s.tb.Helper()
	await(s.tb, s.Addr()+" has a replica", s.replicated)
}

// replicated tells what keeps a replica from having all that the server has acknowledged. A master streams to a new
// replica only after that has reported, which it does once a second. So it takes something written now (without a key,
// which any node of a cluster accepts), and a WAIT on the same connection, because it is for what that one has written.
func (s *Server) replicated() error {
	conn := s.client.Conn()
	defer conn.Close()
	if err := conn.Process(redis.NewStatusCmd("function", "flush")); err != nil {
		return fmt.Errorf("redistest: write to %s: %w", s.Addr(), err)
	}
	n, err := conn.Wait(1, time.Second).Result()
	if err != nil {
		return fmt.Errorf("redistest: WAIT on %s: %w", s.Addr(), err)
	}
	if n == 0 {
		return fmt.Errorf("no replica of %s has what was written", s.Addr())
	}
	return nil
}

// Kill ends the server with SIGKILL and returns when it is gone. It does nothing to a server that is down.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

func (s *Server) kill() {
	if s.proc != nil {
		_ = s.proc.Kill()
		<-s.proc.exited
		s.proc = nil
	}
}

// Stop shuts the server down in order, with SIGTERM, and returns when it is gone.
func (s *Server) Stop() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return
	}
	if s.paused {
		s.setPaused(false)
	}
	if err := s.proc.Signal(syscall.SIGTERM); err != nil {
		s.tb.Errorf("redistest: stop %s: %v", s.Addr(), err)
	}
	select {
	case <-s.proc.exited:
		s.proc = nil
	case <-time.After(patience):
		s.tb.Errorf("redistest: %s did not stop within %v of SIGTERM", s.Addr(), patience)
		s.kill()
	}
}

// Restart starts the server again on the same port and the same data, and returns when it answers. A server that still
// runs is killed first.
func (s *Server) Restart() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	for deadline := time.Now().Add(patience); ; time.Sleep(pollInterval) {
		err := s.start()
		if err == nil {
			return
		}
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			s.tb.Fatalf("redistest: restart %s: %v", s.Addr(), err)
		}
	}
}

// Pause stops the process where it is, with SIGSTOP: connections stay open and are still accepted, but nothing answers.
func (s *Server) Pause() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setPaused(true)
}

// Resume lets a paused server go on.
func (s *Server) Resume() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setPaused(false)
}

func (s *Server) setPaused(paused bool) {
	s.tb.Helper()
	if s.proc == nil {
		s.tb.Fatalf("redistest: pause or resume %s: it is down", s.Addr())
	}
	if err := pauseProcess(s.proc.Process, paused); err != nil {
		s.tb.Fatalf("redistest: pause or resume %s: %v", s.Addr(), err)
	}
	s.paused = paused
}

// try sends a command as the administrator.
func (s *Server) try(args ...interface{}) (interface{}, error) {
	reply, err := s.client.Do(args...).Result()
	if err != nil {
		return nil, fmt.Errorf("redistest: %v on %s: %w", args, s.Addr(), err)
	}
	return reply, nil
}

// do is try for what cannot fail: an error fails the test.
func (s *Server) do(args ...interface{}) interface{} {
	s.tb.Helper()
	reply, err := s.try(args...)
	if err != nil {
		s.tb.Fatal(err)
	}
	return reply
}

// info returns a section of INFO.
func (s *Server) info(section string) (map[string]string, error) {
	reply, err := s.try("info", section)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for _, line := range strings.Split(reply.(string), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

// running tells whether the server can answer.
func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc != nil && !s.paused
}

func (s *Server) cleanup() {
	s.Kill()
	s.client.Close()
	if s.tb.Failed() {
		log, _ := os.ReadFile(s.logFile())
		s.tb.Logf("end of the log of redis-server %s:\n%s", s.Addr(), log[max(0, len(log)-3000):])
	}
}

// await polls until done returns nil. It fails the test with the last error after patience.
func await(tb testing.TB, what string, done func() error) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * pollInterval) {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("redistest: %s: not within %v: %v", what, patience, err)
		}
	}
}
