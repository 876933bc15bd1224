// This file owns Redis Sentinel: which server is the master, and leaving the one that no longer is.
//
// go-redis has a client for this. It is not used because its connections cannot open themselves anew, it hides behind
// "all sentinels are unreachable" that a password or the master's name is wrong, and one silent Sentinel holds up all
// callers whatever their contexts say.

package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	if o.SentinelPassword != "" {
		toSentinel.Password = func() (string, error) { return o.SentinelPassword, nil }
	}
	toSentinel.PoolSize, toSentinel.MinIdleConns = 4, 0
	s.dialer = newDialer(toSentinel)
	s.newClient = func(addr string) *redis.Client { return redis.NewClient(toSentinel.node(addr, s.dialer)) }

	toMaster := newDialer(o)
	toMaster.open = func(ctx context.Context, _ string) (*socket, error) {
		master, reign, err := s.master(ctx)
		if err != nil {
			return nil, err
		}
		sock, err := toMaster.connect(ctx, master)
		if err != nil {
			return nil, err
		}
		if err := verifyMaster(sock, master, toMaster.replyTimeout); err != nil {
			sock.Close()
			return nil, err
		}
		sock.done = context.AfterFunc(reign, func() { sock.Conn.Close() })
		return sock, nil
	}
	watching, stop := context.WithCancel(context.Background())
	s.stop = stop
	go s.watch(watching)
	go s.listen(watching)
	return &failoverClient{redis.NewClient(o.node(o.MasterName, toMaster)), s}
}

// verifyMaster asks a server whether it agrees that it is the master. After a failover a Sentinel may not have heard of
// it for a while, and the former master answers reads with what it has, as a replica. An error reply, such as NOPERM for
// INFO, is no reason not to try.
func verifyMaster(s *socket, addr string, limit time.Duration) error {
	if err := s.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := s.Write([]byte("INFO replication\r\n")); err != nil {
		return err
	}
	replies := bufio.NewReader(s)
	line, err := replies.ReadString('\n')
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "$"))); err == nil {
		info := make([]byte, n+len("\r\n"))
		if _, err := io.ReadFull(replies, info); err != nil {
			return err
		}
		if bytes.Contains(info, []byte("role:slave")) {
			return networkError{fmt.Errorf("%s is a replica, though a Sentinel still calls it the master", addr)}
		}
	}
	return s.SetDeadline(time.Time{})
}

func (c *failoverClient) Close() error {
	defer c.sentinels.close()
	return c.Client.Close()
}

// sentinels know the master.
type sentinels struct {
	masterName string
	seeds      []string
	dialer     *dialer
	newClient  func(addr string) *redis.Client
	stop       context.CancelFunc // of watch and listen
	announced  chan struct{}

	mu              sync.Mutex               // for what follows
	addrs           []string                 // the one that answered last comes first; replaced, never changed
	clients         map[string]*redis.Client // nil once closed
	asked, answered int                      // counts questions; the number of the one whose answer is known now
	current         string                   // the master's address
	reign           context.Context          // ends when another becomes the master; nil before the first
	depose          context.CancelFunc
}

// master asks for the master's address. The context that it returns ends when the master is no longer that one.
func (s *sentinels) master(ctx context.Context) (string, context.Context, error) {
	s.mu.Lock()
	s.asked++
	addrs, turn := s.addrs, s.asked
	s.mu.Unlock()
	answer, from, err := firstAnswer(ctx, addrs, s.ask)
	if err != nil {
		return "", nil, fmt.Errorf("no Sentinel told the address of master %q: %w", s.masterName, err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if turn < s.answered {
		return s.current, s.reign, nil // asked earlier than what is known now
	}
	s.answered = turn
	s.addrs = appendNew([]string{from}, answer.others, s.seeds)
	if s.reign == nil || s.current != answer.master {
		if s.reign != nil {
			s.depose()
		}
		s.current = answer.master
		s.reign, s.depose = context.WithCancel(context.Background())
	}
	return s.current, s.reign, nil
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
		_, _, _ = s.master(ctx)
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
	if s.reign != nil {
		s.depose()
	}
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
