// What an ACL user must be allowed, as docs/configuration.md has it: no less, and no more. And the user of SECURITY.md.

package redis_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
)

// rightsFor returns what the table of rights in docs/configuration.md has in these rows.
func rightsFor(t testing.TB, rows ...string) (rights []string) {
	t.Helper()
	page, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		found := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(row) + " \\| `([^`]*)`").FindSubmatch(page)
		if found == nil {
			t.Fatalf("docs/configuration.md has no rights for %s", row)
		}
		rights = append(rights, strings.Fields(strings.ReplaceAll(string(found[1]), `\|`, "|"))...)
	}
	return rights
}

const (
	everySite      = "every site"
	withoutScripts = "doing without scripts"
)

// uses are what sites do, by the rows of that table. What fails is of no matter: the server tells what it has refused.
var uses = []struct {
	row  string
	on   func(*testing.T) *aclUser // where, if not on one server
	does func(*aclUser)
}{
	{row: everySite, does: func(u *aclUser) {
		p := u.open("", life)
		large := strings.Repeat("x", 40<<10)
		id, next := newID(), newID()
		for _, filler := range []string{"", large, large + "x", ""} {
			twoVisits(p, id, "filler", filler)
		}
		u.raw.Expire(id, time.Minute)
		twoVisits(p, id)
		_, _ = p.SessionRegenerate(ctx, id, next)
		_, _ = p.SessionRegenerate(ctx, id, newID())
		_ = p.SessionDestroy(ctx, next)

		p = u.open("", 0)
		twoVisits(p, id)
		u.raw.Expire(id, time.Minute)
		twoVisits(p, id)
		_, _ = p.SessionRegenerate(ctx, id, next)
	}},
	{row: "`user_key`", does: func(u *aclUser) {
		p := u.open(`"user_key":"uid",`, life)
		u.raw.ZAdd("user:{ann}", entry("nowhere", 400))
		for range 2 {
			id := newID()
			twoVisits(p, id, "uid", "ann")
			_ = p.SessionDestroy(ctx, id)
			_, _ = p.SessionsOf(ctx, "ann")
		}
	}},
	{row: "`Sessions`, `SessionAll`", does: func(u *aclUser) {
		for range u.open("", life).Sessions(ctx) {
		}
	}},
	{row: "`db_num`", does: func(u *aclUser) { u.open(`"db_num":3,`, life) }},
	{row: "Sentinels", does: aVisit, on: func(t *testing.T) *aclUser {
		s := redistest.StartSentinel(t, redistest.SentinelOptions{})
		return newACLUser(t, fmt.Sprintf(`{"mode":"sentinel","save_path":%q}`, strings.Join(s.Addrs(), ";")), s.Master())
	}},
	{row: "a cluster", does: aVisit, on: func(t *testing.T) *aclUser {
		c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
		slot := c.Slot("{moves}")
		from := c.MasterOf(slot)
		to := c.Nodes()[(slices.Index(c.Nodes(), from)+1)%3]
		c.MigrateSlot(slot, from, to)
		return newACLUser(t, fmt.Sprintf(`{"mode":"cluster","key_prefix":"{moves}","save_path":%q}`, strings.Join(c.Addrs(), ";")), c.Nodes()...)
	}},
	{row: withoutScripts, does: func(u *aclUser) {
		id := newID()
		twoVisits(u.open("", life), id)
		_, _ = u.open("", life).SessionRegenerate(ctx, id, newID())
	}},
}

// options are what docs/configuration.md says to need no more than every site does, and with user_key no more than that.
var options = map[string]func(*aclUser){
	"max_age and life times": func(u *aclUser) {
		p := u.open(`"max_age":"2h",`, life)
		id, next := newID(), newID()
		twoVisits(p, id, "uid", "ann")
		for _, filler := range []string{"", strings.Repeat("x", 40<<10), ""} {
			twoVisits(p, id, "filler", filler)
			for _, change := range []func(*redis.SessionStore){
				func(s *redis.SessionStore) { s.NoActivity(ctx) },
				func(s *redis.SessionStore) { _ = s.SetLifeTime(ctx, month) },
				func(s *redis.SessionStore) { s.NoActivity(ctx) },
				func(s *redis.SessionStore) { s.ResetAge(ctx) },
			} {
				store := u.readStore(p, id)
				change(store)
				set(u, store, "n", newID())
				store.SessionRelease(ctx, nil)
			}
		}
		u.ok(second(p.SessionRegenerate(ctx, id, next)))
		u.grow(next, 2*time.Hour)
		u.read(p, next)
		if u.raw.Exists(next).Val() != 0 {
			u.Error("the session has not ended")
		}
		forever := u.open("", 0)
		twoVisits(forever, id, "uid", "ann")
		store := u.readStore(forever, id)
		store.NoActivity(ctx)
		set(u, store, "n", 1)
		store.SessionRelease(ctx, nil)
		u.ok(store.SetLifeTime(ctx, time.Hour))
		store.SessionRelease(ctx, nil)
	},
	"regenerate_grace": func(u *aclUser) {
		p := u.open(`"regenerate_grace":"1m",`, life)
		id, next := newID(), newID()
		twoVisits(p, id, "uid", "ann")
		u.ok(second(p.SessionRegenerate(ctx, id, next)))
		u.passes(p, id)
		u.ok(second(p.SessionRegenerate(ctx, id, newID())))
		u.ok(p.SessionDestroy(ctx, id))
		u.ok(p.SessionDestroy(ctx, next))
	},
	"hash_ids": func(u *aclUser) {
		plain, accept, all := u.open("", life), u.open(`"hash_ids":"accept",`, life), u.open(`"hash_ids":true,`, life)
		id, next, last := newID(), newID(), newID()
		twoVisits(plain, id, "uid", "ann")
		for _, p := range []*redis.Provider{accept, all, accept, all} {
			if found, err := p.SessionExist(ctx, id); !found {
				u.Errorf("the session is not found: %v", err)
			}
			twoVisits(p, id, "uid", "ann")
		}
		if u.raw.Exists(hashed(id)).Val() != 1 {
			u.Error("the session is not under its hash")
		}
		u.ok(second(accept.SessionRegenerate(ctx, id, next)))
		u.ok(second(all.SessionRegenerate(ctx, next, last)))
		u.ok(all.SessionDestroy(ctx, last))
		twoVisits(plain, id, "uid", "ann")
		u.ok(accept.SessionDestroy(ctx, id))
	},
	"encryption_keys_file": func(u *aclUser) {
		p := u.open(fmt.Sprintf(`"encryption_keys_file":%q,`, keysFile(u, newKey())), life)
		id, next := newID(), newID()
		twoVisits(u.open("", life), id, "uid", "ann")
		twoVisits(p, id, "uid", "ann")
		for _, filler := range []string{"", strings.Repeat("x", 40<<10), ""} {
			twoVisits(p, id, "filler", filler)
		}
		u.ok(second(p.SessionRegenerate(ctx, id, next)))
		if _, err := u.open("", life).SessionRegenerate(ctx, next, id); err == nil {
			u.Error("the session is not encrypted")
		}
		u.ok(p.SessionDestroy(ctx, next))
	},
	"on_undecodable and on_outage": func(u *aclUser) {
		p := u.open(`"on_undecodable":"new","on_outage":"anonymous",`, life)
		id := newID()
		u.put(id, "no session")
		twoVisits(p, id, "uid", "ann")
		u.ok(second(p.SessionRegenerate(ctx, id, newID())))
	},
	"merge functions and updates": func(u *aclUser) {
		p := u.open("", life)
		p.MergeKey("uid", redis.Larger)
		id := newID()
		twoVisits(p, id, "uid", "ann")
		twoVisits(p, id, "uid", "bob")
		u.ok(update(u.read(p, id), add("n", 1)))
	},
}

func second[T any](_ T, err error) error { return err }

func TestOptionsNeedNoMoreRights(t *testing.T) {
	captureLog(t)
	one := redistest.Start(t)
	for name, does := range options {
		for _, row := range []string{everySite, "`user_key`"} {
			t.Run(name+" for "+row, func(t *testing.T) {
				u := newACLUser(t, fmt.Sprintf(`{"save_path":%q}`, one.Addr()), one)
				if row != everySite {
					u.more = `"user_key":"uid",`
				}
				if refused := u.refused(rightsFor(t, everySite, row), does); refused != nil {
					t.Errorf("%q are refused", refused)
				}
			})
		}
	}
}

// aclUser is an ACL user of some servers.
type aclUser struct {
	*site
	more    string // configured beside what a test asks for
	servers []*redistest.Server
}

func newACLUser(t *testing.T, config string, servers ...*redistest.Server) *aclUser {
	return &aclUser{site: &site{T: t, config: config, raw: servers[0].Client()}, servers: servers}
}

func (u *aclUser) open(more string, life int64) *redis.Provider {
	p := new(redis.Provider)
	_ = p.SessionInit(ctx, life, strings.Replace(u.config, "{", `{"username":"app","password":"secret",`+u.more+more, 1))
	return p
}

// twoVisits are two requests at once that change a session, if there is a key, or only read it.
func twoVisits(p *redis.Provider, id string, keyAndValue ...any) {
	one, err := p.SessionRead(ctx, id)
	other, otherErr := p.SessionRead(ctx, id)
	if err != nil || otherErr != nil {
		return
	}
	for i, store := range []session.Store{one, other} {
		if keyAndValue != nil {
			_ = store.Set(ctx, fmt.Sprint(keyAndValue[0], i), keyAndValue[1])
			_ = store.Set(ctx, keyAndValue[0], keyAndValue[1])
		}
		store.SessionRelease(ctx, nil)
	}
}

// refused returns the commands that the servers refuse a user who has these rights.
func (u *aclUser) refused(rights []string, does func(*aclUser)) (refused []string) {
	for _, s := range u.servers {
		args := []any{"acl", "setuser", "app", "reset", "on", ">secret", "~*", "-@all"}
		for _, right := range rights {
			args = append(args, right)
		}
		if err := s.Client().Do(args...).Err(); err != nil {
			u.Fatal(err)
		}
		s.Client().Do("acl", "log", "reset")
	}
	does(u)
	for _, s := range u.servers {
		log, err := s.Client().Do("acl", "log").Result()
		if err != nil {
			u.Fatal(err)
		}
		for _, entry := range log.([]any) {
			fields := entry.([]any)
			at := slices.Index(fields, any("object"))
			refused = append(refused, fields[at+1].(string))
		}
	}
	return refused
}

func aVisit(u *aclUser) { twoVisits(u.open("", life), newID()) }

func TestTheReadmeNamesJustTheRightsThatAreNeeded(t *testing.T) {
	captureLog(t)
	one := redistest.Start(t)
	for _, use := range uses {
		t.Run(use.row, func(t *testing.T) {
			u := newACLUser(t, fmt.Sprintf(`{"save_path":%q}`, one.Addr()), one)
			if use.on != nil {
				u = use.on(t)
			}
			of := rightsFor(t, use.row)
			all := append(rightsFor(t, everySite), of...)
			var refusable []string
			if use.row == withoutScripts {
				refusable = []string{"eval", "evalsha"}
				all = slices.DeleteFunc(all, func(right string) bool { return slices.Contains(refusable, right[1:]) })
			}
			for _, command := range u.refused(all, use.does) {
				if !slices.Contains(refusable, command) {
					t.Errorf("%s is refused", command)
				}
			}
			for _, right := range of {
				others := slices.DeleteFunc(slices.Clone(all), func(other string) bool { return other == right })
				if !slices.Contains(u.refused(others, use.does), right[1:]) {
					t.Errorf("%s is not needed", right)
				}
			}
		})
	}
}

// lineOfSecurity returns the words of the command in SECURITY.md that makes a user.
func lineOfSecurity(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile("(?m)^ACL SETUSER shop .*$").FindAllString(string(page), -1)
	if len(lines) != 1 {
		t.Fatalf("SECURITY.md has %d lines that make a user", len(lines))
	}
	return strings.Fields(lines[0])
}

func TestTheUserOfSecurityHasJustTheRightsOfTheTable(t *testing.T) {
	words := lineOfSecurity(t)
	begin := slices.Index(words, "-@all")
	if want := []string{"ACL", "SETUSER", "shop", "reset", "on", ">PASSWORD", "~shop:*"}; !slices.Equal(words[:max(0, begin)], want) {
		t.Errorf("the line begins with %q, want %q and then -@all", words[:max(0, begin)], want)
	}
	got, want := words[begin+1:], rightsFor(t, everySite, "`user_key`")
	if !slices.Equal(got, want) {
		t.Errorf("SECURITY.md gives %q, the table in docs/configuration.md %q", got, want)
	}
}

func TestTheUserOfSecurityLogsInAndOut(t *testing.T) {
	log := captureLog(t)
	server := redistest.Start(t)
	admin := server.Client()
	var line []any
	for _, word := range lineOfSecurity(t) {
		line = append(line, word)
	}
	for range 2 { // it can be repeated
		if err := admin.Do(line...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	config := fmt.Sprintf(`{"save_path":%q,"username":"shop","password":"PASSWORD","key_prefix":"shop:","user_key":"uid"}`, server.Addr())
	s := &site{T: t, config: config, raw: admin, Provider: open(t, config, life)}

	before, id := newID(), newID()
	store := s.read(s, before)
	set(t, store, "cart", 1)
	store.SessionRelease(ctx, nil)
	store, err := s.SessionRegenerate(ctx, before, id) // a log-in
	if err != nil {
		t.Fatal(err)
	}
	set(t, store, "uid", "ann")
	store.SessionRelease(ctx, nil)
	s.by(id, func(other session.Store) { set(t, other, "cart", strings.Repeat("x", 40<<10)) }) // large enough to be sent apart
	if of, err := s.SessionsOf(ctx, "ann"); err != nil || len(of) != 1 || of[0].ID != id {
		t.Errorf("the sessions of the user are %v, %v", of, err)
	}
	s.ok(s.SessionDestroy(ctx, id)) // a log-out
	if of, err := s.SessionsOf(ctx, "ann"); err != nil || len(of) != 0 {
		t.Errorf("after the log-out the sessions of the user are %v, %v", of, err)
	}
	if refused := admin.Do("acl", "log").Val(); len(refused.([]any)) > 0 {
		t.Errorf("refused are %v", refused)
	}
	if said := log.take(); said != "" {
		t.Errorf("logged is %s", said)
	}

	refusal := regexp.MustCompile(`NOPERM|[Nn]o permissions|can't (access|run)`) // of a command, and within a script
	user := rawClient(t, client.Options{Addrs: []string{server.Addr()}, Username: "shop", Password: func() (string, error) { return "PASSWORD", nil }})
	for _, command := range [][]any{
		{"get", "other"}, {"set", "other", "x"}, {"eval", "return redis.call('get', 'other')", 0}, {"eval", "return redis.call('keys', '*')", 0},
		{"keys", "*"}, {"scan", 0}, {"flushall"}, {"config", "get", "*"}, {"monitor"}, {"acl", "whoami"},
	} {
		if err := user.Do(command...).Err(); err == nil || !refusal.MatchString(err.Error()) {
			t.Errorf("%v: %v, want a refusal", command, err)
		}
	}
}
