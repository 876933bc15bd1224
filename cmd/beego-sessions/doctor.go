// doctor: what the server is and allows, what is wrong, and what to do about it.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/beego/beego/v2/server/web/session"
	"github.com/go-redis/redis/v7"
)

// grade is how bad a finding is.
type grade string

const (
	fine  grade = "ok"
	note  grade = "note"
	warn  grade = "warning"
	wrong grade = "error"
)

// doctor examines a site.
type doctor struct {
	*tool
	ctx   context.Context
	found map[grade]int
}

func (d *doctor) say(g grade, format string, args ...any) {
	d.found[g]++
	text := fmt.Sprintf(format, args...)
	if d.live {
		text = wrapped(text, screen-9, strings.Repeat(" ", 9))
	}
	fmt.Fprintf(d.stdout, "%-8s %s\n", g, text)
}

func (t *tool) doctor(ctx context.Context, _ string) error {
	d := &doctor{t, ctx, map[grade]int{}}
	session.SLogger = session.NewSessionLog(&warnings{say: func(line string) { d.say(warn, "%s", line) }})
	begun := time.Now()
	if err := t.connect(ctx); err != nil {
		d.say(wrong, "%s", strings.TrimPrefix(err.Error(), "session/redis: "))
		d.say(note, "nothing more can be examined")
		return errSaid
	}
	defer t.close()
	d.say(fine, "connected to %s in %s", t.site.Addr, milliseconds(time.Since(begun)))
	servers, err := t.servers()
	if err != nil {
		d.say(wrong, "which servers there are cannot be found out: %v", err)
	}
	for _, s := range servers {
		if len(servers) > 1 {
			fmt.Fprintf(d.stdout, "\n%s\n", s.Addr)
		}
		d.examine(s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(servers) > 1 {
		fmt.Fprintln(d.stdout)
	}
	switch errs, warnings := d.found[wrong], d.found[warn]; {
	case errs > 0:
		fmt.Fprintf(d.stdout, "%s, %s\n", plural(int64(errs), "error"), plural(int64(warnings), "warning"))
		return errSaid
	case warnings > 0:
		fmt.Fprintf(d.stdout, "no errors, %s\n", plural(int64(warnings), "warning"))
	default:
		fmt.Fprintln(d.stdout, "nothing is wrong")
	}
	return nil
}

// examine looks at one server.
func (d *doctor) examine(s server) {
	info, err := s.info(d.ctx)
	if err != nil {
		d.say(note, "INFO is refused, so that version, memory, eviction and persistence are unknown: %s", reason(err))
	} else {
		d.say(fine, "%s, up for %s, %s connected", info.product(), span(time.Duration(info.number("uptime_in_seconds"))*time.Second),
			plural(info.number("connected_clients"), "client"))
	}
	d.latency(s)
	d.rights(s)
	d.timeout(s)
	if info != nil {
		d.memory(info)
		d.clients(info)
		d.persistence(info)
	}
	d.sessions(s)
}

// reason is why a server refused something, without what was asked.
func reason(err error) string {
	if errors.Is(err, io.EOF) {
		return "the connection was closed, as some proxies do where they do not know a command"
	}
	text, _, _ := strings.Cut(err.Error(), ", with args beginning with")
	return plain(text)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2g ms", float64(d)/float64(time.Millisecond))
}

// slowRoundTrip is what a round trip to a server that is near does not take.
var slowRoundTrip = 5 * time.Millisecond

// latency asks for nothing, again and again.
func (d *doctor) latency(s server) {
	var took []time.Duration
	for range 51 {
		begun := time.Now()
		if err := s.ask(d.ctx, redis.NewStatusCmd("ping")); err != nil {
			d.say(wrong, "PING fails: %s", reason(err))
			return
		}
		took = append(took, time.Since(begun))
	}
	took = took[1:] // the first may have opened a connection
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	if median > slowRoundTrip {
		d.say(warn, "a round trip takes %s (median of %d, %s at worst), and a request needs one to four: the server should be nearer", milliseconds(median), len(took), milliseconds(worst))
		return
	}
	d.say(fine, "a round trip takes %s (median of %d, %s at worst)", milliseconds(median), len(took), milliseconds(worst))
}

// rights tries what the provider needs, on keys of its own.
func (d *doctor) rights(s server) {
	key, has := d.site.Spread()[s.Addr]
	if has {
		err := s.ask(d.ctx, redis.NewIntCmd("exists", key))
		has = err == nil || !strings.HasPrefix(err.Error(), "MOVED ")
	}
	if !has {
		d.say(note, "this server has no keys with the prefix: what it allows was not tried")
		return
	}
	other := d.site.Beside(key)
	defer func() {
		_ = s.ask(context.WithoutCancel(d.ctx), redis.NewIntCmd("del", key), redis.NewIntCmd("del", other))
	}()

	const life = 5 // seconds, if it cannot be removed
	scripted := redis.NewCmd("eval", "return redis.call('GET', KEYS[1])", 1, key)
	ifeq := redis.NewStatusCmd("set", other, "", "ifeq", "?", "ex", 1)
	scan := redis.NewScanCmd(nil, "scan", 0, "count", 1)
	var missing []string
	try := func(cmds ...redis.Cmder) {
		for _, cmd := range cmds {
			if refusal(s.ask(d.ctx, cmd)) {
				missing = append(missing, "+"+cmd.Name())
			}
		}
	}
	try(
		redis.NewStatusCmd("setex", key, life, ""),
		redis.NewStringCmd("get", key), redis.NewStatusCmd("set", key, "", "ex", life), redis.NewIntCmd("pttl", key),
		redis.NewIntCmd("expire", key, life), redis.NewIntCmd("persist", key), redis.NewIntCmd("expire", key, life),
		redis.NewIntCmd("exists", key), redis.NewStatusCmd("ping"),
		redis.NewIntCmd("append", key, "x"), redis.NewIntCmd("strlen", key), redis.NewStringCmd("getrange", key, 0, 1),
		redis.NewStatusCmd("rename", key, other), redis.NewIntCmd("del", other),
	)
	if d.site.UserKey != "" {
		try(redis.NewIntCmd("zadd", other, 1, "a"), redis.NewStringSliceCmd("zrange", other, 0, -1), redis.NewFloatCmd("zscore", other, "a"),
			redis.NewIntCmd("zrem", other, "a"), redis.NewIntCmd("zremrangebyscore", other, "-inf", 1), redis.NewSliceCmd("time"))
	}
	try(redis.NewIntCmd("del", key))
	slices.Sort(missing)
	missing = slices.Compact(missing)
	scriptErr, ifeqErr, scanErr := s.ask(d.ctx, scripted), s.ask(d.ctx, ifeq), s.ask(d.ctx, scan)
	digest := s.ask(d.ctx, redis.NewCmd("evalsha", strings.Repeat("0", 40), 1, key))
	scripts := (scriptErr == nil || scriptErr == redis.Nil) && digest != nil && strings.HasPrefix(digest.Error(), "NOSCRIPT")
	hasIfeq := ifeqErr == redis.Nil

	switch {
	case len(missing) > 0:
		d.say(wrong, "the user may not do all that sessions need: give it %s (ACL SETUSER)", strings.Join(missing, " "))
	default:
		d.say(fine, "all commands that sessions need are allowed")
	}
	switch {
	case scripts && hasIfeq:
		d.say(fine, "scripts run, and the server has SET … IFEQ: sessions are saved by the cheaper of both")
	case scripts:
		d.say(fine, "scripts run: sessions are saved by them (SET … IFEQ, which is cheaper, is in Valkey from 8.1 and Redis from 8.4 on)")
	case hasIfeq:
		d.say(note, "scripts are refused, but the server has SET … IFEQ, by which sessions are saved: %s", refused(scriptErr, digest))
	default:
		d.say(warn, "scripts are refused, and the server has no SET … IFEQ, so that requests of a session that save at the same time can lose "+
			"updates: give the user +eval and +evalsha, or use a server that has either: %s", refused(scriptErr, digest))
	}
	switch {
	case scanErr == nil:
		d.say(fine, "SCAN works")
	case refusal(scanErr):
		d.say(note, "SCAN is refused, so that there are no SessionAll and Sessions, and no list, count and top here: give the user +scan, if they are wanted: %s", reason(scanErr))
	default:
		d.say(warn, "SCAN fails, which SessionAll and Sessions need, and list, count and top: a proxy may not have it, but its servers do: %s", reason(scanErr))
	}
}

// refused is the first error, which is not that a script is unknown.
func refused(errs ...error) string {
	for _, err := range errs {
		if err != nil && err != redis.Nil && !strings.HasPrefix(err.Error(), "NOSCRIPT") {
			return reason(err)
		}
	}
	return "it does not say why"
}

// refusal tells whether a command is refused whatever it is about.
func refusal(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && err != redis.Nil &&
		(strings.HasPrefix(reply.Error(), "NOPERM") || strings.HasPrefix(reply.Error(), "ERR unknown command"))
}

// setting asks for CONFIG GET.
func (d *doctor) setting(s server, name string) (string, error) {
	cmd := redis.NewSliceCmd("config", "get", name)
	if err := s.ask(d.ctx, cmd); err != nil {
		return "", err
	}
	if pair := cmd.Val(); len(pair) == 2 {
		value, _ := pair[1].(string)
		return value, nil
	}
	return "", errors.New("it does not tell")
}

// timeout compares how long connections may be idle.
func (d *doctor) timeout(s server) {
	text, err := d.setting(s, "timeout")
	ours := d.site.Options.IdleTimeout
	var seconds int64
	if err == nil {
		_, err = fmt.Sscan(text, &seconds)
	}
	theirs := time.Duration(seconds) * time.Second
	switch {
	case err != nil:
		d.say(note, "when the server closes idle connections is unknown, as CONFIG GET is refused: keep idle_timeout (%s) below its timeout: %s", idle(ours), reason(err))
	case theirs == 0:
		d.say(fine, "the server does not close idle connections; idle_timeout is %s", idle(ours))
	case ours <= 0 || ours >= theirs:
		d.say(warn, `the server closes connections that are idle for %v, but idle_timeout is %s: each is opened anew when a request wants it; set "idle_timeout": "%v"`,
			theirs, idle(ours), theirs*9/10)
	default:
		d.say(fine, "idle_timeout is %s, below the server's timeout of %v", idle(ours), theirs)
	}
}

func idle(d time.Duration) string {
	if d <= 0 {
		return "never"
	}
	return d.String()
}

// memory looks for what would drop sessions, or refuse them.
func (d *doctor) memory(info facts) {
	used, limit, policy := info.number("used_memory"), info.number("maxmemory"), info["maxmemory_policy"]
	switch {
	case info["used_memory"] == "":
	case limit == 0:
		d.say(fine, "%s of memory are used, without a limit", size(used))
	case policy != "noeviction" && policy != "":
		d.say(warn, "at %s (%s are used) the server drops keys, sessions among them, by maxmemory-policy %s: users are logged out; use noeviction and enough memory", size(limit), size(used), policy)
	case used > limit/10*9:
		d.say(warn, "%s of %s are used, and at the limit no session is saved: raise maxmemory", size(used), size(limit))
	default:
		d.say(fine, "%s of %s are used; nothing is dropped at the limit, where no session is saved", size(used), size(limit))
	}
	if n := info.number("evicted_keys"); n > 0 {
		d.say(warn, "the server has dropped %s for want of memory since it started", plural(n, "key"))
	}
}

func (d *doctor) clients(info facts) {
	if n, most := info.number("connected_clients"), info.number("maxclients"); most > 0 && n > most/10*8 {
		d.say(warn, "%s of %s connections are used: raise maxclients, or lower poolsize (%d), which each process has for itself", thousands(n), thousands(most), d.site.Options.PoolSize)
	}
	if n := info.number("rejected_connections"); n > 0 {
		d.say(warn, "the server has refused %s since it started, as it had maxclients (%s)", plural(n, "connection"), info["maxclients"])
	}
}

func (d *doctor) persistence(info facts) {
	started := time.Now().Unix() - info.number("uptime_in_seconds")
	saved := info.number("rdb_saves") > 0 || info.number("rdb_last_save_time") > started+5 // which at the start is the start
	aof, replicas := info["aof_enabled"] == "1", info.number("connected_slaves")
	switch {
	case info["aof_enabled"] == "":
	case aof:
		d.say(fine, "sessions survive a restart of the server, by its append-only file")
	case replicas > 0:
		d.say(fine, "%s of the server", plural(replicas, "replica"))
	case saved:
		d.say(note, "the server saves its data from time to time, and has no replica: sessions that are newer than that do not survive a crash")
	default:
		d.say(note, "the server has neither an append-only file nor a replica, and has saved nothing since it started: a crash may log out everybody")
	}
}

// sampledKeys is how many keys the doctor looks at.
const sampledKeys = 200

// idLike is what beego's session ids look like, which have hexadecimal digits, and a prefix if one is configured.
var idLike = regexp.MustCompile(`[0-9a-f]{16}$`)

// sessions looks at some of them.
func (d *doctor) sessions(s server) {
	scan := redis.NewScanCmd(nil, "scan", 0, "count", sampledKeys)
	if s.ask(d.ctx, scan) != nil {
		return // which was said
	}
	keys, _ := scan.Val()
	if len(keys) == 0 {
		d.say(fine, "there are no keys yet")
		return
	}
	var bytes, usage, life []redis.Cmder
	foreign := 0
	for _, key := range keys {
		if id, ok := d.site.SessionID(key); ok {
			bytes = append(bytes, redis.NewIntCmd("strlen", key))
			usage = append(usage, redis.NewIntCmd("memory", "usage", key))
			life = append(life, redis.NewIntCmd("pttl", key))
			if !idLike.MatchString(id) {
				foreign++
			}
		}
	}
	if d.site.Prefix == "" && foreign > 0 {
		d.say(warn, "%d of %d sampled keys do not look like ids of beego, but count as sessions: set key_prefix if other programs use this database", foreign, len(keys))
	}
	if len(bytes) == 0 {
		d.say(note, "none of %d sampled keys is of a session", len(keys))
		return
	}
	if s.ask(d.ctx, slices.Concat(bytes, usage, life)...) != nil {
		return
	}
	session, n := mean(bytes)
	memory, measured := mean(usage)
	if measured == 0 && n > 0 {
		d.say(note, "a session has %s on average (of %d); what it takes of memory is unknown, as MEMORY USAGE is refused: %s", size(session), n, reason(usage[0].Err()))
	} else if n > 0 {
		d.say(fine, "a session has %s, and takes %s of memory, on average (of %d): a million of them %s", size(session), size(memory), n, size(memory*1_000_000))
	}
	eternal := 0
	for _, cmd := range life {
		if cmd.Err() == nil && cmd.(*redis.IntCmd).Val() == -1 {
			eternal++
		}
	}
	if eternal > 0 && d.site.Life > 0 {
		d.say(warn, "%d of %d sampled sessions never expire, though the life time is %v: were they written with another one?", eternal, len(life), d.site.Life)
	}
}

// mean is of those commands that have succeeded, and how many these are.
func mean(cmds []redis.Cmder) (mean int64, n int) {
	var sum int64
	for _, cmd := range cmds {
		if cmd.Err() == nil {
			sum += cmd.(*redis.IntCmd).Val()
			n++
		}
	}
	return sum / int64(max(n, 1)), n
}
