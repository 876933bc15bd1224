// The configuration as beego's providers and this one read it: hundreds of strings, and what remains of differences.

package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego/beego/v2/server/web/session"
	beegoredis "github.com/beego/beego/v2/server/web/session/redis"
	beegocluster "github.com/beego/beego/v2/server/web/session/redis_cluster"
	beegosentinel "github.com/beego/beego/v2/server/web/session/redis_sentinel"
)

// difference is a way in which this provider reads configurations unlike beego's, on purpose.
type difference struct {
	mode        string // of the provider; empty: all
	text        string // a regular expression for the configurations in which it shows
	what        string // is read
	beego, this string // as; empty: anything
	reason      string
}

var differences = []difference{
	{"", ``, "idle", "30m0s", "5m0s", "the default of go-redis v7; firewalls drop what is idle for longer"},
	{"", `9223372037`, "idle", "never", "5m0s", "overflows with beego"},
	{"", ``, "poolsize", "a few per CPU", "100", "0, and JSON without it, is MaxPoolSize, as it is in beego's comma form"},
	{"redis_cluster", ``, "poolsize", "1000", "100", "one default for all: it is per server, and servers have 10000 connections"},
	{"redis_sentinel", `^[^{]`, "idle", "", "", "beego reads it from the part before, which is the master's name"},
	{"redis_sentinel", `^[^{]`, "retries", "", "", "beego reads it from the part before, which is the idle check frequency"},
	{"", `^[^{].*,-1(,more)?$`, "retries", "3", "0", "-1 is none, as in JSON"},

	{"", `^ADDR ,`, "starts", "no", "yes", "spaces around addresses do no harm"},
	{"", `"redis://ADDR"`, "starts", "no", "yes", "URLs"},
	{"", `(?i)"idle_(timeout|check_frequency)":(""|"300"|30|null)`, "starts", "no", "yes", "nothing, or a number of seconds"},
	{"", `(?i)"db_num":1,"idle_check|"30s","max_retries`, "starts", "no", "yes", "JSON without idle_timeout or idle_check_frequency"},
	{"redis_sentinel", `^\{`, "master", "", "mymaster", "the default of beego's comma form"},

	{"", `"poolsize":-1`, "starts", "panics", "no", "an error that says so"},
	{"", `"db_num":-1`, "starts", "yes", "no", "an error, rather than a database that was not meant"},
	{"", `"max_retries":-2`, "starts", "yes", "no", "with beego no command is sent at all, and none fails"},
	{"redis_cluster", `,4294967296`, "starts", "yes", "no", "no server has such a database"},
}

func TestBothReadTheSameConfigurations(t *testing.T) {
	session.SLogger = session.NewSessionLog(io.Discard)
	t.Cleanup(func() { session.SLogger = session.NewSessionLog(os.Stderr) })
	type readings struct {
		mode, text  string
		beego, this reading
	}
	var all []*readings
	var wg sync.WaitGroup
	free := make(chan struct{}, 16) // many of them only wait, until it is too long
	for _, mode := range []string{"redis", "redis_sentinel", "redis_cluster"} {
		for _, text := range configurations(mode) {
			r := &readings{mode: mode, text: text}
			all = append(all, r)
			free <- struct{}{}
			beegos, own := startFake(t), startFake(t)
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer func() { <-free }()
				r.beego, r.this = readByBeego(beegos, mode, text), readByThis(own, mode, text)
			}()
		}
	}
	wg.Wait()
	seen := map[int]bool{}
	for _, r := range all {
		for _, what := range []string{"starts", "password", "db", "master", "poolsize", "idle", "retries"} {
			if r.beego[what] == r.this[what] || what != "starts" && r.beego["starts"] != r.this["starts"] {
				continue
			}
			d := listed(r.mode, r.text, what, r.beego[what], r.this[what])
			if seen[d] = true; d < 0 {
				t.Errorf("%s: %s\n%s is %q with beego, %q here", r.mode, r.text, what, r.beego[what], r.this[what])
			}
		}
	}
	for i, d := range differences {
		if !seen[i] {
			t.Errorf("a difference is listed that is no longer there: %q", d)
		}
	}
	t.Log(len(all), "configurations")
}

// listed returns which difference it is, or -1.
func listed(mode, text, what, beego, this string) int {
	return slices.IndexFunc(differences, func(d difference) bool {
		return (d.mode == "" || d.mode == mode) && regexp.MustCompile(d.text).MatchString(text) &&
			d.what == what && (d.beego == "" || d.beego == beego) && (d.this == "" || d.this == this)
	})
}

// configurations vary one part each of a usual one, and then all at random. ADDR stands for a server's address.
func configurations(mode string) (list []string) {
	parts := [][]string{
		{"ADDR", "ADDR ", "localhost:PORT", ":PORT", "ADDR;ADDR", "ADDR; ADDR", "ADDR;", "redis://ADDR", "us@ADDR"},
		{"7", "", "0", "07", "+7", " 7", "7 ", "-1", "-0", "many", "1.5", "1e2", "0x10", "1_000", "99999999999999999999"},
		{"astaxie", "", " a b ", "1234", "p@ss", "a;b", "pä", "://", `"`},
		{"1", "", "0", "01", "+1", " 3", "3 ", "-1", "-0", "x", "1.5", "0x1", "1_0", "99", "4294967296", "99999999999999999999"},
		{"30", "", "0", "030", "+30", " 30", "-1", "1.5", "x", "30s", "31536001", "9223372037"},
		{"60", "", "0", "-1", "x", "9223372037"},
		{"5", "", "0", "05", "-1", "-2", "x"},
	}
	json := [][2]string{
		{"save_path", `"ADDR" "ADDR;ADDR" "redis://ADDR"`},
		{"poolsize", `7 0 -1 1e2 7.0 "7" null true`},
		{"password", `"astaxie" "" 12 null`},
		{"db_num", `1 0 -1 1.0 "1" null 99`},
		{"idle_timeout", `"30s" "" "0s" "1h30m" "-1s" "10000h" "300" "soon" 30 null`},
		{"idle_check_frequency", `"60s" "" "0s" "-1s" "10000h" "300" "soon" 30 null`},
		{"max_retries", `5 0 -1 -2 "5" null`},
		{"unknown", `1 null`},
	}
	switch mode {
	case "redis_sentinel":
		parts = slices.Insert(parts, 4, []string{"main", "", " main", "45", "a:b"})
		json = append(json, [2]string{"master_name", `"main" "" null 1`})
	case "redis_cluster":
		parts[3][0] = "0"
	}

	usual := make([]string, len(parts))
	for i := range parts {
		usual[i] = parts[i][0]
	}
	for i := range parts {
		list = append(list, strings.Join(usual[:i+1], ","))
		for _, other := range parts[i][1:] {
			list = append(list, strings.Join(slices.Replace(slices.Clone(usual), i, i+1, other), ","))
		}
	}
	list = append(list, strings.Join(usual, ",")+",more", " "+strings.Join(usual, ",")+"\n")
	random := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		some := make([]string, 1+random.IntN(len(parts)))
		for i := range some {
			some[i] = parts[i][random.IntN(len(parts[i]))]
		}
		some[0] = "ADDR"
		list = append(list, strings.Join(some, ","))
	}

	object := func(changed, value string) string {
		var members []string
		for _, member := range json {
			first, _, _ := strings.Cut(member[1], " ")
			switch {
			case member[0] != changed:
				members = append(members, fmt.Sprintf("%q:%s", member[0], first))
			case value != "":
				members = append(members, fmt.Sprintf("%q:%s", member[0], value))
			}
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	for _, member := range json {
		without := object(member[0], "")
		list = append(list, without, regexp.MustCompile(`"\w+":`).ReplaceAllStringFunc(without, strings.ToUpper))
		for _, value := range strings.Fields(member[1]) {
			list = append(list, object(member[0], value))
		}
	}
	return append(list, "{", object("", "")+"x", "[]")
}

// reading is what is in effect, or that the provider does not start.
type reading map[string]string

func started(p session.Provider, s *fakeServer, text string) (failed reading) {
	defer func() {
		if r := recover(); r != nil {
			failed = reading{"starts": "panics"}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, port, _ := net.SplitHostPort(s.addr)
	text = strings.NewReplacer("ADDR", s.addr, "PORT", port).Replace(text)
	if err := p.SessionInit(ctx, life, text); err != nil {
		return reading{"starts": "no"}
	}
	return nil
}

func readByBeego(s *fakeServer, mode, text string) reading {
	defer s.Close()
	p := map[string]session.Provider{
		"redis": new(beegoredis.Provider), "redis_sentinel": new(beegosentinel.Provider), "redis_cluster": new(beegocluster.Provider),
	}[mode]
	failed := started(p, s, text)
	fields := reflect.ValueOf(p).Elem()
	if client := fields.FieldByName("poollist"); !client.IsNil() {
		_ = unsealed(client).Interface().(io.Closer).Close()
	}
	if failed != nil {
		return failed
	}
	got := s.asked()
	// go-redis v9 takes zero for its default.
	got["poolsize"] = strconv.Itoa(int(fields.FieldByName("Poolsize").Int()))
	if got["poolsize"] == "0" {
		got["poolsize"] = "a few per CPU"
	}
	got["idle"] = "30m0s"
	if d := fields.FieldByName("idleTimeout").Int(); d < 0 {
		got["idle"] = "never"
	} else if d > 0 {
		got["idle"] = time.Duration(d).String()
	}
	got["retries"] = "3"
	if n := fields.FieldByName("MaxRetries").Int(); n != 0 {
		got["retries"] = strconv.Itoa(int(max(n, 0)))
	}
	return got
}

func readByThis(s *fakeServer, mode, text string) reading {
	defer s.Close()
	p := new(redis.Provider) // registered under the names of beego's, which may have them here
	unsealed(reflect.ValueOf(p).Elem().FieldByName("mode")).Set(reflect.ValueOf(map[string]client.Mode{
		"redis": client.Standalone, "redis_sentinel": client.Sentinel, "redis_cluster": client.Cluster,
	}[mode]))
	if failed := started(p, s, text); failed != nil {
		return failed
	}
	got := s.asked()
	got["poolsize"], got["idle"], got["retries"] = strconv.Itoa(p.Poolsize), p.IdleTimeoutStr, strconv.Itoa(p.MaxRetries)
	if strings.HasPrefix(p.IdleTimeoutStr, "-") {
		got["idle"] = "never"
	}
	return got
}

// unsealed is a field that is not exported, for reading and writing.
func unsealed(field reflect.Value) reflect.Value {
	return reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
}

// fakeServer is a Redis server without commands that matter, a Sentinel and a cluster, all in one. It keeps what it is asked for.
type fakeServer struct {
	net.Listener
	addr string

	mu  sync.Mutex
	got reading
}

func startFake(t *testing.T) *fakeServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeServer{Listener: l, addr: l.Addr().String(), got: reading{"starts": "yes", "password": "", "db": "0", "master": ""}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *fakeServer) asked() reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := reading{}
	for key, value := range s.got {
		got[key] = value
	}
	return got
}

func (s *fakeServer) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, s.reply(args)); err != nil {
			return
		}
	}
}

// readCommand reads a command, which may be a line of words.
func readCommand(r *bufio.Reader) ([]string, error) {
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "*") {
		return strings.Fields(line), err
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		if line, err = r.ReadString('\n'); err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(strings.TrimSpace(line[1:]))
		if err != nil {
			return nil, err
		}
		arg := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r, arg); err != nil {
			return nil, err
		}
		args[i] = string(arg[:size])
	}
	return args, nil
}

func (s *fakeServer) reply(args []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	host, port, _ := net.SplitHostPort(s.addr)
	bulk := func(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }
	switch command := strings.ToLower(args[0]); {
	case command == "auth":
		s.got["password"] = args[1]
		return "+OK\r\n"
	case command == "select":
		if n, err := strconv.Atoi(args[1]); err != nil || n > 15 {
			return "-ERR DB index is out of range\r\n"
		}
		s.got["db"] = args[1]
		return "+OK\r\n"
	case command == "sentinel" && args[1] == "get-master-addr-by-name":
		s.got["master"] = args[2]
		return "*2\r\n" + bulk(host) + bulk(port)
	case command == "sentinel", command == "command":
		return "*0\r\n"
	case command == "subscribe":
		return "*3\r\n" + bulk("subscribe") + bulk(args[1]) + ":1\r\n"
	case command == "cluster" && strings.EqualFold(args[1], "slots"):
		return "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n" + bulk(host) + ":" + port + "\r\n" + bulk("id")
	case command == "info":
		return bulk("role:master\r\n")
	case command == "ping":
		return "+PONG\r\n"
	}
	return "-ERR unknown command\r\n"
}
