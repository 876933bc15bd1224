// This file owns the tests of replies that nobody has asked for: a server, or a proxy, that sends one too many.

package client_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
)

// replyServer answers PING, and GET of a key with "of" and the key, padded to size. What it sends for GETs that come
// together is for answer, and comes after what is late.
type replyServer struct {
	addr   string
	size   int
	answer func(p *peer, replies []string)
	asked  chan *peer // gets the connection after each answer
}

// peer is a connection of a replyServer.
type peer struct {
	io.ReadWriter
	wire wire // below TLS
	late []byte
}

// wire is what TLS writes to, if collect is not nil in place of the connection.
type wire struct {
	net.Conn
	collect *[]byte
}

func (w *wire) Write(b []byte) (int, error) {
	if w.collect == nil {
		return w.Conn.Write(b)
	}
	*w.collect = append(*w.collect, b...)
	return len(b), nil
}

// encoded returns what texts are on the wire, each in a record of its own.
func (p *peer) encoded(texts ...string) (b []byte) {
	p.wire.collect = &b
	for _, text := range texts {
		_, _ = io.WriteString(p, text)
	}
	p.wire.collect = nil
	return b
}

func (p *peer) sendTogether(texts ...string) { _, _ = p.wire.Write(p.encoded(texts...)) }

// startReplyServer starts one, with TLS if cfg is not nil.
func startReplyServer(t *testing.T, cfg *tls.Config, size int, answer func(p *peer, replies []string)) *replyServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &replyServer{l.Addr().String(), size, answer, make(chan *peer, 1000)}
	accept(t, l, func(c net.Conn) {
		p := &peer{wire: wire{Conn: c}}
		if p.ReadWriter = &p.wire; cfg != nil {
			p.ReadWriter = tls.Server(&p.wire, cfg)
		}
		go s.serve(p)
	})
	return s
}

func (s *replyServer) serve(p *peer) {
	for in := bufio.NewReader(p); ; {
		var replies []string
		for len(replies) == 0 || in.Buffered() > 0 {
			words := make([]string, 1)
			for i := 0; i < len(words); i++ {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if words[i] = strings.TrimSpace(line); i == 0 {
					var n int
					_, _ = fmt.Sscanf(line, "*%d", &n)
					words = append(words, make([]string, 2*n)...)
				}
			}
			if words[2] == "PING" {
				_, _ = io.WriteString(p, "+PONG\r\n")
				continue
			}
			value := fmt.Sprintf("%-*s", s.size, "of "+words[4])
			replies = append(replies, fmt.Sprintf("$%d\r\n%s\r\n", len(value), value))
		}
		_, _ = p.wire.Write(p.late)
		p.late = nil
		s.answer(p, replies)
		s.asked <- p
	}
}

func get(key string) *redis.StringCmd { return redis.NewStringCmd("get", key) }

// wantOf checks a value by replyServer.
func wantOf(t *testing.T, cmd *redis.StringCmd, key string) {
	t.Helper()
	if got := strings.TrimSpace(cmd.Val()); got != "of "+key {
		t.Errorf("%s was given what is %.20q", key, got)
	}
}

func serverTLS(t *testing.T, certs *redistest.Certs) *tls.Config {
	pair, err := tls.LoadX509KeyPair(certs.CertFile, certs.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

func TestAReplyTooManyReachesNobody(t *testing.T) {
	t.Parallel()
	certs := redistest.NewCerts(t)
	for _, how := range []struct {
		name   string
		plain  bool
		answer func(p *peer, reply string)
		after  func(p *peer, reply string) // the reply has reached the client
	}{
		{"at once", true, func(p *peer, reply string) { _, _ = io.WriteString(p, reply+reply) }, nil},
		{"in a record of its own", false, func(p *peer, reply string) { p.sendTogether(reply, reply) }, nil},
		{"late", true, func(p *peer, reply string) { _, _ = io.WriteString(p, reply) }, func(p *peer, reply string) {
			_, _ = io.WriteString(p, reply)
		}},
		{"half of it late", true, func(p *peer, reply string) {
			first, second := p.encoded(reply), p.encoded(reply)
			_, _ = p.wire.Write(append(first, second[:len(second)/2]...))
			p.late = second[len(second)/2:]
		}, nil},
	} {
		for _, size := range []int{20, 9000, 40000} {
			for _, secure := range []bool{false, true} {
				if !secure && !how.plain {
					continue
				}
				t.Run(fmt.Sprintf("%s, %d bytes, TLS %v", how.name, size, secure), func(t *testing.T) {
					t.Parallel()
					o := client.Options{PoolSize: 1}
					var cfg *tls.Config
					if secure {
						cfg, o.TLS = serverTLS(t, certs), clientTLS(t, certs)
					}
					var last string
					s := startReplyServer(t, cfg, size, func(p *peer, replies []string) {
						last = replies[0]
						how.answer(p, last)
					})
					o.Addrs = []string{s.addr}
					c := open(t, o)
					for i := range 4 {
						cmd := get(fmt.Sprint("user", i))
						if err := c.ProcessContext(within(t, 10*time.Second), cmd); err != nil {
							t.Fatal(err)
						}
						wantOf(t, cmd, fmt.Sprint("user", i))
						if p := <-s.asked; how.after != nil {
							how.after(p, last)
						}
					}
				})
			}
		}
	}
}

func TestAReplyTooManyFailsItsPipeline(t *testing.T) {
	t.Parallel()
	certs := redistest.NewCerts(t)
	const commands = 5
	for _, size := range []int{20, 9000, 40000} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, TLS %v", size, secure), func(t *testing.T) {
				t.Parallel()
				o := client.Options{PoolSize: 1}
				var cfg *tls.Config
				if secure {
					cfg, o.TLS = serverTLS(t, certs), clientTLS(t, certs)
				}
				twice := 0 // which reply comes twice; none if there are fewer
				s := startReplyServer(t, cfg, size, func(p *peer, replies []string) {
					if twice < len(replies) {
						replies = append(replies[:twice+1], replies[twice:]...)
					}
					p.sendTogether(replies...)
				})
				o.Addrs = []string{s.addr}
				c := open(t, o)
				for twice = range commands + 1 {
					pipe := c.Pipeline()
					var cmds []*redis.StringCmd
					for i := range commands {
						cmds = append(cmds, get(fmt.Sprint("user", i)))
						_ = pipe.Process(cmds[i])
					}
					_, err := pipe.ExecContext(within(t, 10*time.Second))
					<-s.asked
					if refused := strings.Contains(fmt.Sprint(err), "more replies than"); refused != (twice < commands) {
						t.Errorf("reply %d comes twice: %v", twice, err)
					}
					for i, cmd := range cmds {
						if (cmd.Err() != nil) != (err != nil) {
							t.Errorf("reply %d comes twice: command %d of the pipeline: %v", twice, i, cmd.Err())
						}
						if err == nil {
							wantOf(t, cmd, fmt.Sprint("user", i))
						}
					}
					for _, key := range []string{"alice", "bob"} {
						cmd := get(key)
						if err := c.ProcessContext(within(t, 10*time.Second), cmd); err != nil {
							t.Error(err)
						}
						wantOf(t, cmd, key)
						<-s.asked
					}
				}
			})
		}
	}
}
