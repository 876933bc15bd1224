// This file owns Redis Sentinel: a master, a replica, and three Sentinels that watch them.

package redistest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// MasterName is the name under which the Sentinels know the master.
const MasterName = "mymaster"

// sentinelPeriods make the Sentinels' own rhythm, made for outages of 30 seconds, fit ours of one. In milliseconds:
var sentinelPeriods = []interface{}{
	// How often they ask servers for their role, else 10 s.
	"info-period", 400,
	// How often they introduce themselves, else 2 s. A server that changed its role unasked is set right after four of
	// these, which has to be longer than the news of a failover takes, a good second.
	"publish-period", 500,
	// How long until they connect again, else 1 s, in which they would find a server down that is not. A replica must
	// have sent its state within five of these to replace a master, and sends it once a second when the master is down.
	"ping-period", 400,
}

// channelArgs let Sentinels talk on the channels of a server, and of each other. Redis before 6.2 does not know the directive.
var channelArgs = []string{"--acl-pubsub-default", "allchannels"}

// SentinelOptions are the options of StartSentinel.
type SentinelOptions struct {
	Certs        *Certs   // if set, servers and Sentinels speak TLS only, to clients and among themselves
	PlainPort    bool     // with Certs: the Sentinels' Addrs speak plain text; servers and Sentinels go on with TLS among themselves
	Args         []string // for the master and the replica, as for Start
	SentinelArgs []string // for the Sentinels, such as "--requirepass" and "--user"
}

// Sentinel is a master and a replica under three Sentinels.
type Sentinel struct {
	tb              testing.TB
	master, replica *Server
	sentinels       []*Server
}

// StartSentinel starts the five servers and returns once the Sentinels know each other and the replica, and thus would
// replace the master. That takes a second; a master that is killed is replaced within three, and a Failover takes four.
func StartSentinel(tb testing.TB, opt SentinelOptions) *Sentinel {
	tb.Helper()
	redisArgs := func(port int) []string {
		return slices.Concat(portArgs(port, opt.Certs), replicationArgs, channelArgs, opt.Args)
	}
	sentinelPort := func(port int) []string {
		if !opt.PlainPort {
			return portArgs(port, opt.Certs)
		}
		// With tls-replication a Sentinel announces the port that speaks TLS, and reaches the others there.
		return append(portArgs(port+10000, opt.Certs), "--port", strconv.Itoa(port))
	}
	s := &Sentinel{tb: tb}
	s.master = launch(tb, command(), false, redisArgs)
	s.replica = launch(tb, command(), false, redisArgs)
	s.replica.do("replicaof", "127.0.0.1", s.master.port)
	s.replica.do("config", "rewrite") // so that it holds after a restart
	for i := range 3 {
		// Sentinels that find the master down at the same time vote for themselves, and again only seconds later.
		downAfter := 800 + 300*i
		sentinel := launch(tb, command(), true, func(port int) []string {
			return slices.Concat(sentinelPort(port), channelArgs, []string{
				"--sentinel sentinel-user", adminUser,
				"--sentinel sentinel-pass", adminPassword,
				"--sentinel monitor", fmt.Sprintf("%s 127.0.0.1 %d 2", MasterName, s.master.port),
				"--sentinel auth-user", MasterName + " " + adminUser,
				"--sentinel auth-pass", MasterName + " " + adminPassword,
				"--sentinel down-after-milliseconds", fmt.Sprint(MasterName, " ", downAfter),
				"--sentinel failover-timeout", MasterName + " 2000",
			}, opt.SentinelArgs)
		})
		sentinel.do(append([]interface{}{"sentinel", "debug"}, sentinelPeriods...)...)
		s.sentinels = append(s.sentinels, sentinel)
	}
	s.AwaitMaster(s.master)
	return s
}

// Addrs returns the addresses of the Sentinels.
func (s *Sentinel) Addrs() []string { return addrs(s.sentinels) }

// Sentinels returns the Sentinels themselves. One that is restarted takes longer to notice changes than before.
func (s *Sentinel) Sentinels() []*Server { return slices.Clone(s.sentinels) }

// Master returns the server that was the master at the start.
func (s *Sentinel) Master() *Server { return s.master }

// Replica returns the server that was the replica at the start.
func (s *Sentinel) Replica() *Server { return s.replica }

// Failover makes the Sentinels swap master and replica and returns the new master when that is done, see AwaitMaster.
// Both servers must be running.
func (s *Sentinel) Failover() *Server {
	s.tb.Helper()
	next := s.replica
	if info, err := s.replica.info("replication"); err != nil {
		s.tb.Fatal(err)
	} else if info["role"] == "master" {
		next = s.master
	}
	await(s.tb, "SENTINEL FAILOVER", func() error {
		reply, err := s.sentinels[0].try("sentinel", "master", MasterName)
		if err != nil {
			return err
		}
		seen := fields(reply)
		if seen["port"] == strconv.Itoa(next.port) {
			return nil
		}
		// A Sentinel refuses, or gives up what it began, while it is unsure of the replica.
		if !strings.Contains(seen["flags"], "failover_in_progress") {
			if _, err := s.sentinels[0].try("sentinel", "failover", MasterName); err != nil {
				return err
			}
		}
		return fmt.Errorf("master is at %s:%s", seen["ip"], seen["port"])
	})
	s.AwaitMaster(next)
	return next
}

// AwaitMaster returns once want is the master by its own account and that of all running Sentinels, and the other
// server, if it runs, is its replica in step by the same accounts, as with AwaitReplica: then all is ready for the next
// failover. It fails the test if that takes longer than 20 seconds.
func (s *Sentinel) AwaitMaster(want *Server) {
	s.tb.Helper()
	other := s.master
	if want == s.master {
		other = s.replica
	}
	written := 0 // the replication offset that the replica has reached at least
	await(s.tb, want.Addr()+" is the master", func() error {
		role, err := want.info("replication")
		if err != nil {
			return err
		}
		if role["role"] != "master" {
			return fmt.Errorf("%s is a %s", want.Addr(), role["role"])
		}
		if other.running() {
			role, err := other.info("replication")
			if err != nil {
				return err
			}
			if role["master_port"] != strconv.Itoa(want.port) || role["master_link_status"] != "up" {
				return fmt.Errorf("%s is not a connected replica of %s", other.Addr(), want.Addr())
			}
			if written == 0 {
				if err := want.replicated(); err != nil {
					return err
				}
				if role, err = other.info("replication"); err != nil {
					return err
				}
				if written, err = strconv.Atoi(role["slave_repl_offset"]); err != nil {
					return fmt.Errorf("redistest: INFO of %s: %w", other.Addr(), err)
				}
			}
		}
		for _, sentinel := range s.sentinels {
			if !sentinel.running() {
				continue
			}
			if err := s.settled(sentinel, want, other, written); err != nil {
				return fmt.Errorf("Sentinel %s: %w", sentinel.Addr(), err)
			}
		}
		return nil
	})
}

// settled tells what a Sentinel has not found out yet, of which one is that the replica has reached an offset.
func (s *Sentinel) settled(sentinel, master, replica *Server, offset int) error {
	info, err := sentinel.info("sentinel")
	if err != nil {
		return err
	}
	state := fmt.Sprintf("name=%s,status=ok,address=%s,slaves=1,sentinels=%d", MasterName, master.Addr(), len(s.sentinels))
	if info["master0"] != state {
		return fmt.Errorf("%s, want %s", info["master0"], state)
	}
	if !replica.running() {
		return nil
	}
	reply, err := sentinel.try("sentinel", "replicas", MasterName)
	if err != nil {
		return err
	}
	replicas := reply.([]interface{})
	if len(replicas) != 1 {
		return fmt.Errorf("%d replicas, want 1", len(replicas))
	}
	got := fields(replicas[0])
	for name, want := range map[string]string{
		"name":               replica.Addr(),
		"flags":              "slave",
		"role-reported":      "slave",
		"master-port":        strconv.Itoa(master.port),
		"master-link-status": "ok",
	} {
		if got[name] != want {
			return fmt.Errorf("replica's %s is %s, want %s", name, got[name], want)
		}
	}
	if n, err := strconv.Atoi(got["slave-repl-offset"]); err != nil || n < offset {
		return fmt.Errorf("replica's offset is %s, want %d", got["slave-repl-offset"], offset)
	}
	return nil
}

// fields makes a map of a reply that is a list of names and values.
func fields(reply interface{}) map[string]string {
	list := reply.([]interface{})
	m := map[string]string{}
	for i := 0; i+1 < len(list); i += 2 {
		m[list[i].(string)] = list[i+1].(string)
	}
	return m
}
