// top: what goes on, again and again.

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-redis/redis/v7"
)

const (
	stepKeys  = 250  // that a server looks at in one step
	viewKeys  = 5000 // that are looked at for one view, on all servers together
	most      = 10   // sessions are shown as the largest
	decodable = 1 << 20
)

const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

func (t *tool) top(ctx context.Context, _ string) error {
	servers, err := t.servers()
	if err != nil {
		return err
	}
	v := &view{tool: t, servers: servers, parts: make([]sampled, len(servers)), before: make([]facts, len(servers)), largest: map[string]*large{}}
	if t.live {
		fmt.Fprint(t.stdout, enterScreen)
		defer fmt.Fprint(t.stdout, leaveScreen)
	}
	tick := time.NewTicker(t.options.every)
	defer tick.Stop()
	for drawn := 1; ; drawn++ {
		text := v.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if t.live {
			text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
		}
		if _, err := fmt.Fprint(t.stdout, text); err != nil {
			return err
		}
		if drawn == t.options.n {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// view is what top knows.
type view struct {
	*tool
	servers []server
	parts   []sampled
	before  []facts // of each server when it was asked last
	asked   time.Time
	largest map[string]*large // by id
}

// sampled is what was seen of the keys of a server. SCAN returns them in no order, so that what it has returned so far
// is like the rest.
type sampled struct {
	cursor         uint64
	keys, sessions int64
	whole          bool // all were seen
	refused        error
	asked          int64 // commands of top itself since INFO, that others send as well
}

// large is one of the largest sessions.
type large struct {
	on      int // which server
	bytes   int64
	looked  bool // at what follows
	created time.Time
	expires time.Time
	user    string
}

// look asks the servers, and returns what there is to see.
func (v *view) look(ctx context.Context) string {
	v.sample(ctx)
	v.follow(ctx)

	now := time.Now()
	elapsed := now.Sub(v.asked).Seconds()
	if v.asked.IsZero() {
		elapsed = 0
	}
	v.asked = now
	var b strings.Builder
	fmt.Fprintf(&b, "beego-sessions   %s   %s, every %v\n\n", cut(v.site.Addr, 40), now.Format(time.TimeOnly), v.options.every)
	v.count(&b, ctx, elapsed)
	v.list(&b)
	return b.String()
}

// count writes what each server does.
func (v *view) count(b *strings.Builder, ctx context.Context, elapsed float64) {
	width := len("SERVER")
	for _, s := range v.servers {
		width = max(width, len(s.Addr))
	}
	var rows strings.Builder
	sessions, known, scanned := float64(0), true, int64(0)
	fmt.Fprintf(&rows, "%-*s %11s %10s %8s %8s %9s %8s %7s\n", width, "SERVER", "KEYS", "COMMANDS/S", "GET/S", "SET/S", "SCRIPTS/S", "MEMORY", "CLIENTS")
	for i, s := range v.servers {
		info, err := s.info(ctx)
		if err != nil {
			known = false
			fmt.Fprintf(&rows, "%-*s does not tell: %s\n", width, s.Addr, cut(reason(err), 60))
			v.before[i] = nil
			continue
		}
		last, own := v.before[i], v.parts[i].asked
		v.before[i], v.parts[i].asked = info, 0
		rate := func(own int64, calls func(facts) int64) string {
			if last == nil || elapsed <= 0 {
				return "-"
			}
			return thousands(int64(float64(max(calls(info)-calls(last)-own, 0))/elapsed + .5))
		}
		keys, p := info.keys(v.site.Options.DB), v.parts[i]
		if p.keys > 0 && keys > 0 {
			sessions += float64(keys) * float64(p.sessions) / float64(p.keys)
			scanned += p.sessions
		} else if p.keys != keys {
			known, scanned = false, scanned+p.sessions
		}
		fmt.Fprintf(&rows, "%-*s %11s %10s %8s %8s %9s %8s %7s\n", width, s.Addr, thousands(keys),
			rate(own, others), rate(0, func(f facts) int64 { return f.calls("get") }), rate(0, func(f facts) int64 { return f.calls("set", "setex") }),
			rate(0, func(f facts) int64 { return f.calls("eval", "evalsha") }), size(info.number("used_memory")), info["connected_clients"])
	}
	switch refused := v.refused(); {
	case refused != nil:
		fmt.Fprintf(b, "sessions   unknown, as SCAN fails: %s\n\n", cut(reason(refused), 60))
	case !known:
		fmt.Fprintf(b, "sessions   unknown; %s seen so far\n\n", thousands(scanned))
	default:
		fmt.Fprintf(b, "sessions   about %s\n\n", thousands(about(sessions)))
	}
	b.WriteString(rows.String())
}

// others is how many commands were called by others than top.
func others(f facts) (n int64) {
	for name := range f {
		if command, ok := strings.CutPrefix(name, "cmdstat_"); ok && !slices.Contains([]string{"scan", "strlen", "info"}, command) {
			n += f.calls(command)
		}
	}
	return n
}

// about rounds to three digits, as an estimate has no more.
func about(x float64) int64 {
	n, unit := int64(x+.5), int64(1)
	for n/unit >= 1000 {
		unit *= 10
	}
	return (n + unit/2) / unit * unit
}

func (v *view) refused() error {
	for _, p := range v.parts {
		if p.refused != nil {
			return p.refused
		}
	}
	return nil
}

// sample looks at some more keys of each server.
func (v *view) sample(ctx context.Context) {
	steps := max(viewKeys/stepKeys/len(v.servers), 1)
	for i := range v.parts {
		p := &v.parts[i]
		for range steps {
			scan := redis.NewScanCmd(nil, "scan", p.cursor, "count", stepKeys)
			if p.refused = v.servers[i].ask(ctx, scan); p.refused != nil {
				break
			}
			keys, next := scan.Val()
			p.keys += int64(len(keys))
			p.sessions += v.weigh(ctx, i, keys)
			if p.cursor = next; next == 0 {
				p.whole = true
				break // and begin anew at the next view
			}
		}
	}
}

// weigh takes note of the largest among some keys, and returns how many are of sessions.
func (v *view) weigh(ctx context.Context, on int, keys []string) (sessions int64) {
	s := v.servers[on]
	var ids []string
	var cmds []redis.Cmder
	for _, key := range keys {
		if id, ok := v.site.SessionID(key); ok {
			ids = append(ids, id)
			cmds = append(cmds, redis.NewIntCmd("strlen", key))
		}
	}
	if len(cmds) > 1 && s.ask(ctx, cmds...) != nil {
		return int64(len(ids))
	} else if len(cmds) == 1 {
		_ = s.ask(ctx, cmds...) // and if it fails, that is in the command
	}
	for i, cmd := range cmds {
		if cmd.Err() == nil {
			v.note(on, ids[i], cmd.(*redis.IntCmd).Val())
		}
	}
	return int64(len(ids))
}

// note keeps a session that is among the largest.
func (v *view) note(on int, id string, bytes int64) {
	if l, ok := v.largest[id]; ok {
		l.bytes = bytes
		return
	}
	v.largest[id] = &large{on: on, bytes: bytes}
	if len(v.largest) > most {
		ordered := v.ordered()
		delete(v.largest, ordered[len(ordered)-1])
	}
}

// ordered are the ids of the largest sessions, the largest first.
func (v *view) ordered() []string {
	return slices.SortedFunc(maps.Keys(v.largest), func(a, b string) int {
		return cmp.Or(cmp.Compare(v.largest[b].bytes, v.largest[a].bytes), cmp.Compare(a, b))
	})
}

// follow looks at those of the largest sessions that are new, unless they are so large that it would be much to ask for, and at
// how large all are now and how long they live.
func (v *view) follow(ctx context.Context) {
	for id, l := range v.largest {
		if l.looked = l.looked || l.bytes > decodable; !l.looked {
			found, err := v.site.Look(ctx, []string{id})
			if err != nil {
				continue
			}
			v.parts[l.on].asked += 2
			l.looked, l.created, l.user = true, found[0].Value.Created(), v.userOf(found[0].Value)
		}
		bytes, life := redis.NewIntCmd("strlen", v.site.Prefix+id), redis.NewIntCmd("pttl", v.site.Prefix+id)
		if v.servers[l.on].ask(ctx, bytes, life) != nil || bytes.Err() != nil || life.Err() != nil {
			continue
		}
		v.parts[l.on].asked++
		l.bytes, l.expires = bytes.Val(), time.Time{}
		switch ms := life.Val(); {
		case ms == -2:
			delete(v.largest, id)
		case ms >= 0:
			l.expires = time.Now().Add(time.Duration(ms) * time.Millisecond)
		}
	}
}

// list writes the largest sessions.
func (v *view) list(b *strings.Builder) {
	if len(v.largest) == 0 {
		return
	}
	seen, whole := int64(0), true
	for _, p := range v.parts {
		seen, whole = seen+p.sessions, whole && p.whole
	}
	if whole {
		b.WriteString("\nThe largest:\n")
	} else {
		fmt.Fprintf(b, "\nThe largest of %s looked at so far:\n", plural(seen, "session"))
	}
	lines := table{w: b, user: v.site.UserKey != ""}
	for _, id := range v.ordered() {
		l := v.largest[id]
		lines.line(v.id(id), l.created, l.expires, l.bytes, l.user)
	}
}
