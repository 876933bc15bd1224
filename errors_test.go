// Errors to program with: every function and method that returns an error is called in every situation that a caller can tell
// apart, and errors.Is finds what it should, and nothing else.

package redis_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// known are the errors that a caller can tell apart: those of this package, and that of its own context.
var known = map[string]error{
	"ErrUnreachable":  redis.ErrUnreachable,
	"ErrUndecodable":  redis.ErrUndecodable,
	"ErrRefusedValue": redis.ErrRefusedValue,
	"ErrRefusedID":    redis.ErrRefusedID,
	"ErrTooLarge":     redis.ErrTooLarge,
	"ErrGone":         redis.ErrGone,
	"ErrClosed":       redis.ErrClosed,
	"Canceled":        context.Canceled,
}

// scene is a provider with a session that has a user, and a request that is under way in it.
type scene struct {
	*testing.T
	*redis.Provider
	m      *miniredis.Miniredis // nil where there is a redis-server
	config string
	ctx    context.Context
	id     string // of the session
	newID  string // to regenerate to
	store  *redis.SessionStore
	value  any // that is to be set, under
	key    any
	life   time.Duration // that is to be set
}

const userOfScenes = "42"

func sceneOn(t *testing.T, addr, extra string) *scene {
	t.Helper()
	return sceneOf(t, new(redis.Provider), fmt.Sprintf(`{"save_path":%q,"user_key":"uid","max_retries":-1%s}`, addr, extra))
}

func sceneOf(t *testing.T, p *redis.Provider, config string) *scene {
	t.Helper()
	s := &scene{T: t, Provider: p, config: config, ctx: ctx, id: newID(), newID: newID(), value: "v", key: "k", life: time.Hour}
	s.ok(p.SessionInit(ctx, life, config))
	s.OnError(func(context.Context, redis.Failure) {}) // of releases, of which nothing is asked here
	store := s.read()
	s.ok(store.Set(ctx, "uid", userOfScenes))
	s.ok(store.Set(ctx, "list", []any{"a"}))
	store.SessionRelease(ctx, nil)
	s.store = s.read()
	return s
}

// soon has a call of a server that hangs end, and those before it have time enough.
const soon = `,"dial_timeout":"1500ms","read_timeout":"1500ms"`

func sceneOnMiniredis(t *testing.T, extra string) *scene {
	m := miniredis.RunT(t)
	s := sceneOn(t, m.Addr(), extra)
	s.m = m
	return s
}

func (s *scene) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scene) read() *redis.SessionStore {
	s.Helper()
	store, err := s.SessionRead(ctx, s.id)
	s.ok(err)
	return store.(*redis.SessionStore)
}

// returnsErrors are all that return errors.
var returnsErrors = map[string]func(s *scene) error{
	"Provider.SessionInit":       func(s *scene) error { return s.SessionInit(s.ctx, life, s.config) },
	"Provider.SessionExist":      func(s *scene) error { _, err := s.SessionExist(s.ctx, s.id); return err },
	"Provider.SessionRead":       func(s *scene) error { _, err := s.SessionRead(s.ctx, s.id); return err },
	"Provider.SessionRegenerate": func(s *scene) error { _, err := s.SessionRegenerate(s.ctx, s.id, s.newID); return err },
	"Provider.SessionDestroy":    func(s *scene) error { return s.SessionDestroy(s.ctx, s.id) },
	"Provider.SessionsOf":        func(s *scene) error { _, err := s.SessionsOf(s.ctx, userOfScenes); return err },
	"Provider.DestroyAll":        func(s *scene) error { _, err := s.DestroyAll(s.ctx, userOfScenes); return err },
	"Provider.Check":             func(s *scene) error { return s.Check() },
	"Provider.Close":             func(s *scene) error { return s.Close(s.ctx) },
	"Provider.Sessions": func(s *scene) (last error) {
		for _, err := range s.Sessions(s.ctx) {
			last = err
		}
		return last
	},
	"SessionStore.Set":         func(s *scene) error { return s.store.Set(s.ctx, s.key, s.value) },
	"SessionStore.Delete":      func(s *scene) error { return s.store.Delete(s.ctx, s.key) },
	"SessionStore.Flush":       func(s *scene) error { return s.store.Flush(s.ctx) },
	"SessionStore.SetLifeTime": func(s *scene) error { return s.store.SetLifeTime(s.ctx, s.life) },
	"SessionStore.Update": func(s *scene) error {
		return s.store.Update(s.ctx, func(view session.Store) error {
			view.Get(ctx, "list").([]any)[0] = s.value // in place, where Set does not see it
			return nil
		})
	},
}

// inRedis are those that ask Redis. The others change what is in memory, or wait.
var inRedis = []string{
	"Provider.SessionInit", "Provider.SessionExist", "Provider.SessionRead", "Provider.SessionRegenerate", "Provider.SessionDestroy",
	"Provider.SessionsOf", "Provider.DestroyAll", "Provider.Check", "Provider.Sessions", "SessionStore.Update",
}

// of is one outcome of several.
func of(names []string, outcome string) map[string]string {
	each := make(map[string]string, len(names))
	for _, name := range names {
		each[name] = outcome
	}
	return each
}

func without(names []string, not ...string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(not, name) })
}

const another = "another" // error than those that are known

var situations = []struct {
	name  string
	set   func(t *testing.T) *scene
	want  map[string]string // the errors by what returns them; the others return none
	cause func(error) bool  // tells whether the cause is reachable
	only  string            // what it is a situation for; empty: all that ask Redis, and in the first all
}{
	{"nothing is wrong", func(t *testing.T) *scene { return sceneOnMiniredis(t, "") }, nil, nil, ""},
	{"the server hangs", func(t *testing.T) *scene {
		m := miniredis.RunT(t)
		proxy := redistest.Proxy(t, m.Addr())
		s := sceneOn(t, proxy.Addr(), soon)
		proxy.Hold(true)
		proxy.Silence()
		return s
	}, of(inRedis, "ErrUnreachable"), isTimeout, ""},
	{"redis-server hangs", func(t *testing.T) *scene {
		server := redistest.Start(t)
		s := sceneOn(t, server.Addr(), soon)
		server.Pause()
		return s
	}, of(inRedis, "ErrUnreachable"), isTimeout, ""},
	{"the server is dead", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.m.Close()
		return s
	}, of(inRedis, "ErrUnreachable"), nil, ""},
	{"redis-server is killed", func(t *testing.T) *scene {
		server := redistest.Start(t)
		s := sceneOn(t, server.Addr(), "")
		server.Kill()
		return s
	}, of(inRedis, "ErrUnreachable"), nil, ""},
	{"the server of a client of another make is dead", func(t *testing.T) *scene {
		m := miniredis.RunT(t)
		client := goredis.NewClient(&goredis.Options{Addr: m.Addr()})
		t.Cleanup(func() { _ = client.Close() })
		s := sceneOf(t, redis.NewProviderOn(anotherMake{client}), `{"user_key":"uid","max_retries":-1}`)
		m.Close()
		return s
	}, of(inRedis, "ErrUnreachable"), nil, ""},
	{"a client of the application is closed", func(t *testing.T) *scene {
		client := goredis.NewClient(&goredis.Options{Addr: miniredis.RunT(t).Addr()})
		s := sceneOf(t, redis.NewProvider(client), `{"user_key":"uid","max_retries":-1}`)
		s.ok(client.Close())
		return s
	}, of(inRedis, "ErrClosed"), nil, ""},
	{"the server serves nobody for the moment", sceneAnswering("CLUSTERDOWN The cluster is down"), of(inRedis, "ErrUnreachable"), isReplied, ""},
	{"the server takes no writes", sceneAnswering("READONLY You can't write against a read only replica."), of(inRedis, "ErrUnreachable"), isReplied, ""},
	{"the server refuses", sceneAnswering("NOPERM this user has no permissions"), of(inRedis, another), isReplied, ""},
	{"the caller has left", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		left, leave := context.WithCancel(ctx)
		leave()
		s.ctx = left
		return s
	}, of(without(inRedis, "Provider.SessionRegenerate", "Provider.SessionDestroy", "Provider.DestroyAll", "Provider.Check"), "Canceled"), nil, ""},
	{"the caller's time is over", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		over, end := context.WithTimeout(ctx, 0)
		t.Cleanup(end)
		s.ctx = over
		return s
	}, of(without(inRedis, "Provider.SessionRegenerate", "Provider.SessionDestroy", "Provider.DestroyAll", "Provider.Check"), "ErrUnreachable"), isTimeout, ""},
	{"what is stored is no session", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.ok(s.m.Set(s.id, "no session"))
		return s
	}, of([]string{"Provider.SessionRead", "Provider.SessionRegenerate", "SessionStore.Update"}, "ErrUndecodable"), nil, ""},
	{"what is stored is of another type", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.m.Del(s.id)
		_, err := s.m.Push(s.id, "no session")
		s.ok(err)
		return s
	}, of([]string{"Provider.SessionRead", "Provider.SessionRegenerate", "SessionStore.Update"}, "ErrUndecodable"), isReplied, ""},
	{"what is stored cannot be decrypted", func(t *testing.T) *scene {
		keys := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(keys, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
			t.Fatal(err)
		}
		s := sceneOnMiniredis(t, "")
		sealing := open(t, strings.TrimSuffix(s.config, "}")+fmt.Sprintf(`,"encryption_keys_file":%q}`, keys), life)
		store, err := sealing.SessionRead(ctx, s.id)
		s.ok(err)
		s.ok(store.Set(ctx, "more", true))
		store.SessionRelease(ctx, nil)
		return s
	}, of([]string{"Provider.SessionRead", "Provider.SessionRegenerate", "SessionStore.Update"}, "ErrUndecodable"), nil, ""},
	{"the id is none", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.id, s.newID = "an id", ""
		return s
	}, of([]string{"Provider.SessionRead", "Provider.SessionRegenerate"}, "ErrRefusedID"), nil, ""},
	{"the values are none", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.value, s.life = func() {}, -1
		return s
	}, of([]string{"SessionStore.Set", "SessionStore.SetLifeTime", "SessionStore.Update"}, "ErrRefusedValue"), nil, ""},
	{"the key cannot be looked up", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.key = []string{"k"}
		return s
	}, of([]string{"SessionStore.Set"}, "ErrRefusedValue"), nil, ""},
	{"the session is too large", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, `,"max_session_bytes":1000`)
		s.value = strings.Repeat("v", 1000)
		return s
	}, of([]string{"SessionStore.Update"}, "ErrTooLarge"), nil, ""},
	{"the session was destroyed", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.ok(s.SessionDestroy(ctx, s.id))
		return s
	}, of([]string{"SessionStore.Update"}, "ErrGone"), nil, ""},
	{"the session has expired", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.m.FastForward(life * time.Second)
		return s
	}, of([]string{"SessionStore.Update"}, "ErrGone"), nil, ""},
	{"the provider was closed", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.ok(s.Close(ctx))
		return s
	}, of(without(inRedis, "Provider.SessionInit"), "ErrClosed"), nil, ""},
	{"an operation does not end before Close does", func(t *testing.T) *scene {
		m := miniredis.RunT(t)
		proxy := redistest.Proxy(t, m.Addr())
		s := sceneOn(t, proxy.Addr(), soon)
		proxy.Silence()
		done := make(chan struct{})
		go func() { defer close(done); _ = s.SessionDestroy(ctx, newID()) }()
		t.Cleanup(func() { <-done })
		await(t, "the operation", func() bool { return s.Stats().InFlight == 1 })
		over, end := context.WithTimeout(ctx, 0)
		t.Cleanup(end)
		s.ctx = over
		return s
	}, map[string]string{"Provider.Close": another}, isTimeout, "Provider.Close"},
	{"the provider was never configured", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.Provider = new(redis.Provider)
		return s
	}, of(without(inRedis, "Provider.SessionInit", "SessionStore.Update"), another), nil, ""},
	{"the configuration is wrong", func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.config = `{"poolsize":"many"}`
		return s
	}, map[string]string{"Provider.SessionInit": another}, nil, ""},
}

// sceneAnswering has the server answer everything with an error.
func sceneAnswering(reply string) func(*testing.T) *scene {
	return func(t *testing.T) *scene {
		s := sceneOnMiniredis(t, "")
		s.m.SetError(reply)
		return s
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}

func isReplied(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply)
}

func TestErrorsThatACallerTellsApart(t *testing.T) {
	t.Parallel()
	for i, situation := range situations {
		t.Run(situation.name, func(t *testing.T) {
			t.Parallel()
			var all sync.WaitGroup // at once, as some take all the time that they have
			defer all.Wait()
			for name, call := range returnsErrors {
				wanted := situation.want[name] != ""
				if !wanted && (situation.only != "" || i > 0 && !slices.Contains(inRedis, name)) {
					continue
				}
				s := situation.set(t)
				all.Add(1)
				go func() {
					defer all.Done()
					checkError(t, name, call(s), situation.want[name], situation.cause)
				}()
			}
		})
	}
}

func checkError(t *testing.T, name string, err error, want string, cause func(error) bool) {
	t.Helper()
	if (err != nil) != (want != "") {
		t.Errorf("%s: got %v, want %q", name, err, want)
	}
	for other, e := range known {
		if is := errors.Is(err, e); is != (other == want) {
			t.Errorf("%s: %v: errors.Is of %s is %v, want %q", name, err, other, is, want)
		}
	}
	if err == nil {
		return
	}
	for _, e := range known {
		if strings.Count(err.Error(), e.Error()) > 1 {
			t.Errorf("%s: it says it twice: %v", name, err)
		}
	}
	if !strings.HasPrefix(err.Error(), "session/redis: ") {
		t.Errorf("%s: it does not say whose it is: %v", name, err)
	}
	if cause != nil && !cause(err) {
		t.Errorf("%s: its cause cannot be found: %v", name, err)
	}
}

// What is exported and returns errors, and each error that is, has its place in the test above.
func TestErrorsAreAllMet(t *testing.T) {
	t.Parallel()
	var returning, errs []string
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if name, ok := exported(d); ok && mentionsError(d.Type.Results) {
					returning = append(returning, name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.VAR {
						for _, name := range v.Names {
							if strings.HasPrefix(name.Name, "Err") {
								errs = append(errs, name.Name)
							}
						}
					}
				}
			}
		}
	}
	met := map[string]bool{}
	for _, situation := range situations {
		for _, want := range situation.want {
			met[want] = true
		}
	}
	slices.Sort(returning)
	if len(returning) < len(returnsErrors) {
		t.Errorf("too few are found: %q", returning)
	}
	for _, name := range returning {
		if returnsErrors[name] == nil {
			t.Errorf("%s returns an error, and is not called", name)
		}
	}
	if len(errs) < 7 {
		t.Errorf("too few are found: %q", errs)
	}
	for _, name := range errs {
		if known[name] == nil || !met[name] {
			t.Errorf("%s is in no situation", name)
		}
	}
}

// exported returns the name of a function, with its receiver's before it, and whether others can call it.
func exported(d *ast.FuncDecl) (name string, ok bool) {
	if d.Recv == nil {
		return d.Name.Name, d.Name.IsExported()
	}
	expr := d.Recv.List[0].Type
	if pointer, ok := expr.(*ast.StarExpr); ok {
		expr = pointer.X
	}
	receiver, ok := expr.(*ast.Ident)
	return fmt.Sprintf("%s.%s", receiver, d.Name), ok && receiver.IsExported() && d.Name.IsExported()
}

func mentionsError(results *ast.FieldList) (found bool) {
	if results == nil {
		return false
	}
	ast.Inspect(results, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && id.Name == "error"
		return true
	})
	return found
}

// What cannot be returned is told with the same errors.
func TestErrorsOfFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		extra string
		fault func(s *scene)
		want  error
	}{
		"dead":      {"", func(s *scene) { s.m.Close() }, redis.ErrUnreachable},
		"replaced":  {"", func(s *scene) { s.ok(s.m.Set(s.id, "no session")) }, redis.ErrUndecodable},
		"expired":   {"", func(s *scene) { s.m.FastForward(life * time.Second) }, redis.ErrGone},
		"closed":    {"", func(s *scene) { s.ok(s.Close(ctx)) }, redis.ErrClosed},
		"too large": {`,"max_session_bytes":1000`, func(s *scene) { s.ok(s.store.Set(ctx, "more", strings.Repeat("v", 1000))) }, redis.ErrTooLarge},
		"in place":  {"", func(s *scene) { s.store.Get(ctx, "list").([]any)[0] = func() {} }, redis.ErrRefusedValue},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sceneOnMiniredis(t, c.extra)
			var told []redis.Failure
			s.OnError(func(_ context.Context, f redis.Failure) { told = append(told, f) })
			s.ok(s.store.Set(ctx, "k", "v"))
			c.fault(s)
			s.store.SessionRelease(ctx, nil)
			if len(told) != 1 || !errors.Is(told[0].Err, c.want) {
				t.Errorf("told %+v", told)
			}
			for other, e := range known {
				if e != c.want && errors.Is(told[0].Err, e) {
					t.Errorf("%v is %s as well", told[0].Err, other)
				}
			}
		})
	}
}
