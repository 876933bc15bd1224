// This file owns Redis Cluster: what go-redis v7's cluster client needs to work on Redis 7, and to notice in time that a
// node died.
//
// The client cannot read two replies of Redis 7, which have more elements than those of Redis 6: CLUSTER SLOTS, without
// which it does not work at all, and COMMAND, which it then asks for again before every command. And if pipelines fail
// because a node is down, it does not look for the new master for up to a minute. So it gets the slots from here, is told
// where a command's key is, and reads the slots again whenever a connection failed.

package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis/v7"
)

const (
	// How often a command or pipeline is sent again, after MOVED, ASK, CLUSTERDOWN, or an error of the connection. The
	// first time is at once, or nearly so, as following a slot is no failure; the pauses add up to half a second at
	// most. An outage that lasts longer is left to the caller.
	maxRedirects     = 8
	minRedirectPause = time.Millisecond
	maxRedirectPause = 256 * time.Millisecond

	// reloadInterval is how often the slots are read at most while connections fail.
	reloadInterval = 100 * time.Millisecond
)

// clusterClient is a client of all masters.
type clusterClient struct {
	*redis.ClusterClient
	topology *topology
	dialer   *dialer
}

func (c *clusterClient) Server(key string) string { return c.topology.master(key) }
func (c *clusterClient) Servers() []string        { return c.topology.all() }
func (c *clusterClient) Renew()                   { c.dialer.renew() }

func (c *clusterClient) Close() error {
	defer c.dialer.close()
	return c.ClusterClient.Close()
}

func newCluster(o Options) *clusterClient {
	o.DB = 0
	ask := o
	ask.PoolSize, ask.MinIdleConns, ask.IdleCheckFrequency = 1, 0, -1
	asker := newDialer(ask)
	t := &topology{
		newClient: func(addr string) *redis.Client { return redis.NewClient(ask.node(addr, asker)) },
		timeout:   asker.timeout,
		seeds:     o.Addrs,
		addrs:     o.Addrs,
	}
	d := newDialer(o)
	d.failed = t.reload
	t.client = redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:        o.Addrs,
		ClusterSlots: t.slots,
		OnNewNode:    func(node *redis.Client) { node.AddHook(nodeHook{}) },
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return d.dial(ctx, network, t.locate(addr))
		},

		MaxRedirects:    maxRedirects,
		MinRetryBackoff: minRedirectPause,
		MaxRetryBackoff: maxRedirectPause,

		PoolSize:           o.PoolSize,
		MinIdleConns:       o.MinIdleConns,
		MaxConnAge:         o.MaxConnAge,
		IdleTimeout:        o.IdleTimeout,
		IdleCheckFrequency: o.IdleCheckFrequency,
		ReadTimeout:        unlimited,
		WriteTimeout:       cmp.Or(o.WriteTimeout, d.replyTimeout),
		PoolTimeout:        cmp.Or(o.PoolTimeout, d.replyTimeout+time.Second),
	})
	return &clusterClient{t.client, t, d}
}

// topology knows the nodes of a cluster and which of them owns which slot.
type topology struct {
	client    *redis.ClusterClient
	newClient func(addr string) *redis.Client // to ask one node with
	timeout   time.Duration                   // for asking all of them
	seeds     []string
	reloading atomic.Bool
	masters   atomic.Pointer[[slotCount]string] // by slot; nil before the slots were read

	mu    sync.Mutex // for what follows
	addrs []string   // of all nodes; the one that answered last comes first; replaced, never changed
}

// reload makes the client read the slots again, in the background.
func (t *topology) reload() {
	if !t.reloading.CompareAndSwap(false, true) {
		return
	}
	go func() {
		_ = t.client.ReloadState() // commands go on with the slots they know; the next failure comes here again
		time.Sleep(reloadInterval)
		t.reloading.Store(false)
	}()
}

// slots asks the nodes for the masters and their slots. It leaves out the replicas, which would only get connections that
// nobody uses.
func (t *topology) slots() ([]redis.ClusterSlot, error) {
	t.mu.Lock()
	addrs := t.addrs
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), t.timeout)
	defer cancel()
	view, from, err := firstAnswer(ctx, addrs, t.ask)
	if err != nil {
		return nil, fmt.Errorf("no node of the cluster told its slots: %w", err)
	}
	masters := new([slotCount]string)
	for _, r := range view.slots {
		for slot := max(r.Start, 0); slot <= min(r.End, slotCount-1); slot++ {
			masters[slot] = r.Nodes[0].Addr
		}
	}
	t.masters.Store(masters)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addrs = appendNew([]string{from}, view.addrs, t.seeds)
	return view.slots, nil
}

// slotCount is how many slots the keys of a cluster have.
const slotCount = 16384

// master returns the address of the master that has a key, "" if that is not known.
func (t *topology) master(key string) string {
	if masters := t.masters.Load(); masters != nil {
		return masters[slot(key)]
	}
	return ""
}

// all returns the addresses of the masters that have slots, as far as they are known.
func (t *topology) all() []string {
	masters := t.masters.Load()
	if masters == nil {
		return nil
	}
	all := slices.Compact(slices.Clone(masters[:])) // ranges of slots
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(addr string) bool { return addr == "" })
}

// slot returns the slot of a key: CRC16, the variant of XMODEM, of its hash tag if it has one, as the cluster specification says.
func slot(key string) int {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			key = tag
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc = crc<<8 ^ crc16[byte(crc>>8)^key[i]]
	}
	return int(crc) % slotCount
}

var crc16 = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// locate completes an address without a host, which in MOVED and ASK stands for the host that was asked. Which one that was
// is not known here, but of which node the port is.
func (t *topology) locate(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != "" {
		return addr
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, known := range t.addrs {
		if _, p, _ := net.SplitHostPort(known); p == port {
			return known
		}
	}
	host, _, _ = net.SplitHostPort(t.addrs[0])
	return net.JoinHostPort(host, port)
}

// clusterView is the cluster as one node sees it.
type clusterView struct {
	slots []redis.ClusterSlot
	addrs []string
}

// ask asks one node, over a connection of its own: this is rare, and then more often than not because the others failed.
func (t *topology) ask(ctx context.Context, addr string) (clusterView, error) {
	client := t.newClient(addr)
	defer client.Close()

	cmd := redis.NewSliceCmd("cluster", "slots")
	err := client.ProcessContext(ctx, cmd)
	var reply redis.Error
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "ERR This instance has cluster support disabled"):
		return clusterView{}, fmt.Errorf("%s is not a cluster node (%w): use the standalone mode for it, or the addresses of cluster nodes", addr, err)
	case err != nil && strings.HasPrefix(err.Error(), "NOPERM"):
		return clusterView{}, fmt.Errorf("CLUSTER SLOTS on %s: %w; allow the user +cluster|slots", addr, err)
	case errors.As(err, &reply):
		return clusterView{}, fmt.Errorf("CLUSTER SLOTS on %s: %w", addr, err)
	case err != nil:
		return clusterView{}, err
	}
	view, err := parseSlots(cmd.Val(), addr)
	if err != nil {
		return clusterView{}, fmt.Errorf("CLUSTER SLOTS on %s: %w", addr, err)
	}
	return view, nil
}

// parseSlots reads the reply of CLUSTER SLOTS by the node at asked: for each range of slots its first and last, the
// master, and the replicas, each of them host, port, and more that differs between versions.
func parseSlots(reply []interface{}, asked string) (clusterView, error) {
	var view clusterView
	for _, entry := range reply {
		fields, _ := entry.([]interface{})
		if len(fields) < 3 {
			return clusterView{}, fmt.Errorf("unexpected entry %v", entry)
		}
		first, ok1 := fields[0].(int64)
		last, ok2 := fields[1].(int64)
		if !ok1 || !ok2 {
			return clusterView{}, fmt.Errorf("unexpected entry %v", entry)
		}
		var nodes []string
		for _, field := range fields[2:] {
			addr, err := nodeAddr(field, asked)
			if err != nil {
				return clusterView{}, err
			}
			nodes = append(nodes, addr)
		}
		view.slots = append(view.slots, redis.ClusterSlot{
			Start: int(first), End: int(last), Nodes: []redis.ClusterNode{{Addr: nodes[0]}},
		})
		view.addrs = appendNew(view.addrs, nodes)
	}
	if len(view.slots) == 0 {
		return clusterView{}, errors.New("the node knows no slots: it is not, or not yet, part of a cluster")
	}
	return view, nil
}

// nodeAddr reads host, port, id and metadata of a node. A host that the node does not know, NULL or empty, is the one that
// was asked; so is "?", a host name that is not configured, unless the metadata have an IP address.
func nodeAddr(field interface{}, asked string) (string, error) {
	parts, _ := field.([]interface{})
	if len(parts) < 2 {
		return "", fmt.Errorf("unexpected node %v", field)
	}
	host, _ := parts[0].(string)
	port, ok := parts[1].(int64)
	if !ok {
		return "", fmt.Errorf("unexpected node %v", field)
	}
	if host == "?" {
		host = ""
		if len(parts) > 3 {
			metadata, _ := parts[3].([]interface{})
			for i := 0; i+1 < len(metadata); i += 2 {
				if metadata[i] == "ip" {
					host, _ = metadata[i+1].(string)
				}
			}
		}
	}
	if host == "" {
		host, _, _ = net.SplitHostPort(asked)
	}
	return net.JoinHostPort(host, strconv.FormatInt(port, 10)), nil
}

// nodeHook answers COMMAND without asking the node, and sees each attempt of a command that go-redis sends again.
type nodeHook struct{}

// ended makes a command return at once.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (nodeHook) BeforeProcess(ctx context.Context, cmd redis.Cmder) (context.Context, error) {
	if _, ok := cmd.(*redis.CommandsInfoCmd); ok {
		return ended, nil
	}
	return ctx, nil
}

func (nodeHook) AfterProcess(ctx context.Context, cmd redis.Cmder) error {
	if info, ok := cmd.(*redis.CommandsInfoCmd); ok {
		*info = *redis.NewCommandsInfoCmdResult(commandTable, nil)
		return nil
	}
	noteLoss(ctx, cmd)
	return nil
}

func (nodeHook) BeforeProcessPipeline(ctx context.Context, _ []redis.Cmder) (context.Context, error) {
	return ctx, nil
}

func (nodeHook) AfterProcessPipeline(ctx context.Context, cmds []redis.Cmder) error {
	noteLoss(ctx, cmds...)
	return nil
}

type lossKey struct{}

// WithLosses has a client of a cluster set lost when it sends commands of ctx again because no reply came: they may have
// been executed more than once. Other clients send nothing again.
func WithLosses(ctx context.Context, lost *atomic.Bool) context.Context {
	return context.WithValue(ctx, lossKey{}, lost)
}

func noteLoss(ctx context.Context, cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		var reply redis.Error
		if err := cmd.Err(); err == nil || errors.As(err, &reply) || Unsent(err) {
			continue
		}
		if lost, ok := ctx.Value(lossKey{}).(*atomic.Bool); ok {
			lost.Store(true)
		}
		return
	}
}

// commandTable says where the key is in the commands of a session store. Those that have none go to any node, as do those
// that are missing here, which the node answers with MOVED. (go-redis itself finds the key of EVAL and EVALSHA, but
// writes a line to its log for a command that is not in the table.)
var commandTable = func() map[string]*redis.CommandInfo {
	table := map[string]*redis.CommandInfo{}
	add := func(keyPos int8, names ...string) {
		for _, name := range names {
			table[name] = &redis.CommandInfo{Name: name, FirstKeyPos: keyPos}
		}
	}
	add(0, "asking", "cluster", "dbsize", "echo", "info", "ping", "scan", "script", "time")
	add(1, "append", "del", "exists", "expire", "get", "getdel", "getex", "persist", "pexpire", "psetex", "pttl", "rename", "renamenx", "set", "setex",
		"strlen", "touch", "ttl", "type", "unlink", "zadd", "zrange", "zrem", "zremrangebyscore", "zscore")
	add(3, "eval", "evalsha")
	return table
}()
