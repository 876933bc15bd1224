// Where the sessions are: the configuration, from the command line, the environment or the site's app.conf.

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/inside"
	"github.com/beego/beego/v2/core/config"
	"github.com/beego/beego/v2/server/web/session"
)

// source is a configuration as a site has it.
type source struct {
	provider, config string
	life             int64
}

// site is the provider that is configured in this way.
type site struct {
	*redis.Provider
	inside.Inside
}

// defaultApp is where beego looks for the configuration of a site.
var defaultApp = filepath.Join("conf", "app.conf")

func (t *tool) configuration() (source, error) {
	o := t.options
	plain := func(config string) (source, error) { return source{o.provider, config, o.life}, nil }
	switch env := t.getenv("BEEGO_SESSIONS_CONFIG"); {
	case o.given["config"]:
		return plain(o.config)
	case o.given["app"]:
		return t.appConf(o.app)
	case env != "":
		return plain(env)
	}
	if _, err := os.Stat(defaultApp); err != nil {
		return source{}, misuse("where are the sessions? Give -config, -app or BEEGO_SESSIONS_CONFIG")
	}
	return t.appConf(defaultApp)
}

// appConf reads a site's app.conf as beego does, which looks for the run mode in the file, and for the session in the
// section of that run mode. (BEEGO_RUNMODE comes too late for that, except for sessionConfig.) Its errors quote nothing of
// the file.
func (t *tool) appConf(file string) (source, error) {
	app, err := config.NewConfig("ini", file)
	var path *fs.PathError
	switch {
	case errors.As(err, &path):
		return source{}, path
	case err != nil:
		return source{}, fmt.Errorf("%s is not as beego wants it: there is a line that is not key = value", file)
	}
	mode := "prod"
	get := func(key string) string {
		if value, err := app.String(mode + "::" + key); err == nil && value != "" {
			return value
		}
		value, _ := app.String(key)
		return value
	}
	setMode := func(is string) {
		if is != "" {
			mode = is
		}
	}
	setMode(get("RunMode"))
	s := source{cmp.Or(get("SessionProvider"), "memory"), get("SessionProviderConfig"), 3600}
	if life, err := strconv.ParseInt(get("SessionGCMaxLifetime"), 10, 64); err == nil {
		s.life = life
	}
	setMode(t.getenv("BEEGO_RUNMODE"))
	if text := get("sessionConfig"); text != "" {
		var manager session.ManagerConfig
		if json.Unmarshal([]byte(text), &manager) != nil {
			return source{}, fmt.Errorf("sessionConfig in %s is not valid JSON", file)
		}
		s.config, s.life = manager.ProviderConfig, cmp.Or(manager.Maxlifetime, manager.Gclifetime) // as beego chooses
	}
	if t.options.given["provider"] {
		s.provider = t.options.provider
	}
	return s, nil
}

// open connects.
func (t *tool) open(ctx context.Context) error {
	session.SLogger = session.NewSessionLog(&warnings{say: func(line string) { fmt.Fprintln(t.stderr, "beego-sessions: warning:", line) }})
	return t.connect(ctx)
}

func (t *tool) connect(ctx context.Context) error {
	s := t.configured
	registered, err := session.GetProvider(s.provider)
	provider, ok := registered.(*redis.Provider)
	if err != nil || !ok {
		name := "another one"
		if wordLike.MatchString(s.provider) {
			name = s.provider
		}
		return fmt.Errorf("the SessionProvider is %s: only sessions of redis, redis_sentinel and redis_cluster are in Redis (give -config "+
			"where the site registers a provider of its own)", name)
	}
	if err := provider.SessionInit(ctx, s.life, s.config); err != nil {
		return err
	}
	seen, err := inside.Of(provider)
	if err != nil {
		return err
	}
	t.site = &site{provider, seen}
	return nil
}

func (t *tool) close() { _ = t.site.Close(context.Background()) }

// warnings takes the lines of a log.
type warnings struct {
	mu  sync.Mutex
	say func(line string)
}

var _ io.Writer = (*warnings)(nil)

func (w *warnings) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.say(strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(string(p)), "[SESSION]"), "session/redis: "))
	return len(p), nil
}
