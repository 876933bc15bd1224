// What an ACL user must be allowed, as the README has it: no less, and no more.

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
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// rightsFor returns what the README's table of rights has in these rows.
func rightsFor(t testing.TB, rows ...string) (rights []string) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		found := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(row) + " \\| `([^`]*)`").FindSubmatch(readme)
		if found == nil {
			t.Fatalf("the README has no rights for %s", row)
		}
		rights = append(rights, strings.Fields(strings.ReplaceAll(string(found[1]), `\|`, "|"))...)
	}
	return rights
}

const (
	everySite      = "every site"
	withoutScripts = "doing without scripts"
)

// uses are what sites do, by the rows of the README's table. What fails is of no matter: the server tells what it has refused.
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
		return &aclUser{T: t, config: fmt.Sprintf(`{"mode":"sentinel","save_path":%q}`, strings.Join(s.Addrs(), ";")), servers: []*redistest.Server{s.Master()}}
	}},
	{row: "a cluster", does: aVisit, on: func(t *testing.T) *aclUser {
		c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
		slot := c.Slot("{moves}")
		from := c.MasterOf(slot)
		to := c.Nodes()[(slices.Index(c.Nodes(), from)+1)%3]
		c.MigrateSlot(slot, from, to)
		return &aclUser{T: t, config: fmt.Sprintf(`{"mode":"cluster","key_prefix":"{moves}","save_path":%q}`, strings.Join(c.Addrs(), ";")), servers: c.Nodes()}
	}},
	{row: withoutScripts, does: func(u *aclUser) {
		id := newID()
		twoVisits(u.open("", life), id)
		_, _ = u.open("", life).SessionRegenerate(ctx, id, newID())
	}},
}

// aclUser is an ACL user of some servers.
type aclUser struct {
	*testing.T
	config  string
	raw     goredis.UniversalClient
	servers []*redistest.Server
}

func (u *aclUser) open(more string, life int64) *redis.Provider {
	p := new(redis.Provider)
	_ = p.SessionInit(ctx, life, strings.Replace(u.config, "{", `{"username":"app","password":"secret",`+more, 1))
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
			u := &aclUser{T: t, config: fmt.Sprintf(`{"save_path":%q}`, one.Addr()), servers: []*redistest.Server{one}}
			if use.on != nil {
				u = use.on(t)
			}
			u.raw = u.servers[0].Client()
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
