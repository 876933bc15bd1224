// The configuration: a comma-separated string, JSON or a URL becomes one validated config value.

package redis

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/beego-session/redis/internal/client"
)

// MaxPoolSize is the default of poolsize: how many connections there may be to each server. SessionInit reads it.
var MaxPoolSize = 100

// Defaults of what the configuration leaves out. The timeouts are go-redis v7's own. It would not retry at all, which
// turns every restart of a server into failed requests, so retries have the default of its later versions.
const (
	defaultPort          = "6379"
	defaultSentinelPort  = "26379"
	defaultMasterName    = "mymaster"
	defaultMaxRetries    = 3
	defaultMinBackoff    = 8 * time.Millisecond
	defaultMaxBackoff    = 128 * time.Millisecond // go-redis waits up to 512 ms, long after a server is back
	defaultOutageTime    = 2 * time.Second
	defaultDialTimeout   = 5 * time.Second
	defaultReadTimeout   = 3 * time.Second
	defaultIdleTimeout   = 5 * time.Minute
	defaultIdleCheck     = time.Minute
	defaultTouchInterval = -1 // a hundredth of the life time, which is not known here
)

// config is a validated configuration.
type config struct {
	client client.Options

	maxRetries             int
	minBackoff, maxBackoff time.Duration // between retries
	outageTime             time.Duration // how long a server that does not serve is waited for, beyond maxRetries

	keyPrefix     string
	userKey       string // the key of a session's values that says whose it is; empty: there is no index
	skipEmpty     bool
	maxSize       int           // of a session, in bytes; 0: any
	sharded       *bool         // several servers have the keys; nil: to be found out
	touchInterval time.Duration // defaultTouchInterval, or how much life time may pass before a read session is refreshed

	regenerateGrace time.Duration // for which an id that was regenerated exists as an empty session; 0: not
	maxAge          time.Duration // after which a session ends, however busy it is; 0: never
	hashIDs         hashing
	onUndecodable   string   // "", or "new": what is no session is an empty one
	onOutage        string   // "", or "anonymous": while Redis cannot be reached a request has an empty session
	keys            *keyring // that values are encrypted with; nil: they are not

	settings settings // as the user wrote them, for Provider's exported fields
}

// hashing is whether the keys of sessions have a hash in the place of the id.
type hashing int

const (
	hashNone   hashing = iota
	hashAccept         // sessions under a hash are used, and none is made
	hashAll            // sessions under their id move to a hash when they are next used
)

// operationTime is how long one operation may take, with all its retries.
func (c *config) operationTime() time.Duration {
	return c.client.DialTimeout + c.client.ReadTimeout + c.client.WriteTimeout
}

// settings holds what a configuration says before it is validated: the zero value of a field says nothing.
type settings struct {
	SavePath, Username, Password                                            string
	PasswordFile, PasswordEnv                                               string
	Mode, MasterName                                                        string
	SentinelUsername, SentinelPassword                                      string
	SentinelPasswordFile, SentinelPasswordEnv                               string
	KeyPrefix, UserKey                                                      string
	OnUndecodable, OnOutage, EncryptionKeysFile                             string
	RegenerateGrace, MaxAge                                                 time.Duration
	HashIDs                                                                 hashing
	PoolSize, MinIdleConns, DBNum, MaxSessionBytes                          int
	MaxRetries                                                              int // -1: none
	TouchInterval, OutageTime                                               *time.Duration
	SkipEmpty                                                               bool
	Sharded                                                                 *bool
	IdleTimeout, IdleCheckFrequency, MaxConnAge                             time.Duration
	DialTimeout, ReadTimeout, WriteTimeout, PoolTimeout, MinRetry, MaxRetry time.Duration
	TLS, SentinelTLS                                                        *client.TLS
	SentinelPlain                                                           bool // no TLS to the Sentinels, whatever TLS says
}

// setting reads one key's value into settings.
type setting struct {
	quoted bool // in a URL the value is a string also where it looks like a number
	set    func(*settings, json.RawMessage) error
}

// known are the keys of the JSON configuration and, but for save_path, tls and sentinel_tls, of a URL's query.
var known = map[string]setting{
	"save_path":              text(func(s *settings) *string { return &s.SavePath }),
	"username":               text(func(s *settings) *string { return &s.Username }),
	"password":               text(func(s *settings) *string { return &s.Password }),
	"password_file":          text(func(s *settings) *string { return &s.PasswordFile }),
	"password_env":           text(func(s *settings) *string { return &s.PasswordEnv }),
	"mode":                   text(func(s *settings) *string { return &s.Mode }),
	"master_name":            text(func(s *settings) *string { return &s.MasterName }),
	"sentinel_username":      text(func(s *settings) *string { return &s.SentinelUsername }),
	"sentinel_password":      text(func(s *settings) *string { return &s.SentinelPassword }),
	"sentinel_password_file": text(func(s *settings) *string { return &s.SentinelPasswordFile }),
	"sentinel_password_env":  text(func(s *settings) *string { return &s.SentinelPasswordEnv }),
	"key_prefix":             text(func(s *settings) *string { return &s.KeyPrefix }),
	"user_key":               text(func(s *settings) *string { return &s.UserKey }),
	"poolsize":               number(0, func(s *settings, n int) { s.PoolSize = n }),
	"min_idle_conns":         number(0, func(s *settings, n int) { s.MinIdleConns = n }),
	"db_num":                 number(0, func(s *settings, n int) { s.DBNum = n }),
	"max_retries":            number(-1, func(s *settings, n int) { s.MaxRetries = n }),
	"idle_timeout":           durationOrNever(func(s *settings, d time.Duration) { s.IdleTimeout = d }),
	"idle_check_frequency":   durationOrNever(func(s *settings, d time.Duration) { s.IdleCheckFrequency = d }),
	"max_conn_age":           duration(func(s *settings, d time.Duration) { s.MaxConnAge = d }),
	"dial_timeout":           duration(func(s *settings, d time.Duration) { s.DialTimeout = d }),
	"read_timeout":           duration(func(s *settings, d time.Duration) { s.ReadTimeout = d }),
	"write_timeout":          duration(func(s *settings, d time.Duration) { s.WriteTimeout = d }),
	"pool_timeout":           duration(func(s *settings, d time.Duration) { s.PoolTimeout = d }),
	"min_retry_backoff":      duration(func(s *settings, d time.Duration) { s.MinRetry = d }),
	"max_retry_backoff":      duration(func(s *settings, d time.Duration) { s.MaxRetry = d }),
	"outage_time":            duration(func(s *settings, d time.Duration) { s.OutageTime = &d }),
	"touch_interval":         duration(func(s *settings, d time.Duration) { s.TouchInterval = &d }),
	"max_session_bytes":      number(0, func(s *settings, n int) { s.MaxSessionBytes = n }),
	"skip_empty":             truth(func(s *settings, is bool) { s.SkipEmpty = is }),
	"regenerate_grace":       duration(func(s *settings, d time.Duration) { s.RegenerateGrace = d }),
	"max_age":                duration(func(s *settings, d time.Duration) { s.MaxAge = d }),
	"on_undecodable":         oneOf(func(s *settings) *string { return &s.OnUndecodable }, "error", "new"),
	"on_outage":              oneOf(func(s *settings) *string { return &s.OnOutage }, "error", "anonymous"),
	"encryption_keys_file":   text(func(s *settings) *string { return &s.EncryptionKeysFile }),
	"hash_ids":               {set: readHashing},
	"sharded":                truth(func(s *settings, is bool) { s.Sharded = &is }),
	"tls": {set: func(s *settings, raw json.RawMessage) (err error) {
		s.TLS, err = readTLS(raw)
		return err
	}},
	"sentinel_tls": {set: func(s *settings, raw json.RawMessage) (err error) {
		s.SentinelTLS, err = readTLS(raw)
		s.SentinelPlain = s.SentinelTLS == nil
		return err
	}},
}

// aliases are names that keys have elsewhere.
var aliases = map[string]string{"pool_size": "poolsize", "idle_timeout_seconds": "idle_timeout"}

func text(field func(*settings) *string) setting {
	return setting{quoted: true, set: func(s *settings, raw json.RawMessage) error {
		if json.Unmarshal(raw, field(s)) != nil {
			return errors.New("must be a string")
		}
		return nil
	}}
}

// oneOf reads one of two words, of which the first is the default, and says nothing.
func oneOf(field func(*settings) *string, usual, other string) setting {
	return setting{quoted: true, set: func(s *settings, raw json.RawMessage) error {
		var word string
		if json.Unmarshal(raw, &word) != nil || word != usual && word != other {
			return fmt.Errorf("must be %q, which is the default, or %q", usual, other)
		}
		if word == other {
			*field(s) = other
		}
		return nil
	}}
}

func readHashing(s *settings, raw json.RawMessage) error {
	switch strings.Trim(string(raw), `"`) { // a URL has no quotes
	case "false":
		s.HashIDs = hashNone
	case "accept":
		s.HashIDs = hashAccept
	case "true":
		s.HashIDs = hashAll
	default:
		return errors.New(`must be true, false or "accept"`)
	}
	return nil
}

func truth(set func(*settings, bool)) setting {
	return setting{set: func(s *settings, raw json.RawMessage) error {
		var is bool
		if json.Unmarshal(raw, &is) != nil {
			return errors.New("must be true or false")
		}
		set(s, is)
		return nil
	}}
}

func number(least int, set func(*settings, int)) setting {
	return setting{set: func(s *settings, raw json.RawMessage) error {
		var n int
		if json.Unmarshal(raw, &n) != nil || n < least || n > math.MaxInt32 {
			return fmt.Errorf("must be a whole number, %d or more, and less than 2^31", least)
		}
		set(s, n)
		return nil
	}}
}

// duration reads a Go duration ("1m30s") or a number of seconds; "" says nothing, as beego's own examples write it.
func duration(set func(*settings, time.Duration)) setting {
	const year = 365 * 24 * time.Hour
	return durationFrom(0, year, "from 0 to a year", set)
}

// never is what go-redis takes for no idle timeout, or for no check of it, as anything negative.
const never = -time.Second

func durationOrNever(set func(*settings, time.Duration)) setting {
	return durationFrom(math.MinInt64, math.MaxInt64, "negative for never", func(s *settings, d time.Duration) {
		if d < 0 {
			d = never
		}
		set(s, d)
	})
}

func durationFrom(least, most time.Duration, limits string, set func(*settings, time.Duration)) setting {
	errDuration := errors.New(`must be a duration like "30s", or a number of seconds, ` + limits)
	return setting{quoted: true, set: func(s *settings, raw json.RawMessage) error {
		if string(raw) == `""` {
			return nil
		}
		d, ok := readDuration(raw)
		if !ok || d < least || d > most {
			return errDuration
		}
		set(s, d)
		return nil
	}}
}

func readDuration(raw json.RawMessage) (d time.Duration, ok bool) {
	var value any
	_ = json.Unmarshal(raw, &value) // what fails leaves nil
	seconds, ok := value.(float64)
	if text, isText := value.(string); isText {
		var err error
		if d, err = time.ParseDuration(text); err == nil {
			return d, true
		}
		seconds, err = strconv.ParseFloat(text, 64)
		ok = err == nil
	}
	const most = 9e9 // seconds, which are 285 years: a time.Duration holds little more
	if !ok || !(math.Abs(seconds) <= most) {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// readTLS returns nil for false.
func readTLS(raw json.RawMessage) (*client.TLS, error) {
	if on := false; json.Unmarshal(raw, &on) == nil {
		if !on {
			return nil, nil
		}
		return &client.TLS{}, nil
	}
	var t client.TLS
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields() // a misspelt key would weaken what the user meant to secure
	if err := dec.Decode(&t); err != nil {
		return nil, fmt.Errorf(`must be true, or an object like {"ca_file": "/etc/redis/ca.pem"}: %w`, err)
	}
	return &t, nil
}

// parseConfig reads a configuration in any of its forms, for the provider that is registered under a name that stands
// for mode. The warnings name what was ignored; they and the error hold nothing secret.
func parseConfig(mode client.Mode, text string) (cfg config, warnings []string, err error) {
	text = strings.TrimSpace(text)
	var s settings
	switch {
	case strings.HasPrefix(text, "{"):
		warnings, err = s.readJSON(text)
	case isURL(text):
		s.SavePath = text
	default:
		warnings, err = s.readComma(mode, text)
	}
	if err == nil && isURL(s.SavePath) {
		var more []string
		more, err = s.readURL()
		warnings = append(warnings, more...)
	}
	if err == nil {
		mode, err = s.mode(mode)
	}
	if err == nil {
		if mode == client.Cluster && s.DBNum != 0 {
			warnings = append(warnings, "db_num is ignored: a cluster has one database only")
			s.DBNum = 0
		}
		cfg, err = s.validate(mode)
	}
	if err != nil {
		return config{}, nil, fmt.Errorf("session/redis: configuration: %w", err)
	}
	return cfg, warnings, nil
}

// readComma reads beego's comma-separated form. Like beego it takes the default for what is no number, but says so.
func (s *settings) readComma(mode client.Mode, text string) (warnings []string, err error) {
	keys := []string{"save_path", "poolsize", "password", "db_num", "idle_timeout", "idle_check_frequency", "max_retries"}
	if mode == client.Sentinel {
		keys = slices.Insert(keys, 4, "master_name")
	}
	for i, part := range strings.Split(text, ",") {
		if i >= len(keys) {
			warnings = append(warnings, fmt.Sprintf("the configuration has more than %d parts: the rest is ignored", len(keys)))
			break
		}
		if part == "" {
			continue
		}
		raw := quote(part)
		if key := keys[i]; key != "save_path" && key != "password" && key != "master_name" {
			n, err := strconv.Atoi(part) // which also takes "01" and "+1", and not " 1"
			if err != nil || n < 0 && key != "max_retries" {
				warnings = append(warnings, fmt.Sprintf("part %d (%s) of the configuration is no whole number, 0 or more: "+
					"the default is used", i+1, key))
				continue
			}
			raw = json.RawMessage(strconv.Itoa(n))
		}
		err := known[keys[i]].set(s, raw)
		switch {
		case err != nil && keys[i] == "db_num": // whose default is another database
			return nil, fmt.Errorf("part %d (db_num) %w", i+1, err)
		case err != nil:
			warnings = append(warnings, fmt.Sprintf("part %d (%s) of the configuration %v: the default is used", i+1, keys[i], err))
		}
	}
	return warnings, nil
}

func (s *settings) readJSON(text string) (warnings []string, err error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &values); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("not valid JSON at byte %d: %w", syntax.Offset, err)
		}
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	return s.set(values, aliases, "")
}

// set reads the values of keys, which may also have the other names in aliases. Its errors say where.
func (s *settings) set(values map[string]json.RawMessage, aliases map[string]string, where string) (warnings []string, err error) {
	given := map[string]string{} // the key that a setting was given by
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name := strings.ToLower(key) // beego's own provider did not mind the case
		name = cmp.Or(aliases[name], name)
		setting, ok := known[name]
		if !ok {
			warnings = append(warnings, unknownKey(key))
			continue
		}
		if string(values[key]) == "null" {
			continue
		}
		if other, ok := given[name]; ok {
			return nil, fmt.Errorf("%s and %s%s are the same: give one of them", other, key, where)
		}
		given[name] = key
		if err := setting.set(s, values[key]); err != nil {
			return nil, fmt.Errorf("%s%s %w", strings.ToLower(key), where, err)
		}
	}
	return warnings, nil
}

func quote(s string) json.RawMessage {
	raw, _ := json.Marshal(s) // a string always marshals
	return raw
}

// validate checks the settings against each other and fills in the defaults.
func (s *settings) validate(mode client.Mode) (config, error) {
	cfg := config{
		client: client.Options{
			Mode:               mode,
			Network:            "tcp",
			Username:           s.Username,
			DB:                 s.DBNum,
			SentinelUsername:   s.SentinelUsername,
			PoolSize:           cmp.Or(s.PoolSize, MaxPoolSize),
			MinIdleConns:       s.MinIdleConns,
			MaxConnAge:         s.MaxConnAge,
			IdleTimeout:        cmp.Or(s.IdleTimeout, defaultIdleTimeout),
			IdleCheckFrequency: cmp.Or(s.IdleCheckFrequency, defaultIdleCheck),
			DialTimeout:        cmp.Or(s.DialTimeout, defaultDialTimeout),
			ReadTimeout:        cmp.Or(s.ReadTimeout, defaultReadTimeout),
		},
		maxRetries:    max(cmp.Or(s.MaxRetries, defaultMaxRetries), 0),
		minBackoff:    cmp.Or(s.MinRetry, defaultMinBackoff),
		maxBackoff:    cmp.Or(s.MaxRetry, defaultMaxBackoff),
		keyPrefix:     s.KeyPrefix,
		userKey:       s.UserKey,
		skipEmpty:     s.SkipEmpty,
		maxSize:       s.MaxSessionBytes,
		sharded:       s.Sharded,
		touchInterval: defaultTouchInterval,

		regenerateGrace: s.RegenerateGrace,
		maxAge:          s.MaxAge,
		hashIDs:         s.HashIDs,
		onUndecodable:   s.OnUndecodable,
		onOutage:        s.OnOutage,
	}
	for key, d := range map[string]time.Duration{"regenerate_grace": s.RegenerateGrace, "max_age": s.MaxAge} {
		if d%time.Second != 0 {
			return config{}, fmt.Errorf("%s must be whole seconds", key)
		}
	}
	cfg.client.WriteTimeout = cmp.Or(s.WriteTimeout, cfg.client.ReadTimeout)
	cfg.client.PoolTimeout = cmp.Or(s.PoolTimeout, cfg.client.ReadTimeout+time.Second)
	if s.TouchInterval != nil {
		cfg.touchInterval = *s.TouchInterval
	}
	switch {
	case s.OutageTime != nil:
		cfg.outageTime = *s.OutageTime
	case s.MaxRetries >= 0:
		cfg.outageTime = defaultOutageTime
	}
	if cfg.minBackoff > cfg.maxBackoff {
		return config{}, errors.New("min_retry_backoff is longer than max_retry_backoff")
	}
	if s.MinIdleConns > cfg.client.PoolSize {
		return config{}, fmt.Errorf("min_idle_conns %d is more than poolsize %d", s.MinIdleConns, cfg.client.PoolSize)
	}
	var err error
	if cfg.client.Addrs, err = s.addrs(mode); err != nil {
		return config{}, err
	}
	if strings.HasPrefix(cfg.client.Addrs[0], "/") {
		cfg.client.Network = "unix"
	}
	if mode == client.Sentinel {
		cfg.client.MasterName = cmp.Or(s.MasterName, defaultMasterName)
	}
	if cfg.client.Password, err = secret("password", s.Password, s.PasswordFile, s.PasswordEnv); err != nil {
		return config{}, err
	}
	sentinel, err := secret("sentinel_password", s.SentinelPassword, s.SentinelPasswordFile, s.SentinelPasswordEnv)
	if err != nil {
		return config{}, err
	}
	if sentinel != nil {
		if cfg.client.SentinelPassword, err = sentinel(); err != nil {
			return config{}, err
		}
	}
	if s.TLS != nil {
		if cfg.client.TLS, err = s.TLS.Config(); err != nil {
			return config{}, err
		}
	}
	switch {
	case mode != client.Sentinel || s.SentinelPlain:
	case s.SentinelTLS == nil:
		cfg.client.SentinelTLS = cfg.client.TLS
	default:
		if cfg.client.SentinelTLS, err = s.SentinelTLS.Config(); err != nil {
			return config{}, fmt.Errorf("sentinel_%w", err) // which begins with tls:
		}
	}
	if s.EncryptionKeysFile != "" {
		if cfg.keys, err = openKeys(s.EncryptionKeysFile); err != nil {
			return config{}, err
		}
	}
	cfg.settings = *s
	return cfg, nil
}

// connects tells whether the settings say anything about how to reach Redis. The time limits also bound an operation through a client
// of the application.
func (s settings) connects() bool {
	s.KeyPrefix, s.SkipEmpty, s.TouchInterval, s.MaxRetries, s.OutageTime, s.Sharded = "", false, nil, 0, nil, nil
	s.DialTimeout, s.ReadTimeout, s.WriteTimeout = 0, 0, 0
	s.UserKey, s.MaxSessionBytes = "", 0
	s.OnUndecodable, s.OnOutage, s.EncryptionKeysFile, s.RegenerateGrace, s.MaxAge, s.HashIDs = "", "", "", 0, 0, hashNone
	return s != settings{}
}

// hashTag is the part of a key that alone decides its slot in a cluster.
var hashTag = regexp.MustCompile(`^[^{]*\{[^}]+\}`)

// mode finds the topology that the name of the provider and the key mode ask for, and checks that the others agree.
func (s *settings) mode(mode client.Mode) (client.Mode, error) {
	if s.Mode != "" {
		asked, ok := map[string]client.Mode{
			"standalone": client.Standalone, "sentinel": client.Sentinel, "cluster": client.Cluster,
		}[s.Mode]
		switch {
		case !ok:
			return 0, errors.New(`mode must be "standalone", "sentinel" or "cluster"`)
		case mode != client.Standalone && mode != asked:
			return 0, fmt.Errorf("mode %q contradicts the name of the provider: use the provider redis, or leave mode out", s.Mode)
		}
		mode = asked
	}
	for _, wrong := range []struct {
		is     bool
		advice string
	}{
		{mode != client.Sentinel && s.MasterName != "", `master_name needs "mode": "sentinel" or the provider redis_sentinel`},
		{mode != client.Sentinel && (s.SentinelUsername != "" || s.SentinelPassword+s.SentinelPasswordFile+s.SentinelPasswordEnv != ""),
			`sentinel_username and sentinel_password need "mode": "sentinel" or the provider redis_sentinel`},
		{mode != client.Sentinel && (s.SentinelTLS != nil || s.SentinelPlain),
			`sentinel_tls needs "mode": "sentinel" or the provider redis_sentinel`},
		{mode == client.Standalone && strings.Contains(s.SavePath, ";"),
			`save_path names several servers, which needs "mode": "cluster" or "sentinel"`},
		{mode == client.Cluster && strings.ContainsAny(s.KeyPrefix, "{}") && !hashTag.MatchString(s.KeyPrefix),
			`key_prefix has a brace but no hash tag, like "{app}:"`},
		{mode != client.Standalone && strings.HasPrefix(s.SavePath, "/"), "a unix socket is for a standalone server"},
		{s.TLS != nil && strings.HasPrefix(s.SavePath, "/"), "tls needs a TCP address, but save_path is a unix socket"},
	} {
		if wrong.is {
			return 0, errors.New(wrong.advice)
		}
	}
	return mode, nil
}

// addrs splits save_path, and completes what has no port. Its errors quote nothing: what is no address may be a password.
func (s *settings) addrs(mode client.Mode) ([]string, error) {
	if strings.HasPrefix(s.SavePath, "/") {
		return []string{s.SavePath}, nil
	}
	port := defaultPort
	if mode == client.Sentinel {
		port = defaultSentinelPort
	}
	var addrs []string
	for _, addr := range strings.Split(s.SavePath, ";") {
		if addr = strings.TrimSpace(addr); addr == "" {
			continue
		}
		switch {
		case strings.ContainsFunc(addr, func(r rune) bool { return r <= ' ' || strings.ContainsRune("@/\\?#\"'`", r) }):
			return nil, errors.New("an address in save_path is not host:port: write user and password with keys of their own, or " +
				"all of it as a URL, redis://user:password@host:port/db, without quotes")
		case strings.Contains(addr, ","):
			return nil, errors.New("save_path has a comma between addresses: separate them by a semicolon, as in a:6379;b:6379")
		}
		host, p, err := net.SplitHostPort(addr)
		if err != nil { // no port, or an IPv6 address without brackets
			host, p = strings.Trim(addr, "[]"), port
		}
		if n, err := strconv.Atoi(cmp.Or(p, port)); err != nil || n < 1 || n > math.MaxUint16 {
			return nil, errors.New("an address in save_path has no valid port: write host:port")
		}
		addrs = append(addrs, net.JoinHostPort(cmp.Or(host, "localhost"), cmp.Or(p, port)))
	}
	if len(addrs) == 0 {
		addrs = []string{net.JoinHostPort("localhost", port)}
	}
	return addrs, nil
}

// secret finds the one place that a password comes from; nil is no password.
func secret(key, plain, file, env string) (client.Secret, error) {
	switch {
	case plain != "" && file != "", plain != "" && env != "", file != "" && env != "":
		return nil, fmt.Errorf("give only one of %s, %[1]s_file and %[1]s_env", key)
	case file != "":
		fromFile := client.PasswordFile(file)
		if _, err := fromFile(); err != nil {
			return nil, fmt.Errorf("%s_file: %w", key, err)
		}
		return fromFile, nil
	case env != "":
		if plain = os.Getenv(env); plain == "" {
			return nil, fmt.Errorf("%s_env names the environment variable %s, which is empty or not set", key, env)
		}
	case plain == "":
		return nil, nil
	}
	return func() (string, error) { return plain, nil }, nil
}
