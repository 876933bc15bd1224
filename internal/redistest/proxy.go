// This file owns a TCP proxy that puts delay, hold-ups, cut connections and replies that end early between a client and a
// server.

package redistest

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ProxyT forwards connections on a loopback port to a server. Its methods may be called from several goroutines.
type ProxyT struct {
	listener net.Listener
	delay    atomic.Int64
	turns    atomic.Int64
	accepted atomic.Int64
	silences atomic.Int64

	mu      sync.Mutex // protects what follows
	target  string
	conns   map[net.Conn]struct{}
	refuse  bool
	release chan struct{} // while new connections are held: closed to let them go on
	closed  bool
	meddle  func(request []byte) *Fault
}

// Fault is what a proxy does to one request. The zero value has the server execute it, and resets the connection instead of
// handing on the reply.
type Fault struct {
	Answer    string  // the error that answers each command of the request, of which the server gets nothing; "": none
	Meanwhile func()  // happens when there is a reply; nil: nothing
	Part      float64 // of the reply is handed on, from 0 to less than 1: of what the server sends at once, up to 16 KB
	Silent    bool    // the connection goes silent after that, instead of being reset
}

// Proxy starts a proxy to the target address.
func Proxy(tb testing.TB, target string) *ProxyT {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal("redistest: proxy: ", err)
	}
	p := &ProxyT{listener: listener, target: target, conns: map[net.Conn]struct{}{}}
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.accepted.Add(1)
			all.Add(1)
			go func() {
				defer all.Done()
				p.serve(client)
			}()
		}
	}()
	tb.Cleanup(func() {
		listener.Close()
		p.Hold(false)
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.CutAll()
		all.Wait()
	})
	return p
}

// Addr returns the address to connect to.
func (p *ProxyT) Addr() string { return p.listener.Addr().String() }

// SetDelay sets the latency each way, at first 0: what is read from now on arrives that much later.
func (p *ProxyT) SetDelay(d time.Duration) { p.delay.Store(int64(d)) }

// RoundTrips returns how often a client began to send: at first on its connection, or after it got something back.
// Commands that travel together count once, unless they are so large (over 16 KB) that replies come back in between.
func (p *ProxyT) RoundTrips() int { return int(p.turns.Load()) }

// Connections returns how many connections were accepted.
func (p *ProxyT) Connections() int { return int(p.accepted.Load()) }

// CutAll resets all connections.
func (p *ProxyT) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		cut(c)
	}
}

// Refuse makes the proxy reset new connections as soon as they are accepted, or forward them again.
func (p *ProxyT) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// SetTarget makes the proxy lead new connections to another address, as a name or an address that moves does.
func (p *ProxyT) SetTarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Hold makes the proxy accept new connections without forwarding anything, as a server that hangs; Hold(false) lets
// all of them go on. Connections that were open before are not affected.
func (p *ProxyT) Hold(hold bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case hold && p.release == nil:
		p.release = make(chan struct{})
	case !hold && p.release != nil:
		close(p.release)
		p.release = nil
	}
}

// Silence makes all connections that are open go silent, as a firewall does that drops them: nothing is forwarded any more,
// and nothing is reset.
func (p *ProxyT) Silence() { p.silences.Add(1) }

// Meddle makes the proxy ask what is to happen to each request, which is what a client sends at once, up to 16 KB: nil is
// nothing, and so is an answer to a request that ends within a command. decide is called from several goroutines. A nil
// decide ends it.
func (p *ProxyT) Meddle(decide func(request []byte) *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meddle = decide
}

// LoseReply makes the proxy lose the next reply to a request that holds the text: the server has executed it, meanwhile
// happens, and then the connection is reset.
func (p *ProxyT) LoseReply(text string, meanwhile func()) {
	var lost atomic.Bool
	p.Meddle(func(request []byte) *Fault {
		if !bytes.Contains(request, []byte(text)) || lost.Swap(true) {
			return nil
		}
		return &Fault{Meanwhile: meanwhile}
	})
}

// fault is what is to happen to a request.
func (p *ProxyT) fault(request []byte) *Fault {
	p.mu.Lock()
	meddle := p.meddle
	p.mu.Unlock()
	if meddle == nil {
		return nil
	}
	return meddle(request)
}

func (p *ProxyT) serve(client net.Conn) {
	defer client.Close()
	since := p.silences.Load()
	p.mu.Lock()
	refuse, release, target := p.refuse, p.release, p.target
	p.mu.Unlock()
	if refuse {
		cut(client)
		return
	}
	if !p.add(client) {
		return
	}
	defer p.remove(client)
	if release != nil {
		<-release
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		cut(client)
		return
	}
	defer server.Close()
	if !p.add(server) {
		return
	}
	defer p.remove(server)

	var asking, mute atomic.Bool
	var fault atomic.Pointer[Fault]
	silent := func() bool { return mute.Load() || p.silences.Load() != since }
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.forward(server, client, silent, func(request []byte) (handOn []byte, goOn bool) {
			first := !asking.Swap(true)
			if first {
				p.turns.Add(1)
			}
			f := p.fault(request)
			switch {
			case f == nil:
			case f.Answer == "":
				fault.Store(f)
			case first && commands(request) > 0:
				asking.Store(false)
				_, err := client.Write([]byte(strings.Repeat("-"+f.Answer+"\r\n", commands(request))))
				return nil, err == nil
			}
			return request, true
		})
	}()
	p.forward(client, server, silent, func(reply []byte) (handOn []byte, goOn bool) {
		asking.Store(false)
		f := fault.Load()
		if f == nil {
			return reply, true
		}
		if f.Meanwhile != nil {
			f.Meanwhile()
		}
		part := reply[:int(f.Part*float64(len(reply)))]
		if f.Silent {
			mute.Store(true)
			return part, true
		}
		_, _ = client.Write(part)
		cut(client)
		return nil, false
	})
	<-done
}

// commands returns how many commands a request has, or 0 if it ends within one.
func commands(request []byte) (n int) {
	header := func(kind string) (value int, ok bool) {
		line, rest, found := bytes.Cut(request, []byte("\r\n"))
		digits, ok := strings.CutPrefix(string(line), kind)
		value, err := strconv.Atoi(digits)
		request = rest
		return value, found && ok && err == nil
	}
	for ; len(request) > 0; n++ {
		args, ok := header("*")
		for range args {
			var size int
			if size, ok = header("$"); !ok || len(request) < size+len("\r\n") {
				return 0
			}
			request = request[size+len("\r\n"):]
		}
		if !ok {
			return 0
		}
	}
	return n
}

// forward copies src to dst, later by the delay, until either ends; what is read while it is silent is lost. pass is called
// for what is read; it returns what goes on of that, and whether more is to be read.
func (p *ProxyT) forward(dst, src net.Conn, silent func() bool, pass func([]byte) (handOn []byte, goOn bool)) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	chunks := make(chan chunk, 256)
	go func() {
		defer close(chunks)
		for {
			buf := make([]byte, 16<<10)
			n, err := src.Read(buf)
			if n > 0 && !silent() {
				handOn, goOn := pass(buf[:n])
				if !goOn {
					return
				}
				chunks <- chunk{handOn, time.Now().Add(time.Duration(p.delay.Load()))}
			}
			if err != nil {
				return
			}
		}
	}()
	alarm := newAlarm()
	defer alarm.close()
	for c := range chunks {
		alarm.sleep(time.Until(c.due))
		if _, err := dst.Write(c.data); err != nil {
			src.Close()
		}
	}
	if tcp, ok := dst.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// add registers a connection for CutAll. It is false when the proxy has ended.
func (p *ProxyT) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns[c] = struct{}{}
	}
	return !p.closed
}

func (p *ProxyT) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// cut closes a connection so that the other end sees a reset.
func cut(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
