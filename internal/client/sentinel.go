// This file owns Redis Sentinel: which server is the master, and leaving the one that no longer is.
//
// go-redis has a client for this. It is not used because its connections cannot open themselves anew, it hides behind
// "all sentinels are unreachable" that a password or the master's name is wrong, and one silent Sentinel holds up all
// callers whatever their contexts say.

package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis/v7"
)

// watchInterval is how often a Sentinel is asked whether the master is still the same, apart from when it announces that
// it is not. Connections do not tell: those to a master that hangs do not break, and one that was replaced by hand goes
// on for a while to take writes, which are lost.
const watchInterval = time.Second

// failoverClient is a client of the master.
type failoverClient struct {
	*redis.Client
	sentinels *sentinels
}

func newFailover(o Options) *failoverClient {
	s := &sentinels{
		masterName: o.MasterName,
		seeds:      o.Addrs,
		addrs:      o.Addrs,
		clients:    map[string]*redis.Client{},
		announced:  make(chan struct{}, 1),
	}

	toSentinel := o
	toSentinel.Username, toSentinel.Password, toSentinel.DB = o.SentinelUsername, nil, 0
	toSentinel.TLS, toSentinel.NoPassword = o.SentinelTLS, nil
	if o.SentinelPassword != "" {
		toSentinel.Password = func() (string, error) { return o.SentinelPassword, nil }
	}
	toSentinel.PoolSize, toSentinel.MinIdleConns = 4, 0
	s.dialer = newDialer(toSentinel)
	s.newClient = func(addr string) *redis.Client { return redis.NewClient(toSentinel.node(addr, s.dialer)) }

	s.toMaster = newDialer(o)
	s.toMaster.open = func(ctx context.Context, _ string) (*socket, error) {
		sock, reign, err := s.find(ctx, false)
		if err != nil {
			return nil, err
		}
		sock.done = context.AfterFunc(reign, func() { sock.Conn.Close() })
		return sock, nil
	}
	watching, stop := context.WithCancel(context.Background())
	s.stop = stop
	go s.watch(watching)
	go s.listen(watching)
	return &failoverClient{redis.NewClient(o.node(o.MasterName, s.toMaster)), s}
}

func (c *failoverClient) Server(string) string { return "" }
func (c *failoverClient) Servers() []string    { return nil }
func (c *failoverClient) Renew()               { c.sentinels.toMaster.renew() }

func (c *failoverClient) Close() error {
	defer c.sentinels.close()
	defer c.sentinels.toMaster.close()
	return c.Client.Close()
}

// sentinels know the master.
type sentinels struct {
	masterName string
	seeds      []string
	dialer     *dialer // of Sentinels
	toMaster   *dialer
	newClient  func(addr string) *redis.Client
	stop       context.CancelFunc // of watch and listen
	announced  chan struct{}

	mu              sync.Mutex               // for what follows
	addrs           []string                 // the one that was right last comes first; replaced, never changed
	clients         map[string]*redis.Client // nil once closed
	asked, answered int                      // counts questions; the number of the one whose answer is known now
	current         string                   // the master's address
	reign           context.Context          // ends when another becomes the master; nil before the first
	depose          context.CancelFunc
}

// find asks the Sentinels for the master and returns a connection to it. The context that it returns ends when the master is
// no longer that one. A Sentinel may not have heard of a failover for a while, or know an address that cannot be reached:
// unless the server that it names agrees that it is the master, the next one is asked. To look whether it still is the one
// that it was takes no connection, and returns none.
func (s *sentinels) find(ctx context.Context, look bool) (*socket, context.Context, error) {
	ctx, cancel := s.toMaster.bounded(ctx)
	defer cancel()
	s.mu.Lock()
	s.asked++
	addrs, turn, known := s.addrs, s.asked, s.current
	s.mu.Unlock()

	type master struct {
		sentinelAnswer
		sock *socket
	}
	var taken atomic.Bool    // by one of those that are asked at the same time
	var tried, told sync.Map // masters, and other Sentinels
	ask := func(ctx context.Context, addr string) (m master, err error) {
		if m.sentinelAnswer, err = s.ask(ctx, addr); err != nil {
			return master{}, err
		}
		told.Store(addr, m.others)
		if !look || m.master != known {
			if _, again := tried.LoadOrStore(m.master, true); again {
				return master{}, fmt.Errorf("sentinel %s names %s as well", addr, m.master)
			}
			if m.sock, err = s.connect(ctx, m.master); err != nil {
				return master{}, fmt.Errorf("sentinel %s names %s: %w", addr, m.master, err)
			}
		}
		if taken.Swap(true) {
			if m.sock != nil {
				m.sock.Close()
			}
			return master{}, fmt.Errorf("sentinel %s was not the first", addr)
		}
		return m, nil
	}
	found, from, err := firstAnswer(ctx, addrs, ask)
	if err != nil { // one that knows the master wrongly may know the others
		var more []string
		told.Range(func(_, others any) bool {
			more = appendNew(more, others.([]string))
			return true
		})
		if more = slices.DeleteFunc(more, func(addr string) bool { return slices.Contains(addrs, addr) }); len(more) > 0 {
			var errs error
			if found, from, errs = firstAnswer(ctx, more, ask); errs != nil {
				err = askError{err, errs}
			} else {
				err = nil
			}
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("no Sentinel told the address of master %q: %w", s.masterName, err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if (turn < s.answered || found.sock == nil) && found.master != s.current { // something newer is known
		if found.sock != nil {
			found.sock.Close()
		}
		return nil, nil, networkError{fmt.Errorf("%s is no longer the master", found.master)}
	}
	if turn > s.answered {
		s.answered = turn
		s.addrs = reorder(addrs, from, appendNew(found.others, s.seeds))
	}
	if s.reign == nil || s.current != found.master {
		if s.reign != nil {
			s.depose()
		}
		s.current = found.master
		s.reign, s.depose = context.WithCancel(context.Background())
	}
	return found.sock, s.reign, nil
}

// connect opens a connection to a server and asks it whether it is the master: as a replica it would answer reads with what
// it has. An error reply, such as NOPERM for INFO, is no reason not to try.
func (s *sentinels) connect(ctx context.Context, addr string) (*socket, error) {
	sock, err := s.toMaster.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	replied, cancel := context.WithTimeout(ctx, s.toMaster.replyTimeout)
	defer cancel()
	if err := until(replied, sock, func() error { return verifyMaster(sock, addr) }); err != nil {
		sock.Close()
		return nil, err
	}
	return sock, nil
}

func verifyMaster(s *socket, addr string) error {
	if _, err := s.Write([]byte("INFO replication\r\n")); err != nil {
		return err
	}
	replies := bufio.NewReader(s)
	line, err := replies.ReadString('\n')
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(line, "$")), 10, 16); err == nil {
		info := make([]byte, n+uint64(len("\r\n")))
		if _, err := io.ReadFull(replies, info); err != nil {
			return err
		}
		if bytes.Contains(info, []byte("role:slave")) {
			return networkError{fmt.Errorf("%s is a replica", addr)}
		}
	}
	if replies.Buffered() > 0 {
		return networkError{fmt.Errorf("connect to %s: more replies than commands", addr)}
	}
	return nil
}

// sentinelAnswer is what one Sentinel knows.
type sentinelAnswer struct {
	master string
	others []string // Sentinels of the same master
}

func (s *sentinels) ask(ctx context.Context, addr string) (sentinelAnswer, error) {
	var answer sentinelAnswer
	s.mu.Lock()
	client := s.clients[addr]
	if client == nil && s.clients != nil {
		client = s.newClient(addr)
		s.clients[addr] = client
	}
	s.mu.Unlock()
	if client == nil {
		return answer, redis.ErrClosed
	}

	master := redis.NewStringSliceCmd("sentinel", "get-master-addr-by-name", s.masterName)
	others := redis.NewSliceCmd("sentinel", "sentinels", s.masterName)
	pipe := client.Pipeline()
	_ = pipe.Process(master)
	_ = pipe.Process(others)
	_, _ = pipe.ExecContext(ctx)
	parts, err := master.Result()
	var reply redis.Error
	switch {
	case err == redis.Nil:
		return answer, fmt.Errorf("sentinel %s knows no master of that name: check master_name", addr)
	case errors.As(err, &reply) && strings.Contains(err.Error(), "unknown command"):
		return answer, fmt.Errorf("%s is not a Sentinel (%w)", addr, err)
	case errors.As(err, &reply):
		return answer, fmt.Errorf("sentinel %s: %w (sentinel_username, sentinel_password)", addr, err)
	case err != nil:
		return answer, fmt.Errorf("sentinel %s: %w", addr, err)
	case len(parts) != 2:
		return answer, fmt.Errorf("sentinel %s: unexpected reply %q", addr, parts)
	}
	answer.master = net.JoinHostPort(parts[0], parts[1])
	for _, other := range others.Val() {
		fields, _ := other.([]interface{})
		var host, port string
		for i := 0; i+1 < len(fields); i += 2 {
			switch fields[i] {
			case "ip":
				host, _ = fields[i+1].(string)
			case "port":
				port, _ = fields[i+1].(string)
			}
		}
		if host != "" && port != "" {
			answer.others = append(answer.others, net.JoinHostPort(host, port))
		}
	}
	return answer, nil
}

// watch keeps the master up to date.
func (s *sentinels) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.announced:
		case <-time.After(watchInterval):
		}
		// An error is for those to see who need the master.
		if sock, _, _ := s.find(ctx, true); sock != nil {
			sock.Close()
		}
	}
}

// listen listens to the announcements of the Sentinel that answered last.
func (s *sentinels) listen(ctx context.Context) {
	for {
		s.mu.Lock()
		addr := s.addrs[0]
		s.mu.Unlock()
		s.listenTo(ctx, addr)
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchInterval):
		}
	}
}

// listenTo returns when the connection fails, or when ctx ends.
func (s *sentinels) listenTo(ctx context.Context, addr string) {
	sock, err := s.dialer.connect(ctx, addr)
	if err != nil {
		return
	}
	defer sock.Close()
	defer context.AfterFunc(ctx, func() { sock.Close() })()
	if _, err := sock.Write([]byte("SUBSCRIBE +switch-master\r\n")); err != nil {
		return
	}
	for b := make([]byte, 1024); ; {
		if _, err := sock.Read(b); err != nil {
			return
		}
		// Whatever it is: to ask is simpler than to understand it.
		select {
		case s.announced <- struct{}{}:
		default:
		}
	}
}

func (s *sentinels) close() {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, client := range s.clients {
		client.Close()
	}
	s.clients = nil
	s.dialer.close()
	if s.reign != nil {
		s.depose()
	}
}

// reorder returns the addresses of Sentinels in the order in which they are to be asked: the one that was right first, the
// others as they were, and last those that were asked before it.
func reorder(addrs []string, right string, known []string) []string {
	at := slices.Index(addrs, right)
	if at < 0 {
		at = len(addrs) // all of them were asked
	}
	place := func(addr string) int {
		i := slices.Index(addrs, addr)
		switch {
		case i < 0:
			return len(addrs)
		case i < at:
			return len(addrs) + 1 + i
		}
		return i
	}
	order := appendNew([]string{right}, known)
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(place(a), place(b)) })
	return order
}

// appendNew appends those addresses that are not yet in the list.
func appendNew(list []string, more ...[]string) []string {
	for _, addrs := range more {
		for _, addr := range addrs {
			if !slices.Contains(list, addr) {
				list = append(list, addr)
			}
		}
	}
	return list
}
