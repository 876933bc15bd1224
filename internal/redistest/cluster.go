// This file owns Redis Cluster: masters with a replica each, and slots that move between them.

package redistest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const slotCount = 16384

// ClusterOptions are the options of StartCluster; the zero value is three masters with a replica each.
type ClusterOptions struct {
	Masters    int // 0: three
	NoReplicas bool
	First      []string // the program of the first node, and its arguments; nil: that of all
	Certs      *Certs   // if set, the nodes speak TLS only, to clients and among themselves
	Args       []string // for every node, as for Start
}

// Cluster is a Redis Cluster of redis-server processes.
type Cluster struct {
	tb    testing.TB
	nodes []*Server
}

// StartCluster starts a cluster and returns once it is healthy, see AwaitHealthy. That takes over two seconds, for
// which every node waits before it declares itself ready, and less where a spare has waited already. A master that is
// killed is replaced by its replica in about three seconds.
func StartCluster(tb testing.TB, opt ClusterOptions) *Cluster {
	tb.Helper()
	var c *Cluster
	if opt.NoReplicas && opt.Masters == 0 && opt.First == nil && opt.Certs == nil && opt.Args == nil {
		c = takeSpare(tb)
	}
	if c == nil {
		c = join(tb, opt)
	}
	c.AwaitHealthy()
	return c
}

// join starts the nodes of a cluster and tells them of each other.
func join(tb testing.TB, opt ClusterOptions) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb}
	masters := opt.Masters
	if masters == 0 {
		masters = 3
	}
	count := 2 * masters
	if opt.NoReplicas {
		count = masters
	}
	for i := range count {
		program := command()
		if i == 0 && opt.First != nil {
			program = opt.First
		}
		s := launch(tb, program, false, func(port int) []string {
			return slices.Concat(portArgs(port, opt.Certs), replicationArgs, []string{
				"--cluster-enabled", "yes",
				"--cluster-node-timeout", "1500",
			}, opt.Args)
		})
		s.nodeID = s.do("cluster", "myid").(string)
		// Nodes that meet with the same epoch take a while to settle whose is the newer.
		s.do("cluster", "set-config-epoch", i+1)
		if i < masters {
			s.do("cluster", "addslotsrange", i*slotCount/masters, (i+1)*slotCount/masters-1)
		}
		for _, earlier := range c.nodes {
			s.do("cluster", "meet", "127.0.0.1", earlier.port)
		}
		c.nodes = append(c.nodes, s)
	}
	for i, s := range c.nodes[masters:] {
		await(tb, "replica knows its master", func() error {
			return s.client.Do("cluster", "replicate", c.nodes[i].nodeID).Err()
		})
	}
	return c
}

// Nodes returns all nodes, those that were masters at the start first.
func (c *Cluster) Nodes() []*Server { return slices.Clone(c.nodes) }

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string { return addrs(c.nodes) }

// Masters returns the running nodes that own slots now.
func (c *Cluster) Masters() []*Server {
	c.tb.Helper()
	var list []*Server
	for _, s := range c.nodes {
		if s.running() && len(c.self(s).slots) > 0 {
			list = append(list, s)
		}
	}
	return list
}

// MasterOf returns the running node that owns the slot now, and fails the test if there is none.
func (c *Cluster) MasterOf(slot int) *Server {
	c.tb.Helper()
	var owner *Server
	epoch := -1
	for _, s := range c.nodes {
		if !s.running() {
			continue
		}
		// A master that was replaced while it was down goes on claiming its slots until it hears of it.
		if self := c.self(s); self.owns(slot) && self.epoch > epoch {
			owner, epoch = s, self.epoch
		}
	}
	if owner == nil {
		c.tb.Fatalf("redistest: no running node owns slot %d", slot)
	}
	return owner
}

// Slot returns the slot of a key.
func (c *Cluster) Slot(key string) int {
	c.tb.Helper()
	for _, s := range c.nodes {
		if s.running() {
			return int(s.do("cluster", "keyslot", key).(int64))
		}
	}
	c.tb.Fatal("redistest: no node of the cluster runs")
	return 0
}

// AwaitHealthy returns once the running nodes all find the state of the cluster ok, agree on who is master of which
// slots and who is replica of whom, serve every slot, and every replica is connected to its master and in step, as with
// AwaitReplica. It fails the test if that takes longer than 20 seconds.
func (c *Cluster) AwaitHealthy() {
	c.tb.Helper()
	await(c.tb, "cluster is healthy", func() error {
		agreed := map[*Server]string{}
		for _, s := range c.nodes {
			if !s.running() {
				continue
			}
			if err := c.healthyFor(s, agreed); err != nil {
				return err
			}
		}
		if len(agreed) == 0 {
			return errors.New("no node runs")
		}
		return c.replicated()
	})
}

// healthyFor tells what is wrong with the cluster as s sees it. agreed is the role of every running node as those that
// were asked before see it.
func (c *Cluster) healthyFor(s *Server, agreed map[*Server]string) error {
	state, err := s.try("cluster", "info")
	if err != nil {
		return err
	}
	if !strings.Contains(state.(string), "cluster_state:ok") {
		return fmt.Errorf("%s finds %s", s.Addr(), strings.Fields(state.(string))[0])
	}
	replication, err := s.info("replication")
	if err != nil {
		return err
	}
	if replication["role"] == "slave" && replication["master_link_status"] != "up" {
		return fmt.Errorf("%s is not connected to its master", s.Addr())
	}
	view, err := s.view()
	if err != nil {
		return err
	}
	served := 0
	for _, other := range c.nodes {
		if !other.running() {
			continue
		}
		n := view[other.nodeID]
		if role, ok := agreed[other]; ok && role != n.role {
			return fmt.Errorf("%s finds %s to be %q, others %q", s.Addr(), other.Addr(), n.role, role)
		}
		agreed[other] = n.role
		for _, r := range n.slots {
			served += r.last - r.first + 1
		}
	}
	if served != slotCount {
		return fmt.Errorf("%s finds %d of %d slots served", s.Addr(), served, slotCount)
	}
	return nil
}

// replicated tells which running master has a running replica that is not in step.
func (c *Cluster) replicated() error {
	for _, s := range c.nodes {
		if !s.running() {
			continue
		}
		replication, err := s.info("replication")
		if err != nil {
			return err
		}
		for _, master := range c.nodes {
			if strconv.Itoa(master.port) != replication["master_port"] || !master.running() {
				continue
			}
			if err := master.replicated(); err != nil {
				return err
			}
		}
	}
	return nil
}

// node is one line of CLUSTER NODES.
type node struct {
	role  string // flags, master and slots: what all nodes should agree on
	epoch int
	slots []slotRange
}

type slotRange struct{ first, last int }

func (n node) owns(slot int) bool {
	return slices.ContainsFunc(n.slots, func(r slotRange) bool { return r.first <= slot && slot <= r.last })
}

// view returns what s knows of its cluster, by node id.
func (s *Server) view() (map[string]node, error) {
	reply, err := s.try("cluster", "nodes")
	if err != nil {
		return nil, err
	}
	view := map[string]node{}
	for _, line := range strings.Split(strings.TrimSpace(reply.(string)), "\n") {
		// id, address, flags, master's id, ping sent, pong received, epoch, link, slots...
		f := strings.Fields(line)
		var n node
		if n.epoch, err = strconv.Atoi(f[6]); err != nil {
			return nil, fmt.Errorf("redistest: CLUSTER NODES: %q: %w", line, err)
		}
		for _, r := range f[8:] {
			if strings.HasPrefix(r, "[") {
				continue // a slot on the move: it stands in a range as well
			}
			first, last, ok := strings.Cut(r, "-")
			if !ok {
				last = first
			}
			from, err1 := strconv.Atoi(first)
			to, err2 := strconv.Atoi(last)
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("redistest: CLUSTER NODES: %q: %w", line, err)
			}
			n.slots = append(n.slots, slotRange{from, to})
		}
		n.role = fmt.Sprint(strings.TrimPrefix(f[2], "myself,"), " of ", f[3], " ", n.slots)
		view[f[0]] = n
	}
	return view, nil
}

// self returns what the running node s is by its own account.
func (c *Cluster) self(s *Server) node {
	c.tb.Helper()
	view, err := s.view()
	if err != nil {
		c.tb.Fatal(err)
	}
	return view[s.nodeID]
}

// Migration is a slot on its way from one master to another.
type Migration struct {
	c        *Cluster
	slot     int
	from, to *Server
}

// MigrateSlot begins to move a slot. From now on its present owner answers for the keys it still has and with ASK for
// all others. The keys move by MoveKeys, the slot by Finish.
func (c *Cluster) MigrateSlot(slot int, from, to *Server) *Migration {
	c.tb.Helper()
	to.do("cluster", "setslot", slot, "importing", from.nodeID)
	from.do("cluster", "setslot", slot, "migrating", to.nodeID)
	return &Migration{c: c, slot: slot, from: from, to: to}
}

// MoveKeys moves up to limit keys to the new owner and returns how many there were to move.
func (m *Migration) MoveKeys(limit int) int {
	m.c.tb.Helper()
	keys := m.from.do("cluster", "getkeysinslot", m.slot, limit).([]interface{})
	if len(keys) > 0 {
		args := []interface{}{"migrate", "127.0.0.1", m.to.port, "", 0, patience.Milliseconds(),
			"auth2", adminUser, adminPassword, "keys"}
		m.from.do(append(args, keys...)...)
	}
	return len(keys)
}

// Finish moves the remaining keys, gives the slot to its new owner, and returns once all nodes know. From then on the
// others answer with MOVED.
func (m *Migration) Finish() {
	m.c.tb.Helper()
	for m.MoveKeys(100) > 0 {
	}
	m.to.do("cluster", "setslot", m.slot, "node", m.to.nodeID)
	m.from.do("cluster", "setslot", m.slot, "node", m.to.nodeID)
	m.c.AwaitHealthy()
}
