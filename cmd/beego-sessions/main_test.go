package main

import (
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/go-redis/redis/v7"
)

// What the test binary is, if they are in its environment: the command, and a site with this app.conf.
const (
	asCommand = "TEST_AS_COMMAND"
	asSite    = "TEST_AS_SITE"
)

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	if file := os.Getenv(asSite); file != "" {
		if err := web.LoadAppConfig("ini", file); err != nil {
			panic(err)
		}
		managed, _ := web.AppConfig.String("sessionConfig")
		s := web.BConfig.WebConfig.Session
		fmt.Printf("%s|%s|%d|%s", s.SessionProvider, s.SessionProviderConfig, s.SessionGCMaxLifetime, managed)
		os.Exit(0)
	}
	slowRoundTrip = time.Minute // how slow this machine is decides nothing
	redistest.Main(m)
}

var ctx = context.Background()

// outcome is what a command did.
type outcome struct {
	status         int
	stdout, stderr string
}

// cli runs a command. What it is not given is as in a script: nobody can be asked.
type cli struct {
	env        map[string]string
	answer     string // of somebody who is asked
	asks, live bool
	shown      func(text string) // is called with each text that was written; nil: nothing is
}

// watched is a stdout that somebody looks at.
type watched struct {
	strings.Builder
	shown func(text string)
}

func (s *watched) Write(text []byte) (int, error) {
	n, err := s.Builder.Write(text)
	if s.shown != nil {
		s.shown(string(text))
	}
	return n, err
}

func (c cli) run(ctx context.Context, args ...string) outcome {
	stdout, stderr := watched{shown: c.shown}, strings.Builder{}
	t := &tool{stdin: strings.NewReader(c.answer), stdout: &stdout, stderr: &stderr, asks: c.asks, live: c.live,
		getenv: func(name string) string { return c.env[name] }}
	status := t.run(ctx, args)
	return outcome{status, stdout.String(), stderr.String()}
}

func run(args ...string) outcome { return cli{}.run(ctx, args...) }

// wants checks the status, and that all of these are in what a command wrote; those after a "not" are not.
func (o outcome) wants(t *testing.T, status int, texts ...string) {
	t.Helper()
	if o.status != status {
		t.Errorf("status %d, want %d", o.status, status)
	}
	all, want := o.stdout+o.stderr, true
	for _, text := range texts {
		if text == "not" {
			want = false
		} else if strings.Contains(all, text) != want {
			t.Errorf("%q is there: %v", text, !want)
		}
	}
	if t.Failed() {
		t.Logf("status %d\n%s%s", o.status, o.stdout, o.stderr)
	}
}

type address struct{ Street string }

type profile struct {
	Name string
	Home address
	Tags []string
}

func init() { gob.Register(profile{}) }

const secret = "a secret in the session"

// put stores a session, as the provider does, and returns its id.
func put(t testing.TB, c redis.Cmdable, prefix string, values map[any]any) string {
	t.Helper()
	value, err := record.Encode(values, "", record.Meta{}, record.NewVersion())
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64())
	if err := c.Set(prefix+id, string(value), time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	return id
}

func of(user string) map[any]any {
	return map[any]any{"user": user, "token": secret, "profile": profile{user, address{"High Street"}, []string{"a", "b"}}, "n": 7}
}

// listed enters sessions in the index of their user: they are saved by a site that has user_key.
func listed(t testing.TB, config string, ids ...string) {
	t.Helper()
	probe := &tool{getenv: os.Getenv, configured: source{"redis", config, 3600}, stderr: os.Stderr}
	if err := probe.connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer probe.close()
	for _, id := range ids {
		store, err := probe.site.SessionRead(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		_ = store.Set(ctx, "seen", true)
		store.SessionRelease(ctx, nil)
	}
}

func withUsers(addr string) string {
	return fmt.Sprintf(`{"save_path":%q,"key_prefix":"shop:","user_key":"user"}`, addr)
}

func TestSessionsAreListedCountedShownAndEnded(t *testing.T) {
	clusters := func(t *testing.T) (config string, raw redis.Cmdable) {
		c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
		raw = clusterClient(t, c)
		return fmt.Sprintf(`{"mode":"cluster","save_path":%q,"user_key":"user","key_prefix":"shop:"}`, strings.Join(c.Addrs(), ";")), raw
	}
	for name, start := range map[string]func(t *testing.T) (string, redis.Cmdable){
		"miniredis": func(t *testing.T) (string, redis.Cmdable) {
			m := miniredis.RunT(t)
			return withUsers(m.Addr()), plainClient(t, m.Addr())
		},
		"standalone": func(t *testing.T) (string, redis.Cmdable) {
			s := redistest.Start(t)
			return withUsers(s.Addr()), s.Client()
		},
		"cluster": clusters,
	} {
		t.Run(name, func(t *testing.T) {
			config, raw := start(t)
			run("-config", config, "count").wants(t, 0, "0\n")
			run("list", "-config", config).wants(t, 0, "no sessions")
			var anns, all []string
			for range 3 {
				anns = append(anns, put(t, raw, "shop:", of("ann")))
			}
			all = append(slices.Clone(anns), put(t, raw, "shop:", of("bob")), put(t, raw, "shop:", map[any]any{}))
			raw.Set("another program's", "x", 0)
			listed(t, config, anns...)

			if got := run("count", "-config", config); got.stdout != "5\n" {
				t.Errorf("count: %+v", got)
			}
			list := run("list", "-config", config)
			list.wants(t, 0, "USER", "ann", "bob", "not", secret)
			if n := strings.Count(list.stdout, "\n"); n != 6 || !regexp.MustCompile(`(?m)^`+all[3][:6]+`… +\d+s +(59m|1h00m) +\d+ B  bob$`).MatchString(list.stdout) {
				t.Errorf("list:\n%s", list.stdout)
			}
			run("list", "-n", "2", "-config", config).wants(t, 0, "more than 2")
			whole := run("list", "-ids", "-config", config)
			for _, id := range all {
				list.wants(t, 0, id[:6]+"…", "not", id)
				whole.wants(t, 0, id)
			}
			if got := run("list", "-user", "ann", "-config", config); strings.Count(got.stdout, "ann\n") != 3 || strings.Contains(got.stdout, "bob") {
				t.Errorf("list -user: %+v", got)
			}

			run("show", all[3][:8], "-config", config).wants(t, 0, `"user": "bob"`, `"profile": "github.com/beego-session/redis/cmd/beego-sessions.profile"`,
				`"n": "int"`, `"token": "string"`, "not", secret, "High Street", all[3])
			shown := run("show", all[3], "-values", "-ids", "-config", config)
			shown.wants(t, 0, secret, "High Street", all[3])
			var got struct {
				ID     string
				Values map[string]any
			}
			if err := json.Unmarshal([]byte(shown.stdout), &got); err != nil || got.ID != all[3] || got.Values["n"] != 7.0 {
				t.Errorf("show: %v, %+v", err, got)
			}

			run("end", all[3][:10]+"…", "-yes", "-config", config).wants(t, 0, "1 session ended")
			run("end", all[3], "-yes", "-config", config).wants(t, 1, "there is no session "+all[3][:6]+"…", "not", all[3])
			run("end", "-user", "ann", "-yes", "-config", config).wants(t, 0, "3 sessions ended")
			run("end", "-user", "ann", "-yes", "-config", config).wants(t, 1, "ann has no session")
			if got := run("count", "-config", config); got.stdout != "1\n" {
				t.Errorf("count: %+v", got)
			}
			run("doctor", "-config", config).wants(t, 0, "ok       connected", "SCAN works", "scripts run", "not", "error ")
			run("top", "-n", "1", "-config", config).wants(t, 0, "COMMANDS/S", "The largest:", all[4][:6])
		})
	}
}

func plainClient(t *testing.T, addr string) redis.Cmdable {
	return newClient(t, client.Options{Addrs: []string{addr}})
}

func clusterClient(t *testing.T, c *redistest.Cluster) redis.Cmdable {
	return newClient(t, client.Options{Mode: client.Cluster, Addrs: c.Addrs()})
}

func newClient(t *testing.T, o client.Options) redis.Cmdable {
	c := client.New(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// With hash_ids there are hashes on the screen, and a session is found by its own id as well.
func TestSessionsWithHashedIDs(t *testing.T) {
	m := miniredis.RunT(t)
	config := strings.Replace(withUsers(m.Addr()), "{", `{"hash_ids":true,`, 1)
	ids := []string{"0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"}
	listed(t, config, ids...)
	name := func(id string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(id))) }
	list := run("list", "-config", config)
	list.wants(t, 0, name(ids[0])[:13]+"…", name(ids[1])[:13]+"…", "not", ids[0][:6], name(ids[0])[:14])
	run("list", "-ids", "-config", config).wants(t, 0, name(ids[0]), name(ids[1]), "not", ids[0])
	for _, given := range []string{ids[0], name(ids[0]), name(ids[0])[:13] + "…"} {
		run("show", given, "-config", config).wants(t, 0, "seen", "not", ids[0])
	}
	run("end", "-yes", name(ids[0])[:13]+"…", "-config", config).wants(t, 0, "1 session ended")
	run("end", "-yes", ids[1], "-config", config).wants(t, 0, "1 session ended")
	run("count", "-config", config).wants(t, 0, "0\n")
	plain := put(t, plainClient(t, m.Addr()), "shop:", of("ann"))
	run("show", plain, "-config", config).wants(t, 0, "token")
	run("end", "-yes", plain, "-config", config).wants(t, 0, "1 session ended")
	run("count", "-config", config).wants(t, 0, "0\n")
}

func TestNoIDAndNoPasswordIsOnTheScreen(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "the-password", "--user", "app on >the-password ~* +@all -info -config -eval -scan")
	id := put(t, s.Client(), "shop:", of("ann"))
	check := func(config string, args ...string) {
		t.Helper()
		got := run(append(args, "-config", config)...)
		if all := got.stdout + got.stderr; strings.Contains(all, id) || strings.Contains(all, "the-password") ||
			strings.Contains(all, secret) != (slices.Contains(args, "-values") && got.status == 0) {
			t.Errorf("%q: %s", args, all)
		}
	}
	for _, config := range []string{
		fmt.Sprintf(`{"save_path":%q,"password":"the-password","key_prefix":"shop:","user_key":"user"}`, s.Addr()),
		fmt.Sprintf(`{"save_path":%q,"username":"app","password":"the-password","key_prefix":"shop:"}`, s.Addr()),
	} {
		for _, args := range [][]string{
			{"list"}, {"count"}, {"show", id}, {"show", id[:6]}, {"show", id + "0"}, {"show", id, "-values"}, {"end", id}, {"end", id + "0", "-yes"},
			{"top", "-n", "1"}, {"doctor"}, {"list", "-user", "ann"}, {"count", "-n", "the-password"}, {"list", "the-password"},
			{"the-password"}, {"-the-password"},
		} {
			check(config, args...)
		}
	}
	for _, config := range []string{
		fmt.Sprintf(`{"save_path":%q,"username":"nobody","password":"the-password"}`, s.Addr()),
		fmt.Sprintf("redis://:the-password@%s/0?poolsize=the-password", s.Addr()),
		"redis://:the-password@127.0.0.1:1?outage_time=0s",
		"127.0.0.1:the-password", `{"save_path":"the-password@x"}`, `{"the-password"`,
	} {
		check(config, "count")
		check(config, "doctor")
	}
}

func TestAnIDMayBeShortened(t *testing.T) {
	m := miniredis.RunT(t)
	raw := plainClient(t, m.Addr())
	for _, id := range []string{"abcdef01", "abcdef02", "abcdef", "\x1b[2Jabcdef"} {
		raw.Set(id, "", 0)
	}
	run("show", "abcdef", "-config", m.Addr()).wants(t, 0, `"id": "…"`) // it is one by itself
	raw.Del("abcdef")
	run("show", "abcdef", "-config", m.Addr()).wants(t, 1, "2 sessions begin with this")
	run("show", "abcdef0…", "-config", m.Addr()).wants(t, 1, "2 sessions begin with this")
	run("show", "abcdef01", "-config", m.Addr()).wants(t, 0, `"types"`)
	run("show", "abcde", "-config", m.Addr()).wants(t, 1, "6 characters")
	run("show", "123456", "-config", m.Addr()).wants(t, 1, "no session 123456…")
	raw.Set("no-gob", "what another program has", 0)
	run("show", "no-gob", "-config", m.Addr()).wants(t, 1, "no session as beego's providers write it")
}

func TestShowTellsALifeTimeOfItsOwn(t *testing.T) {
	m := miniredis.RunT(t)
	raw, day := plainClient(t, m.Addr()), int64(24*3600)
	value, err := record.Encode(nil, "", record.Meta{OwnLife: &day}, record.NewVersion())
	if err != nil {
		t.Fatal(err)
	}
	raw.Set("remembered", string(value), 0)
	run("show", "remembered", "-config", m.Addr()).wants(t, 0, `"own_life_time": "24h0m0s"`)
	raw.Set("forgotten", string(record.Empty(record.NewVersion())), 0)
	run("show", "forgotten", "-config", m.Addr()).wants(t, 0, `"created"`, "not", "own_life_time")
}

func TestNothingMovesTheCursor(t *testing.T) {
	m := miniredis.RunT(t)
	config := withUsers(m.Addr())
	put(t, plainClient(t, m.Addr()), "shop:", of("a\x1b[2J\u009b2Jb"))
	id := "\u009b2J" + strings.Repeat("x", 20)
	plainClient(t, m.Addr()).Set("shop:"+id, "", 0)
	run("top", "-n", "1", "-config", config).wants(t, 0, "unknown; 2 seen so far") // miniredis does not tell how many keys there are
	for _, args := range [][]string{{"list", "-ids"}, {"list"}, {"top", "-n", "1"}, {"show", id, "-values", "-ids"}} {
		if got := run(append(args, "-config", config)...); strings.ContainsAny(got.stdout+got.stderr, "\x1b\u009b") || got.status != 0 {
			t.Errorf("%q: %+q", args, got)
		}
	}
}

func TestWhoeverEndsSessionsIsAsked(t *testing.T) {
	m := miniredis.RunT(t)
	config := withUsers(m.Addr())
	raw := plainClient(t, m.Addr())
	id := put(t, raw, "shop:", of("ann"))
	listed(t, config, id)
	there := func(want int64) {
		t.Helper()
		if n := raw.Exists("shop:" + id).Val(); n != want {
			t.Errorf("%d sessions, want %d", n, want)
		}
	}
	run("end", id, "-config", config).wants(t, 2, "-yes ends sessions without a question")
	for _, answer := range []string{"", "\n", "n\n", "yesterday\n"} {
		cli{asks: true, answer: answer}.run(ctx, "end", id, "-config", config).wants(t, 1, "End session "+id[:6]+"…, ", ", of ann? [y/N] ", "Nothing was ended", "not", id)
		cli{asks: true, answer: answer}.run(ctx, "end", "-user", "ann", "-config", config).wants(t, 1, "End 1 session of ann? [y/N] ", "Nothing was ended")
	}
	there(1)
	cli{asks: true, answer: "y\n"}.run(ctx, "end", id, "-config", config).wants(t, 0, "1 session ended")
	there(0)
}

func TestTheCommandLineIsChecked(t *testing.T) {
	for _, args := range [][]string{
		{"-config", "x"}, {"what", "-config", "x"}, {"list", "extra", "-config", "x"}, {"show", "-config", "x"}, {"show", "a", "b", "-config", "x"},
		{"end", "-config", "x"}, {"end", "abc", "-user", "ann", "-config", "x"}, {"count", "-user", "ann", "-config", "x"}, {"list", "-yes", "-config", "x"},
		{"list", "-n", "-1", "-config", "x"}, {"list", "-n", "many", "-config", "x"}, {"top", "-every", "1ms", "-config", "x"}, {"list", "-user", "", "-config", "x"},
		{"list", "-config", "x", "-app", "y"}, {"list"}, {"list", "-nothing"},
	} {
		got := run(args...)
		if got.status != 2 || got.stdout != "" || !strings.Contains(got.stderr, "beego-sessions help") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	for _, args := range [][]string{{}, {"help"}, {"-h"}, {"list", "--help"}} {
		if got := run(args...); got.status != 0 || got.stdout != help || got.stderr != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	for name := range commands {
		if !strings.Contains(help, "[flags] "+name) {
			t.Errorf("help does not tell of %s", name)
		}
	}
}

func TestTheConfigurationIsTheSites(t *testing.T) {
	m := miniredis.RunT(t)
	m.RequireAuth("secret")
	m.Set("prod:1234567", "")
	m.Set("dev:1234567", "")
	m.Set("dev:2345678", "")
	config := func(prefix string) string {
		return fmt.Sprintf(`{"save_path":%q,"password":"secret","key_prefix":"%s:"}`, m.Addr(), prefix)
	}
	t.Setenv("TEST_SESSION_CONFIG", config("dev"))
	in := func(name, text string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	both := "SessionProvider = redis\nSessionProviderConfig = " + config("prod") + "\n[dev]\nSessionProviderConfig = " + config("dev") + "\n"
	managed, err := json.Marshal(map[string]any{"gclifetime": 60, "providerConfig": config("dev")})
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ conf, want string }{
		"plain":         {"sessionprovider = redis\nsessionproviderconfig = " + config("prod") + "\n", "1\n"},
		"no run mode":   {both, "1\n"},
		"a run mode":    {"runmode = dev\n" + both, "2\n"},
		"another":       {"runmode = test\n" + both, "1\n"},
		"environment":   {"sessionprovider = redis\nsessionproviderconfig = ${TEST_SESSION_CONFIG}\n", "2\n"},
		"sessionConfig": {"SessionProvider = redis\nsessionConfig = " + string(managed) + "\n", "2\n"},
	} {
		if got := run("count", "-app", in("app.conf", row.conf)); got.stdout != row.want || got.status != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := (cli{env: map[string]string{"BEEGO_SESSIONS_CONFIG": config("dev")}}).run(ctx, "count"); got.stdout != "2\n" {
		t.Errorf("%+v", got)
	}
	here := in("conf/app.conf", both)
	back, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chdir(filepath.Dir(filepath.Dir(here))); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Chdir(back) }()
	run("count").wants(t, 0, "1\n")

	run("count", "-app", in("app.conf", "SessionProvider = memory\n")).wants(t, 1, "SessionProvider is memory")
	run("count", "-app", in("app.conf", "the secret line\n")).wants(t, 1, "not key = value", "not", "secret")
	run("count", "-app", "/nowhere/app.conf").wants(t, 1, "/nowhere/app.conf")
	run("count", "-app", in("app.conf", "SessionProvider = redis\nsessionConfig = {secret\n")).wants(t, 1, "not valid JSON", "not", "secret")
}

// Beego itself says what is in app.conf.
func TestAppConfIsReadAsBeegoReadsIt(t *testing.T) {
	for name, row := range map[string]struct{ conf, mode string }{
		"defaults":          {"appname = shop\n", ""},
		"plain":             {"SessionProvider = redis\nSessionProviderConfig = \"a:6379,100\"\nsessiongcmaxlifetime = 60\n", ""},
		"sections":          {"runmode = dev\nsessionprovider = redis\nsessionproviderconfig = a\n[dev]\nsessionproviderconfig = b\n[prod]\nsessiongcmaxlifetime = 5\n", ""},
		"prod is the usual": {"sessionprovider = redis\nsessionproviderconfig = a\n[dev]\nsessionproviderconfig = b\n[PROD]\nsessiongcmaxlifetime = 5\n", ""},
		"in the section":    {"[prod]\nrunmode = dev\n[dev]\nsessionproviderconfig = b\n", ""},
		"environment":       {"runmode = prod\nsessionproviderconfig = ${NO_SUCH_VARIABLE||c}\n[dev]\nsessionproviderconfig = b\n", "dev"},
		"sessionConfig":     {"runmode = prod\nsessionConfig = {\"gclifetime\":1}\n[dev]\nsessionConfig = {\"gclifetime\":2}\n", "dev"},
		"no number":         {"sessiongcmaxlifetime = soon\n[prod]\nsessiongcmaxlifetime = later\n", ""},
	} {
		file := filepath.Join(t.TempDir(), "app.conf")
		if err := os.WriteFile(file, []byte(row.conf), 0o600); err != nil {
			t.Fatal(err)
		}
		site := exec.Command(os.Args[0])
		site.Env = append(os.Environ(), asSite+"="+file, "BEEGO_RUNMODE="+row.mode)
		out, err := site.Output()
		if err != nil {
			t.Fatal(err)
		}
		beegos := strings.SplitN(string(out), "|", 4)
		want := fmt.Sprint(beegos[:3])
		if managed := beegos[3]; managed != "" {
			var m session.ManagerConfig
			if err := json.Unmarshal([]byte(managed), &m); err != nil {
				t.Fatal(err)
			}
			want = fmt.Sprint([]string{beegos[0], m.ProviderConfig, fmt.Sprint(m.Gclifetime)})
		}
		reader := &tool{getenv: func(string) string { return row.mode }}
		got, err := reader.appConf(file)
		if err != nil || fmt.Sprint([]string{got.provider, got.config, fmt.Sprint(got.life)}) != want {
			t.Errorf("%s: %+v, %v, want %s", name, got, err, want)
		}
	}
}

func TestTheViewIsDrawnAgain(t *testing.T) {
	s := redistest.Start(t)
	config := withUsers(s.Addr())
	small := put(t, s.Client(), "shop:", of("ann"))
	values := of("bob")
	values["blob"] = strings.Repeat("x", 5000)
	bob := put(t, s.Client(), "shop:", values)
	s.Client().Set("another program's", strings.Repeat("x", 9000), 0)
	// Between two views there are so many requests that they are hundreds a second, however long it is from one to the other.
	requests := func(string) {
		pipe := s.Client().Pipeline()
		for range 10_000 {
			pipe.Get("shop:" + small)
		}
		if _, err := pipe.Exec(); err != nil {
			t.Error(err)
		}
	}
	got := cli{shown: requests}.run(ctx, "top", "-n", "3", "-every", "200ms", "-config", config)
	got.wants(t, 0, "sessions   about 2\n", "bob", "not", "\x1b", bob)
	views := strings.Split(got.stdout, "beego-sessions   ")
	if len(views) != 4 || !regexp.MustCompile(s.Addr()+` +\d+ +[\d,]{3,} +[\d,]{3,} +0 +0 `).MatchString(views[3]) {
		t.Errorf("after thousands of requests:\n%s", got.stdout)
	}
	lines := strings.Split(views[3], "\n")
	if at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "ID ") }); at < 0 || !strings.HasPrefix(lines[at+1], bob[:6]) || !strings.HasPrefix(lines[at+2], small[:6]) {
		t.Errorf("%q", lines)
	}

	interrupted, interrupt := context.WithCancel(ctx)
	views = nil
	live := cli{live: true, shown: func(text string) {
		if views = append(views, text); strings.Count(strings.Join(views, ""), "\x1b[J") == 2 {
			interrupt()
		}
	}}.run(interrupted, "top", "-every", "100ms", "-config", config)
	if !strings.HasPrefix(live.stdout, enterScreen+"\x1b[H") || !strings.HasSuffix(live.stdout, leaveScreen) || strings.Count(live.stdout, "\x1b[J") < 2 || live.status != 0 {
		t.Errorf("%+q", live)
	}
}

func TestTheDoctorFindsWhatIsWrong(t *testing.T) {
	find := func(t *testing.T, status int, config string, texts ...string) {
		t.Helper()
		run("doctor", "-config", config).wants(t, status, texts...)
	}
	s := redistest.Start(t, "--timeout", "60", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru",
		"--user", "app on >secret ~* +@all -info -config -eval -evalsha -scan",
		"--user", "poor on >secret ~* +@all -expire -rename -memory", "--user", "listless on >secret ~* +@all -zrem")
	put(t, s.Client(), "", of("ann"))
	find(t, 0, s.Addr(), "warning  the server closes connections that are idle for 1m0s, but idle_timeout is 5m0s", `set "idle_timeout": "54s"`,
		"warning  at 100 MB", "allkeys-lru", "on average (of 1)", "no errors, 2 warnings")
	s.Client().Set("counter", 1, 0)
	find(t, 0, s.Addr(), "1 of 2 sampled keys do not look like ids", "set key_prefix", "1 of 2 sampled sessions never expire")
	find(t, 0, fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret","idle_timeout":"30s"}`, s.Addr()),
		"note     INFO is refused", "CONFIG GET is refused", "warning  scripts are refused", "give the user +eval and +evalsha", "note     SCAN is refused")
	find(t, 1, fmt.Sprintf(`{"save_path":%q,"username":"poor","password":"secret","idle_timeout":"30s"}`, s.Addr()),
		"error    the user may not do all that sessions need: give it +expire +rename", "idle_timeout is 30s, below", "MEMORY USAGE is refused")
	find(t, 1, fmt.Sprintf(`{"save_path":%q,"username":"listless","password":"secret","user_key":"user"}`, s.Addr()), "give it +zrem (ACL SETUSER)")
	find(t, 1, `{"save_path":"127.0.0.1:1","outage_time":"0s"}`, "error    connect", "nothing more can be examined")
	find(t, 0, fmt.Sprintf(`{"save_path":%q,"pasword":"x"}`, s.Addr()), "warning  the configuration has an unknown key", "did you mean")
	for _, key := range s.Client().Keys("*").Val() {
		if strings.Contains(key, "doctor") || strings.HasPrefix(key, "survey:") {
			t.Errorf("the doctor has left %s", key)
		}
	}
}

func TestTheDoctorTriesEachMasterThatHasSessions(t *testing.T) {
	c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
	masters := len(c.Addrs())
	for prefix, having := range map[string]int{"shop:": masters, "{shop}:": 1} {
		got := run("doctor", "-config", fmt.Sprintf(`{"mode":"cluster","save_path":%q,"key_prefix":%q}`, strings.Join(c.Addrs(), ";"), prefix))
		tried, others := strings.Count(got.stdout, "all commands that sessions need are allowed"), strings.Count(got.stdout, "no keys with the prefix")
		if got.status != 0 || tried != having || others != masters-having {
			t.Errorf("with the prefix %s %d masters were tried, want %d, and %d were said to have no sessions:\n%s", prefix, tried, having, others, got.stdout)
		}
	}
	for _, addr := range c.Addrs() {
		if keys := plainClient(t, addr).Keys("*").Val(); len(keys) > 0 {
			t.Errorf("the doctor has left %q", keys)
		}
	}
}

func TestTheDoctorExaminesAMasterOfSentinels(t *testing.T) {
	s := redistest.StartSentinel(t, redistest.SentinelOptions{})
	run("doctor", "-provider", "redis_sentinel", "-config", strings.Join(s.Addrs(), ";")).wants(t, 0, "all commands that sessions need are allowed", "1 replica of the server")
}

func TestAServerWithIFEQ(t *testing.T) {
	m := miniredis.RunT(t)
	m.Server().SetPreHook(redistest.IFEQ(m))
	run("doctor", "-config", m.Addr()).wants(t, 0, "does not tell its version", "has SET … IFEQ: sessions are saved by the cheaper")
}

func TestTheDoctorExaminesAProxy(t *testing.T) {
	addr := redistest.Twemproxy(t, "{}", redistest.Start(t), redistest.Start(t))
	run("doctor", "-config", addr).wants(t, 0, "scripts run", "SCAN fails", "a proxy may not have it", "INFO is refused", "no errors, 1 warning")
	run("list", "-config", addr).wants(t, 1, "cannot be listed without SCAN")
}

// In a process of its own, nothing of beego's is on the screen.
func TestAProcess(t *testing.T) {
	m := miniredis.RunT(t)
	child := func(args ...string) (string, string, int) {
		c := exec.Command(os.Args[0], args...)
		c.Dir = t.TempDir()
		c.Env = append(os.Environ(), asCommand+"=1", "BEEGO_SESSIONS_CONFIG="+m.Addr())
		var stdout, stderr strings.Builder
		c.Stdout, c.Stderr = &stdout, &stderr
		_ = c.Run()
		return stdout.String(), stderr.String(), c.ProcessState.ExitCode()
	}
	if out, errs, status := child("count"); out != "0\n" || errs != "" || status != 0 {
		t.Errorf("count: %q, %q, %d", out, errs, status)
	}
	if _, errs, status := child("show", "1234567"); status != 1 || !strings.Contains(errs, "no session") {
		t.Errorf("show: %q, %d", errs, status)
	}
	m.Set("12345678", "")
	if _, errs, status := child("end", "1234567"); status != 2 || !strings.Contains(errs, "nobody to ask") { // its stdin is os.DevNull
		t.Errorf("end: %q, %d", errs, status)
	}
}

func TestFiguresAreShort(t *testing.T) {
	for got, want := range map[string]string{
		span(59 * time.Second): "59s", span(61 * time.Second): "1m", span(3*time.Hour + 5*time.Minute): "3h05m", span(50 * time.Hour): "2d02h", span(-time.Second): "0s",
		size(312): "312 B", size(1500): "1.5 KB", size(20 << 10): "20 KB", size(1023 << 10): "1.0 MB", size(5 << 30): "5.0 GB",
		thousands(999): "999", thousands(1234567): "1,234,567", thousands(-1234): "-1,234",
		fmt.Sprint(about(1234567)): "1230000", fmt.Sprint(about(999.6)): "1000", fmt.Sprint(about(12)): "12",
		short("abcdefgh"): "abcdef…", short("abcdef"): "…",
		wrapped("one two three 12345678 four", 8, "  "): "one two\n  three\n  12345678\n  four", wrapped("", 8, "  "): "",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
