// Values that are encrypted at rest.

package redis_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// newKey returns a line of a file of keys.
func newKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

// keysFile makes a file of keys, or of whatever the lines are.
func keysFile(t testing.TB, lines ...string) (path string) {
	path = filepath.Join(t.TempDir(), "session-keys")
	writeKeys(t, path, lines...)
	return path
}

// writeKeys replaces a file of keys, in one step.
func writeKeys(t testing.TB, path string, lines ...string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// encrypting adds a file of keys to a configuration.
func encrypting(config, path string) string {
	return strings.Replace(config, "{", fmt.Sprintf(`{"encryption_keys_file":%q,`, path), 1)
}

// TestTheSuiteWithEncryptedValues shows that a session behaves as ever where values are encrypted, on each way of saving and moving
// them.
func TestTheSuiteWithEncryptedValues(t *testing.T) {
	for _, topology := range topologies {
		if !slices.Contains([]string{"standalone", "miniredis with IFEQ", "user without scripts", "cluster"}[:redistest.Times(1, 4)], topology.name) {
			continue
		}
		t.Run(topology.name, func(t *testing.T) {
			config, raw := topology.start(t)
			captureLog(t)
			config = encrypting(config, keysFile(t, newKey()))
			runSuite(t, &site{T: t, config: config, raw: raw, Provider: open(t, config, life)}, ofTheProcess)
		})
	}
}

func TestWhenAReplyIsLostAndValuesAreEncrypted(t *testing.T) {
	whenAReplyIsLost(t, lossyTopologies[:redistest.Times(1, 2)], encrypting(`{"outage_time":"0s"}`, keysFile(t, newKey())))
}

// withKeys opens another provider on the same server, with a file of keys of its own.
func (s *site) withKeys(lines ...string) (p *redis.Provider, path string) {
	s.Helper()
	if strings.Contains(s.config, "encryption_keys_file") {
		s.Skip("the site has keys already")
	}
	path = keysFile(s, lines...)
	return s.with(fmt.Sprintf(`"encryption_keys_file":%q`, path), life), path
}

// everything is all that the servers hold: keys, and what is under them.
func (s *site) everything() map[string]string {
	s.Helper()
	var mu sync.Mutex // protects all
	all := map[string]string{}
	dump := func(c *goredis.Client) error {
		for keys := c.Scan(0, "*", 1000).Iterator(); keys.Next(); {
			held, err := c.Get(keys.Val()).Result()
			if err != nil { // gone, or an index of users
				held = strings.Join(c.ZRange(keys.Val(), 0, -1).Val(), " ")
			}
			mu.Lock()
			all[keys.Val()] = held
			mu.Unlock()
		}
		return nil
	}
	var err error
	switch raw := s.raw.(type) {
	case *goredis.ClusterClient:
		err = raw.ForEachMaster(dump)
	case *goredis.Client:
		err = dump(raw)
	}
	if err != nil {
		s.Fatal(err)
	}
	return all
}

// sealedWith returns with which key a session is encrypted, empty for none.
func (s *site) sealedWith(id string) string {
	s.Helper()
	sealed, ok := record.Value(s.raw.Get(id).Val()).Sealed()
	if !ok {
		return ""
	}
	return sealed[1:9]
}

func showsNothing(s *site) {
	_, path := s.withKeys(newKey())
	p := s.with(fmt.Sprintf(`"user_key":"uid","encryption_keys_file":%q`, path), life)
	secret, user := newID(), newID()
	id, next := newID(), newID()
	store := s.read(p, id)
	set(s, store, "uid", user, "name "+secret, "value "+secret)
	store.SessionRelease(ctx, nil)
	mine, theirs := s.read(p, id), s.read(p, id) // a conflict
	set(s, mine, "mine", "mine "+secret, "large", strings.Repeat("large "+secret, 1000))
	set(s, theirs, "theirs", []string{"theirs " + secret})
	theirs.SessionRelease(ctx, nil)
	mine.SessionRelease(ctx, nil)
	shown := func(when string) {
		s.Helper()
		for key, held := range s.everything() {
			if strings.Contains(key, secret) || strings.Contains(held, secret) {
				s.Errorf("%s: the secret is in what is stored under %s", when, key)
			}
			if strings.Contains(held, user) || strings.Contains(key, user) && !strings.HasPrefix(key, "user:{") {
				s.Errorf("%s: the user is in what is stored under %s", when, key)
			}
		}
	}
	shown("saved")
	moved, err := p.SessionRegenerate(ctx, id, next)
	if err != nil {
		s.Fatal(err)
	}
	shown("moved")
	set(s, moved, "more", map[string]any{"k " + secret: secret})
	moved.SessionRelease(ctx, nil)
	shown("saved again")
	store = s.read(p, next)
	for key, want := range map[string]any{"uid": user, "name " + secret: "value " + secret, "mine": "mine " + secret} {
		if got := store.Get(ctx, key); got != want {
			s.Errorf("Get(%s) = %v", key, got)
		}
	}
	if store.Get(ctx, "theirs") == nil || store.Get(ctx, "more") == nil || s.sealedWith(next) == "" {
		s.Error("something is missing")
	}
	s.wantSessionsAre(p, user, next)
	if err := p.SessionDestroy(ctx, next); err != nil {
		s.Error(err)
	}
	shown("destroyed")
}

func (s *site) wantSessionsAre(p *redis.Provider, user string, ids ...string) {
	s.Helper()
	if got := idsOf(s, p, user); !slices.Equal(got, ids) {
		s.Errorf("the sessions of the user are %q, want %q", got, ids)
	}
}

// unreadable checks that a session cannot be used, that the error says why and shows nothing, and that it stays as it is.
func (s *site) unreadable(p *redis.Provider, id, why string) {
	s.Helper()
	before, next := s.raw.Get(id).Val(), newID()
	store, err := p.SessionRead(ctx, id)
	if store != nil || err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), id) {
		s.Errorf("SessionRead = %v, %v; want an error with %q", store, err, why)
	}
	if store, err = p.SessionRegenerate(ctx, id, next); store != nil || err == nil || !strings.Contains(err.Error(), why) {
		s.Errorf("SessionRegenerate = %v, %v; want an error with %q", store, err, why)
	}
	if n := s.raw.Exists(next).Val(); n != 0 {
		s.Error("it has moved")
	}
	if now := s.raw.Get(id).Val(); !strings.HasPrefix(now, before) { // maybe with a version behind it
		s.Error("it was changed")
	}
}

func valuesSwapped(s *site) {
	p, _ := s.withKeys(newKey())
	s = s.on(p)
	ann, eve := s.create("user", "ann"), s.create("user", "eve")
	anns, eves := record.Value(s.raw.Get(ann).Val()), record.Value(s.raw.Get(eve).Val())
	swapped := func(first, second record.Value) {
		s.Helper()
		s.put(ann, string(first))
		s.put(eve, string(second))
		s.unreadable(p, ann, "is that of another session")
		s.unreadable(p, eve, "is that of another session")
	}
	swapped(eves, anns)
	swapped(eves[:eves.Size()]+anns[anns.Size():], anns[:anns.Size()]+eves[eves.Size():])

	// A request that has read its own before that does not take over what is another's.
	s.put(ann, string(anns))
	store := s.read(p, ann)
	set(s, store, "n", 1)
	s.put(ann, string(eves))
	var told error
	p.OnError(func(_ context.Context, f redis.Failure) { told = f.Err })
	store.SessionRelease(ctx, nil)
	if told == nil || s.raw.Get(ann).Val() != string(eves) {
		s.Errorf("told %v", told)
	}

	// Versions are no secret, and of another session they change nothing.
	s.put(ann, string(anns[:anns.Size()]+eves[eves.Size():]))
	s.put(eve, string(eves))
	s.holds(ann, "user", "ann")
	s.holds(eve, "user", "eve")
}

// unencrypted is the site of a provider that has no keys.
func (s *site) unencrypted() *site {
	s.Helper()
	plain := *s
	plain.Provider = s.with(`"encryption_keys_file":""`, life)
	return &plain
}

func undecryptable(s *site) {
	s = s.unencrypted()
	p, _ := s.withKeys(newKey())
	id := newID()
	store := s.read(p, id)
	set(s, store, "a", 1)
	store.SessionRelease(ctx, nil)

	other, _ := s.withKeys(newKey())
	s.unreadable(other, id, "a key that is not in ")
	other.OnError(func(_ context.Context, f redis.Failure) {
		if f.Kind != redis.KindUndecodable {
			s.Errorf("kind %s", f.Kind)
		}
	})
	s.unreadable(s.Provider, id, "encryption_keys_file is not configured")
	if ok, err := s.SessionExist(ctx, id); !ok || err != nil {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	if _, err := session.DecodeGob([]byte(s.raw.Get(id).Val())); err == nil {
		s.Error("beego's provider takes it for a session")
	}
	if got := s.read(p, id).Get(ctx, "a"); got != 1 { // also after all of that
		s.Errorf("a = %v", got)
	}

	plain := s.create("a", 1)
	strict, _ := s.withKeys("refuse plain", newKey())
	s.unreadable(strict, plain, "is not encrypted")
	for _, empty := range []string{"", string(record.Empty(record.NewVersion()))} {
		id := newID()
		s.put(id, empty)
		store := s.read(strict, id)
		set(s, store, "a", 1)
		store.SessionRelease(ctx, nil)
		if got := s.read(strict, id).Get(ctx, "a"); got != 1 || s.sealedWith(id) == "" {
			s.Errorf("a = %v in what was an empty session", got)
		}
	}
}

func keysChanged(s *site) {
	s = s.unencrypted()
	first, second := newKey(), newKey()
	p, path := s.withKeys("write plain", first)
	one, _ := s.withKeys(first)
	next, _ := s.withKeys("# the next one", "", second+"\r", "  "+first+" # the last one")
	last, _ := s.withKeys("refuse plain", second)
	id := s.create("n", 0)
	change := func(p *redis.Provider, n int) {
		s.Helper()
		store := s.read(p, id)
		if got := store.Get(ctx, "n"); got != n-1 {
			s.Errorf("n = %v, want %d", got, n-1)
		}
		set(s, store, "n", n)
		store.SessionRelease(ctx, nil)
	}
	move := func(p *redis.Provider) {
		s.Helper()
		to := newID()
		if _, err := p.SessionRegenerate(ctx, id, to); err != nil {
			s.Fatal(err)
		}
		s.gone(id)
		id = to
	}
	change(p, 1)
	if s.sealedWith(id) != "" {
		s.Error("encrypted where it should not be yet")
	}
	move(p)
	if s.sealedWith(id) != "" {
		s.Error("encrypted where it should not be yet")
	}
	move(one)
	change(p, 2) // as plain again
	change(one, 3)
	withFirst := s.sealedWith(id)
	move(p)
	if s.sealedWith(id) != "" {
		s.Error("encrypted where it should not be yet")
	}
	move(one)
	change(next, 4)
	withSecond := s.sealedWith(id)
	if withFirst == "" || withSecond == "" || withFirst == withSecond {
		s.Errorf("encrypted with %x, and then with %x", withFirst, withSecond)
	}
	writeKeys(s, path, first, second)
	change(p, 5) // which had not looked at its file since
	move(next)
	change(last, 6)
	move(last)
	change(last, 7)
}

// args is a hook that looks at all that is sent.
type args struct {
	hook
	look func(arg string)
}

func (h args) BeforeProcess(ctx context.Context, cmd goredis.Cmder) (context.Context, error) {
	for _, arg := range cmd.Args() {
		h.look(fmt.Sprint(arg))
	}
	return ctx, nil
}

func (h args) BeforeProcessPipeline(ctx context.Context, cmds []goredis.Cmder) (context.Context, error) {
	for _, cmd := range cmds {
		ctx, _ = h.BeforeProcess(ctx, cmd)
	}
	return ctx, nil
}

// TestNothingOfAValueIsSent shows that of what is encrypted nothing is sent, not even what is there for a moment only.
func TestNothingOfAValueIsSent(t *testing.T) {
	for _, topology := range lossyTopologies {
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			secret := newID()
			var leaked, seen atomic.Int64
			look := args{look: func(arg string) {
				if strings.Contains(arg, secret) {
					leaked.Add(1)
				}
				if _, ok := record.Value(arg).Sealed(); ok {
					seen.Add(1)
				}
			}}
			captureLog(t)
			two := &twoProcesses{site: &site{T: t, raw: raw, config: encrypting(`{"skip_empty":false}`, keysFile(t, newKey()))}}
			p := two.open(connect, look)
			id := newID()
			for i := range 20 {
				store := two.read(p, id)
				mine, theirs := two.read(p, id), two.read(p, id)
				set(t, store, "n", i, fmt.Sprint(secret, i%3), secret)
				store.SessionRelease(ctx, nil)
				set(t, mine, "mine", secret, "large", strings.Repeat(secret, i*100))
				mine.SessionRelease(ctx, nil)
				set(t, theirs, "theirs", []any{secret})
				theirs.SessionRelease(ctx, nil)
				next := newID()
				if _, err := p.SessionRegenerate(ctx, id, next); err != nil {
					t.Fatal(err)
				}
				id = next
			}
			if leaked.Load() > 0 || seen.Load() < 80 {
				t.Errorf("sent %d times in plain, and %d envelopes", leaked.Load(), seen.Load())
			}
		})
	}
}

// TestADamagedValueIsNeverAnother changes each byte of what is stored, in all its bits, one after the other.
func TestADamagedValueIsNeverAnother(t *testing.T) {
	m := miniredis.RunT(t)
	p := open(t, encrypting(fmt.Sprintf(`{"save_path":%q}`, m.Addr()), keysFile(t, "refuse plain", newKey())), life)
	id := newID()
	for i, value := range []string{"ann", strings.Repeat("ann", 50)} { // with a length of one byte, and of two
		store := must(p.SessionRead(ctx, id))
		set(t, store, "user", value)
		store.SessionRelease(ctx, nil)
		stored := must(m.Get(id))
		for at := range len(stored) {
			for bit := range 8 {
				damaged := []byte(stored)
				damaged[at] ^= 1 << bit
				_ = m.Set(id, string(damaged))
				store, err := p.SessionRead(ctx, id)
				if at < record.Value(stored).Size() && err == nil || err == nil && store.Get(ctx, "user") != value {
					t.Errorf("value %d with bit %d of byte %d changed is taken for a session", i, bit, at)
				}
			}
		}
		for size := range len(stored) {
			_ = m.Set(id, stored[:size])
			store, err := p.SessionRead(ctx, id)
			if err == nil && (size > 0 && size < record.Value(stored).Size() || size > 0 && store.Get(ctx, "user") != value) {
				t.Errorf("the first %d bytes of value %d are taken for a session", size, i)
			}
		}
		_ = m.Set(id, stored)
	}
}

// FuzzEncryptedValue opens what anybody may have put into Redis: it is what was sealed for this session, or an error.
func FuzzEncryptedValue(f *testing.F) {
	m := miniredis.RunT(f)
	config := fmt.Sprintf(`{"save_path":%q}`, m.Addr())
	path := keysFile(f, "refuse plain", newKey())
	p, plain := open(f, encrypting(config, path), life), open(f, config, life)
	save := func(p *redis.Provider, id string) string {
		store := must(p.SessionRead(ctx, id))
		set(f, store, "user", id)
		store.SessionRelease(ctx, nil)
		return must(m.Get(id))
	}
	id := newID()
	own := save(p, id)
	envelope := own[:record.Value(own).Size()]
	f.Add([]byte(own))
	f.Add([]byte(save(p, newID())))
	f.Add([]byte(save(plain, newID())))
	f.Add([]byte(record.Empty(record.NewVersion())))
	f.Add([]byte("\x02\x00\x01"))
	f.Add([]byte("\xff\x29\x00\x01"))
	f.Add([]byte("\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		value := record.Value(data)
		if opened, err := redis.Opened(p, id, string(data)); err == nil && !value.Blank() {
			if values, _, err := record.Value(opened).Decode(); !strings.HasPrefix(string(data), envelope) || err != nil || values["user"] != id {
				t.Errorf("opened as %q", opened)
			}
		}
		if _, err := redis.Opened(plain, id, string(data)); err == nil {
			if _, ok := value.Sealed(); ok {
				t.Error("an envelope is taken for a plain value")
			}
		}
		if _, ok := value.Sealed(); ok {
			if values, err := session.DecodeGob(data); err == nil {
				t.Errorf("beego's provider takes an envelope for %v", values)
			}
		}
	})
}

// badKeys are files of keys that are not right, by what their error says.
var badKeys = map[string][]string{
	"line 3 is no key":      {"# two keys", newKey(), newKey()[1:]},
	"line 1 is no key":      {"write plain text", newKey()},
	"line 2 is no key":      {newKey(), strings.TrimRight(newKey(), "=")},
	"there is no key in it": {"# none yet"},
	`"refuse plain"`:        {"write plain", "refuse plain", newKey()},
}

func TestAFileOfKeysIsChecked(t *testing.T) {
	m := miniredis.RunT(t)
	config := fmt.Sprintf(`{"save_path":%q}`, m.Addr())
	for want, lines := range badKeys {
		path := keysFile(t, lines...)
		err := new(redis.Provider).SessionInit(ctx, life, encrypting(config, path))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "encryption_keys_file") {
			t.Errorf("SessionInit = %v, want an error with %q and the file", err, want)
			continue
		}
		for _, line := range lines {
			if len(line) > 30 && strings.Contains(err.Error(), line[:8]) {
				t.Errorf("the error shows a key: %v", err)
			}
		}
	}
	missing := filepath.Join(t.TempDir(), "none")
	if err := new(redis.Provider).SessionInit(ctx, life, encrypting(config, missing)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("SessionInit = %v", err)
	}
	p := open(t, encrypting(config, keysFile(t, newKey())), life)
	if err := p.SessionInit(ctx, life, encrypting(config, missing)); err == nil {
		t.Error("a file that is missing is accepted the second time")
	}
	(&site{T: t, Provider: p, config: config, raw: rawClient(t, at(m.Addr()))}).create("a", 1) // on what it had
}

// TestAFileOfKeysThatIsDamagedLater shows that the last good keys are used, and that it is told once.
func TestAFileOfKeysThatIsDamagedLater(t *testing.T) {
	m := miniredis.RunT(t)
	first, second := newKey(), newKey()
	path := keysFile(t, first)
	p := open(t, encrypting(fmt.Sprintf(`{"save_path":%q}`, m.Addr()), path), life)
	told := make(chan redis.Failure, 1000)
	p.OnError(func(_ context.Context, f redis.Failure) {
		if n := p.Stats().Errors[f.Kind]; n == 0 { // and with no lock held
			t.Errorf("not counted: %+v", f)
		}
		told <- f
	})
	s := &site{T: t, Provider: p, raw: rawClient(t, at(m.Addr()))}
	id := s.create("n", 0)
	change := func() {
		t.Helper()
		store := s.read(p, id)
		n := store.Get(ctx, "n").(int)
		set(t, store, "n", n+1)
		store.SessionRelease(ctx, nil)
		if got := s.read(p, id).Get(ctx, "n"); got != n+1 {
			t.Errorf("n = %v", got)
		}
	}
	awaitTold := func(want string) {
		t.Helper()
		var f redis.Failure
		await(t, "a failure to be told", func() bool {
			change()
			select {
			case f = <-told:
				return true
			default:
				return false
			}
		})
		if f.Kind != redis.KindOther || !strings.Contains(f.Err.Error(), want) || !strings.Contains(f.Err.Error(), path) || strings.Contains(f.Err.Error(), first[:8]) {
			t.Errorf("told %v, want %q", f.Err, want)
		}
	}
	writeKeys(t, path, first[:20])
	awaitTold("line 1 is no key")
	stranger := open(t, encrypting(fmt.Sprintf(`{"save_path":%q}`, m.Addr()), keysFile(t, newKey())), life)
	strangers := (&site{T: t, Provider: stranger}).create("a", 1)
	for range 5 { // each time the file is looked at
		if _, err := p.SessionRead(ctx, strangers); err == nil {
			t.Error("a key that nobody knows is known")
		}
	}
	if len(told) > 0 {
		t.Errorf("told again: %v", (<-told).Err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	awaitTold("no such file")
	writeKeys(t, path, second, first)
	withFirst := s.sealedWith(id)
	await(t, "the second key", func() bool { change(); return s.sealedWith(id) != withFirst })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	awaitTold("no such file") // again, as it was right in between
}

// TestASessionThatIsChangedRightBeforeItMoves has another process save between the copy of a session and its removal.
func TestASessionThatIsChangedRightBeforeItMoves(t *testing.T) {
	for _, topology := range lossyTopologies {
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			captureLog(t)
			path := keysFile(t, newKey())
			two := &twoProcesses{site: &site{T: t, raw: raw, config: encrypting(`{"outage_time":"0s"}`, path)}}
			two.other = two.open(connect, nil)
			theirs := (&twoProcesses{site: &site{T: t, config: encrypting(`{"outage_time":"0s"}`, keysFile(t, newKey()))}}).open(connect, nil)
			var meanwhile func()
			two.Provider = two.open(connect, before{move: moving(topology.scripts, false), do: func() {
				if do := meanwhile; do != nil {
					meanwhile = nil
					do()
				}
			}})

			id, next := two.create("user", "ann"), newID()
			meanwhile = func() { two.change(two.other, id, "n", 1) }
			if _, err := two.SessionRegenerate(ctx, id, next); err != nil || meanwhile != nil {
				t.Fatalf("SessionRegenerate = %v", err)
			}
			two.gone(id)
			two.holds(next, "user", "ann", "n", 1)

			// What the other has saved is not for this process: it stays for who can read it.
			id, next = two.create("user", "ann"), newID()
			meanwhile = func() {
				if err := raw.Del(id).Err(); err != nil {
					t.Error(err)
				}
				two.change(theirs, id, "user", "eve")
			}
			if store, err := two.SessionRegenerate(ctx, id, next); store != nil || err == nil || !strings.Contains(err.Error(), "a key that is not in") {
				t.Errorf("SessionRegenerate = %v, %v", store, err)
			}
			if got := must(theirs.SessionRead(ctx, id)).Get(ctx, "user"); got != "eve" {
				t.Errorf("under the old id is the session of %v", got)
			}
			if topology.scripts {
				two.gone(next)
			}
		})
	}
}

// before does something before each command of a name.
type before struct {
	hook
	move string
	do   func()
}

func (h before) BeforeProcess(ctx context.Context, cmd goredis.Cmder) (context.Context, error) {
	if name := nameOf(cmd); name == h.move || name == "renamenx" && h.move == "expire" {
		h.do()
	}
	return ctx, nil
}

func (h before) BeforeProcessPipeline(ctx context.Context, cmds []goredis.Cmder) (context.Context, error) {
	for _, cmd := range cmds {
		ctx, _ = h.BeforeProcess(ctx, cmd)
	}
	return ctx, nil
}
