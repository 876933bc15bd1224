// This file shows that each topology starts, survives what tests do to it, and leaves nothing behind.

package redistest_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/redistest"
	"github.com/go-redis/redis/v7"
)

func newClient(t *testing.T, opt *redis.Options) *redis.Client {
	c := redis.NewClient(opt)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestMain(m *testing.M) { redistest.Main(m) }

func TestStandaloneKeepsItsDataOverKillAndRestart(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	for _, opt := range []*redis.Options{{Addr: s.Addr()}, {Network: "unix", Addr: s.Socket()}} {
		if err := newClient(t, opt).Set("at", opt.Addr, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	addr := s.Addr()
	for range 3 {
		s.Kill()
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Fatal("still listens after Kill")
		}
		if c, err := net.ListenPacket("udp4", addr); err == nil {
			c.Close()
			t.Fatal("another test could take the port of a server that is down")
		}
		s.Restart()
		if got, err := s.Client().Get("at").Result(); err != nil || got != s.Socket() {
			t.Fatalf("after restart: %q, %v", got, err)
		}
	}
	s.Stop()
	s.Restart()
	if s.Addr() != addr {
		t.Fatalf("moved from %s to %s", addr, s.Addr())
	}
}

func TestRestartWaitsForItsPort(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	other, err := net.Listen("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { other.Close() })
	s.Restart()
	if err := newClient(t, &redis.Options{Addr: s.Addr()}).Ping().Err(); err != nil {
		t.Fatal(err)
	}
}

func TestServersStartAtOnce(t *testing.T) {
	redistest.Require(t) // a skip ends a goroutine, not the test
	var all sync.WaitGroup
	for range 10 {
		all.Add(1)
		go func() {
			defer all.Done()
			s := redistest.Start(t)
			if err := newClient(t, &redis.Options{Addr: s.Addr()}).Ping().Err(); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
}

func TestServerOutlivesTheThreadThatAskedForIt(t *testing.T) {
	redistest.Require(t) // a skip ends a goroutine, not the test
	// The first may run on the process's first thread, which never ends.
	for range 2 {
		started := make(chan *redistest.Server)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			started <- redistest.Start(t)
		}()
		s := <-started
		time.Sleep(50 * time.Millisecond) // nothing tells when a thread has ended
		if err := s.Client().Ping().Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServerDiesWithTheTestBinary(t *testing.T) {
	if os.Getenv("REDISTEST_CHILD") == "1" {
		s := redistest.Start(t)
		fmt.Println(s.Addr(), s.Socket())
		select {}
	}
	redistest.Require(t)
	if runtime.GOOS != "linux" {
		t.Skip("skipped: only Linux can tie the server's life to ours")
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "REDISTEST_CHILD=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var addr, socket string
	_, err = fmt.Fscan(out, &addr, &socket)
	_ = child.Process.Kill()
	_ = child.Wait()
	if err != nil {
		t.Fatal("child: ", err)
	}
	defer os.RemoveAll(filepath.Dir(socket))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("redis-server outlived the test binary")
		}
	}
}

// verdict records what Require decides.
type verdict struct {
	testing.TB
	fatal, skip string
}

func (v *verdict) Helper()                           {}
func (v *verdict) Fatalf(format string, args ...any) { v.fatal = fmt.Sprintf(format, args...) }
func (v *verdict) Skipf(format string, args ...any)  { v.skip = fmt.Sprintf(format, args...) }

func TestRequireSkipsOrFailsWithoutRedisServer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("REDIS_SERVER", "")
	t.Setenv("REQUIRE_REDIS", "")
	var v verdict
	if redistest.Require(&v); v.skip == "" || v.fatal != "" {
		t.Errorf("skip %q, fatal %q", v.skip, v.fatal)
	}
	t.Setenv("REQUIRE_REDIS", "1")
	if redistest.Require(&v); v.fatal == "" {
		t.Error("did not fail with REQUIRE_REDIS=1")
	}
}

func TestTheServerIsTheCommandOfTheEnvironment(t *testing.T) {
	redistest.Require(t)
	server := os.Getenv("REDIS_SERVER")
	if server == "" {
		server = "redis-server"
	}
	dir := t.TempDir()
	wrapper, started := filepath.Join(dir, "wrapper"), filepath.Join(dir, "started")
	if err := os.WriteFile(wrapper, []byte("echo \"$@\" >>"+started+"\nexec \"$@\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REDIS_SERVER", "/bin/sh "+wrapper+" "+server)
	redistest.StartSentinel(t, redistest.SentinelOptions{})
	list, err := os.ReadFile(started)
	if err != nil {
		t.Fatal(err)
	}
	if all, sentinels := strings.Count(string(list), server+" /"), strings.Count(string(list), " --sentinel\n"); all != 5 || sentinels != 3 {
		t.Errorf("%d servers, of which %d Sentinels:\n%s", all, sentinels, list)
	}
	t.Setenv("REDIS_SERVER", "no-such-server --option")
	t.Setenv("REQUIRE_REDIS", "")
	var v verdict
	if redistest.Require(&v); !strings.Contains(v.skip, "no-such-server is not installed") {
		t.Errorf("skip %q", v.skip)
	}
}

func TestPausedServerDoesNotAnswerUntilResumed(t *testing.T) {
	s := redistest.Start(t)
	c := newClient(t, &redis.Options{Addr: s.Addr(), ReadTimeout: 50 * time.Millisecond})
	s.Pause()
	if err := c.Ping().Err(); err == nil {
		t.Fatal("a paused server answered")
	}
	s.Resume()
	if err := s.Client().Ping().Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	s.Stop()
}

func TestUsersAndPasswordsComeFromArgs(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "other", "--user", "app on >secret ~* +@all")
	for _, opt := range []*redis.Options{{Password: "other"}, {Username: "app", Password: "secret"}} {
		opt.Addr = s.Addr()
		if err := newClient(t, opt).Ping().Err(); err != nil {
			t.Errorf("user %q: %v", opt.Username, err)
		}
	}
	if err := newClient(t, &redis.Options{Addr: s.Addr()}).Ping().Err(); err == nil {
		t.Error("let in without a password")
	}
}

func TestCallsCountsCommands(t *testing.T) {
	s := redistest.Start(t)
	before := s.Calls()
	for range 3 {
		s.Client().Get("a")
	}
	if n := s.Calls()["get"] - before["get"]; n != 3 {
		t.Fatalf("%d, want 3", n)
	}
}

func TestAwaitReplicaIsForWhatAnyoneHasWritten(t *testing.T) {
	for range 5 {
		master, replica := redistest.Start(t), redistest.Start(t)
		if err := replica.Client().Do("replicaof", "127.0.0.1", master.Port()).Err(); err != nil {
			t.Fatal(err)
		}
		master.AwaitReplica()
		if err := newClient(t, &redis.Options{Addr: master.Addr()}).Set("key", "value", 0).Err(); err != nil {
			t.Fatal(err)
		}
		master.AwaitReplica()
		master.Kill()
		if got, err := replica.Client().Get("key").Result(); got != "value" {
			t.Errorf("replica has %q, %v", got, err)
		}
	}
}

func TestTLSIsRefusedWithoutTheRightAuthority(t *testing.T) {
	certs := redistest.NewCerts(t)
	s := redistest.StartTLS(t, certs, "--tls-auth-clients", "yes")
	right := certs.ClientConfig(t)
	if err := newClient(t, &redis.Options{Addr: s.Addr(), TLSConfig: right}).Ping().Err(); err != nil {
		t.Fatal(err)
	}
	noCA := right.Clone()
	noCA.RootCAs = nil
	otherCA := right.Clone()
	pem, err := os.ReadFile(certs.OtherCAFile)
	if err != nil {
		t.Fatal(err)
	}
	otherCA.RootCAs = x509.NewCertPool()
	otherCA.RootCAs.AppendCertsFromPEM(pem)
	noPair := right.Clone()
	noPair.Certificates = nil
	for name, cfg := range map[string]*tls.Config{"no CA": noCA, "other CA": otherCA, "no certificate": noPair, "plain": nil} {
		if err := newClient(t, &redis.Options{Addr: s.Addr(), TLSConfig: cfg}).Ping().Err(); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
}

func TestClusterReplacesAKilledMaster(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]redistest.ClusterOptions{
		"plain":    {},
		"password": {Args: []string{"--requirepass", "secret"}},
		"TLS":      {Certs: redistest.NewCerts(t), Args: []string{"--tls-auth-clients", "yes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := redistest.StartCluster(t, opt)
			slot := c.Slot("key")
			old := c.MasterOf(slot)
			if err := old.Client().Set("key", "value", 0).Err(); err != nil {
				t.Fatal(err)
			}
			old.AwaitReplica()
			old.Kill()
			c.AwaitHealthy()
			now := c.MasterOf(slot)
			if now == old || len(c.Masters()) != 3 || len(c.Addrs()) != 6 {
				t.Fatalf("master %s was replaced by %s, %d masters", old.Addr(), now.Addr(), len(c.Masters()))
			}
			if got, err := now.Client().Get("key").Result(); got != "value" {
				t.Fatalf("%q, %v", got, err)
			}
			old.Restart()
			if c.MasterOf(slot) != now {
				t.Fatal("the old master, not knowing yet, was taken for the master")
			}
			c.AwaitHealthy()
			if c.MasterOf(slot) != now {
				t.Fatal("the old master took its slots back")
			}
		})
	}
}

func TestEveryTestHasAClusterOfItsOwn(t *testing.T) {
	t.Parallel()
	var nodes []*redistest.Server
	for range 4 { // more than there are spares
		t.Run("", func(t *testing.T) {
			c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
			nodes = append(nodes, c.Nodes()...)
			for _, s := range c.Masters() {
				if n := s.Client().DBSize().Val(); n != 0 {
					t.Errorf("a new cluster has %d keys", n)
				}
			}
			if err := c.MasterOf(c.Slot("key")).Client().Set("key", "value", 0).Err(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, s := range nodes {
		if conn, err := net.Dial("unix", s.Socket()); err == nil { // another server may have its port by now
			conn.Close()
			t.Errorf("%s has outlived its test", s.Addr())
		}
	}
}

func TestSlotMigrationShowsAskAndMoved(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.ClusterOptions{
		NoReplicas: true,
		Certs:      redistest.NewCerts(t),
		Args:       []string{"--requirepass", "secret"},
	})
	slot := c.Slot("{tag}1")
	from, to := c.MasterOf(slot), c.Masters()[0]
	if from == to {
		to = c.Masters()[1]
	}
	from.Client().MSet("{tag}1", "1", "{tag}2", "2")
	m := c.MigrateSlot(slot, from, to)
	if n := m.MoveKeys(1); n != 1 {
		t.Fatalf("moved %d, want 1", n)
	}
	answers := func(s *redistest.Server) string {
		_, err1 := s.Client().Get("{tag}1").Result()
		_, err2 := s.Client().Get("{tag}2").Result()
		return fmt.Sprint(err1, ", ", err2)
	}
	ask := fmt.Sprintf("ASK %d %s", slot, to.Addr())
	if got := answers(from); got != ask+", <nil>" && got != "<nil>, "+ask {
		t.Errorf("during the migration: %s", got)
	}
	m.Finish()
	moved := fmt.Sprintf("MOVED %d %s", slot, to.Addr())
	for _, s := range c.Nodes() {
		if got := answers(s); s != to && got != moved+", "+moved {
			t.Errorf("after the migration: %s", got)
		}
	}
	if got, err := to.Client().MGet("{tag}1", "{tag}2").Result(); fmt.Sprint(got) != "[1 2]" {
		t.Errorf("new owner has %v, %v", got, err)
	}
	if c.MasterOf(slot) != to {
		t.Error("the slot did not move")
	}
}

func TestSentinelsFollowFailovers(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]redistest.SentinelOptions{
		"plain": {},
		"passwords": {
			Args:         []string{"--requirepass", "secret"},
			SentinelArgs: []string{"--user", "default off", "--user", "watcher on >third ~* &* +@all"},
		},
		"TLS": {
			Certs:        redistest.NewCerts(t),
			Args:         []string{"--tls-auth-clients", "yes"},
			SentinelArgs: []string{"--tls-auth-clients", "yes"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartSentinel(t, opt)
			if next := s.Failover(); next != s.Replica() {
				t.Fatalf("failover to %s, want %s", next.Addr(), s.Replica().Addr())
			}
			if next := s.Failover(); next != s.Master() {
				t.Fatalf("failover to %s, want %s", next.Addr(), s.Master().Addr())
			}
			s.Master().Kill()
			s.AwaitMaster(s.Replica())
			s.Master().Restart()
			s.AwaitMaster(s.Replica())

			for _, addr := range s.Addrs() {
				sentinel := &redis.Options{Addr: addr}
				switch name {
				case "passwords":
					sentinel.Username, sentinel.Password = "watcher", "third"
				case "TLS":
					sentinel.TLSConfig = opt.Certs.ClientConfig(t)
				}
				got, err := newClient(t, sentinel).Do("sentinel", "get-master-addr-by-name", redistest.MasterName).Result()
				if want := fmt.Sprintf("[127.0.0.1 %d]", s.Replica().Port()); fmt.Sprint(got) != want {
					t.Fatalf("Sentinel %s: %v, %v, want %s", addr, got, err, want)
				}
			}
		})
	}
}

func TestProxyCountsDelaysHoldsCutsAndSilences(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.Proxy(t, s.Addr())
	c := newClient(t, &redis.Options{Addr: p.Addr(), PoolSize: 1, ReadTimeout: 2 * time.Second})
	if err := c.Ping().Err(); err != nil {
		t.Fatal(err)
	}

	before := p.RoundTrips()
	c.Get("a")
	_, _ = c.Pipelined(func(pipe redis.Pipeliner) error {
		pipe.Set("a", strings.Repeat("b", 100_000), 0)
		pipe.Get("b")
		return nil
	})
	if n := p.RoundTrips() - before; n != 2 {
		t.Errorf("%d round trips, want 2", n)
	}

	p.SetDelay(20 * time.Millisecond)
	began := time.Now()
	if err := c.Ping().Err(); err != nil || time.Since(began) < 40*time.Millisecond {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	p.SetDelay(0)

	before = s.Calls()["ping"]
	p.Silence()
	if err := c.Ping().Err(); err == nil || !strings.Contains(err.Error(), "i/o timeout") {
		t.Errorf("through a silent connection: %v", err)
	}
	if n := s.Calls()["ping"] - before; n != 0 {
		t.Errorf("%d pings came through a silent connection", n)
	}
	if err := c.Ping().Err(); err != nil {
		t.Errorf("through a new connection: %v", err)
	}

	p.CutAll()
	if err := c.Ping().Err(); err == nil {
		t.Error("answered through a connection that was cut")
	}
	p.Refuse(true)
	if err := c.Ping().Err(); err == nil {
		t.Error("answered through a connection that was refused")
	}
	p.Refuse(false)

	p.Hold(true)
	answered := make(chan error, 1)
	go func() {
		answered <- newClient(t, &redis.Options{Addr: p.Addr(), ReadTimeout: 10 * time.Second}).Ping().Err()
	}()
	select {
	case err := <-answered:
		t.Fatalf("held connection answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	p.Hold(false)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestProxyMeddlesWithRequests(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.Proxy(t, s.Addr())
	c := newClient(t, &redis.Options{Addr: p.Addr(), PoolSize: 1, ReadTimeout: 2 * time.Second})
	value := strings.Repeat("v", 1000)
	if err := c.Set("key", value, 0).Err(); err != nil {
		t.Fatal(err)
	}
	p.Meddle(func(request []byte) *redistest.Fault {
		for text, fault := range map[string]redistest.Fault{
			"answered": {Answer: "BUSY for a test"},
			"reset":    {},
			"part":     {Part: 0.5},
			"silent":   {Part: 0.5, Silent: true},
		} {
			if strings.Contains(string(request), text) {
				return &fault
			}
		}
		return nil
	})
	for text, want := range map[string]string{"answered": "BUSY for a test", "reset": "connection reset", "part": "connection reset", "silent": "i/o timeout"} {
		before := s.Calls()["getset"]
		cmds, err := c.Pipelined(func(pipe redis.Pipeliner) error {
			pipe.GetSet("key", value)
			pipe.GetSet("other key", text)
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if second := cmds[1].Err(); second == nil || !strings.Contains(second.Error(), want) {
			t.Errorf("%s: the second command: %v", text, second)
		}
		executed := 2
		if text == "answered" {
			executed = 0
		}
		if n := s.Calls()["getset"] - before; n != executed {
			t.Errorf("%s: %d commands were executed", text, n)
		}
		if got, err := c.Get("key").Result(); got != value {
			t.Errorf("after %s: %.10q, %v", text, got, err)
		}
	}
	p.Meddle(nil)
	if err := c.Set("key", "answered", 0).Err(); err != nil {
		t.Error(err)
	}
}
