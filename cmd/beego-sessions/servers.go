// What servers are asked beside sessions.

package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/beego-session/redis/internal/inside"
	"github.com/go-redis/redis/v7"
)

// server is one that has keys.
type server struct{ inside.Master }

// servers returns all of them.
func (t *tool) servers() ([]server, error) {
	masters, err := t.site.Masters()
	var all []server
	for _, m := range masters {
		all = append(all, server{m})
	}
	return all, err
}

// patience is how long a server has for an answer.
const patience = 5 * time.Second

// ask sends commands in one round trip, and returns the first error that is not about one of them alone.
func (s server) ask(ctx context.Context, cmds ...redis.Cmder) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if len(cmds) == 1 {
		return s.ProcessContext(ctx, cmds[0])
	}
	pipe := s.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(cmd)
	}
	_, err := pipe.ExecContext(ctx)
	if _, ok := err.(redis.Error); ok {
		return nil // which is in its command
	}
	return err
}

// facts are what INFO says.
type facts map[string]string

// info asks for INFO. Where the server does not give all of it, it may give its usual part.
func (s server) info(ctx context.Context) (facts, error) {
	all := redis.NewStringCmd("info", "all")
	err := s.ask(ctx, all)
	if _, refused := err.(redis.Error); refused {
		all = redis.NewStringCmd("info")
		err = s.ask(ctx, all)
	}
	if err != nil {
		return nil, err
	}
	f := facts{}
	for _, line := range strings.Split(all.Val(), "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			f[name] = value
		}
	}
	return f, nil
}

func (f facts) number(name string) int64 {
	n, _ := strconv.ParseInt(f[name], 10, 64)
	return n
}

// part is a value in one like calls=1,usec=2.
func part(value, name string) int64 {
	for _, field := range strings.Split(value, ",") {
		if text, ok := strings.CutPrefix(field, name+"="); ok {
			n, _ := strconv.ParseInt(text, 10, 64)
			return n
		}
	}
	return 0
}

// keys is how many keys a database has.
func (f facts) keys(db int) int64 { return part(f["db"+strconv.Itoa(db)], "keys") }

// calls is how often one of these commands was called.
func (f facts) calls(commands ...string) (n int64) {
	for _, command := range commands {
		n += part(f["cmdstat_"+command], "calls")
	}
	return n
}

// product is what the server is, as in Redis 7.0.15.
func (f facts) product() string {
	for _, name := range []string{"valkey", "redict", "redis"} {
		if version := f[name+"_version"]; version != "" {
			return strings.ToUpper(name[:1]) + name[1:] + " " + version
		}
	}
	return "a server that does not tell its version"
}
