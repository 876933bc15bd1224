package redis

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/client"
)

// defaults is what an empty configuration stands for, changed by edit.
func defaults(edit func(*config)) config {
	cfg := config{
		client: client.Options{
			Network: "tcp", Addrs: []string{"localhost:6379"},
			PoolSize: 100, IdleTimeout: 5 * time.Minute, IdleCheckFrequency: time.Minute,
			DialTimeout: 5 * time.Second, ReadTimeout: 3 * time.Second, WriteTimeout: 3 * time.Second, PoolTimeout: 4 * time.Second,
		},
		maxRetries: 3, minBackoff: 8 * time.Millisecond, maxBackoff: 128 * time.Millisecond, outageTime: 2 * time.Second,
		touchInterval: defaultTouchInterval,
	}
	if edit != nil {
		edit(&cfg)
	}
	return cfg
}

func TestConfiguration(t *testing.T) {
	t.Setenv("SESSION_TEST_PASSWORD", "from the environment")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := func(c *config) {
		c.client.Addrs, c.client.PoolSize, c.client.DB = []string{"127.0.0.1:6380"}, 7, 2
		c.client.IdleTimeout, c.client.IdleCheckFrequency, c.maxRetries = 30*time.Second, 60*time.Second, 5
	}
	sentinels := func(c *config) {
		c.client.Mode, c.client.MasterName = client.Sentinel, "mymaster"
		c.client.Addrs = []string{"a:26379", "b:1"}
	}
	cluster := func(c *config) {
		c.client.Mode, c.client.Addrs = client.Cluster, []string{"a:6379", "b:1"}
	}
	for _, test := range []struct {
		name     string
		mode     client.Mode
		text     string
		want     config
		password string
		warnings string // a part of each, separated by |
	}{
		{name: "nothing", text: "", want: defaults(nil)},
		{name: "space", text: "  \n", want: defaults(nil)},
		{name: "empty JSON", text: "{}", want: defaults(nil)},

		{name: "comma: all parts", text: "127.0.0.1:6380,7,secret,2,30,60,5", want: defaults(all), password: "secret"},
		{name: "comma: address", text: "example.org", want: defaults(func(c *config) { c.client.Addrs = []string{"example.org:6379"} })},
		{name: "comma: IPv6", text: "::1", want: defaults(func(c *config) { c.client.Addrs = []string{"[::1]:6379"} })},
		{name: "comma: IPv6 and port", text: "[::1]:1", want: defaults(func(c *config) { c.client.Addrs = []string{"[::1]:1"} })},
		{name: "comma: port", text: ":6380", want: defaults(func(c *config) { c.client.Addrs = []string{"localhost:6380"} })},
		{name: "comma: empty parts", text: ",,,,,,", want: defaults(nil)},
		{name: "comma: zeros", text: ",0,,0,0,0,0", want: defaults(nil)},
		{name: "comma: password with spaces", text: ",, a b ,", want: defaults(nil), password: " a b "},
		{name: "comma: what does not parse", text: ",many,,-1,x,1.5,", want: defaults(nil),
			warnings: "part 2 (poolsize)|part 4 (db_num)|part 5 (idle_timeout)|part 6 (idle_check_frequency)"},
		{name: "comma: numbers as beego reads them", text: ",+7,,01,-1, 60,", want: defaults(func(c *config) {
			c.client.PoolSize, c.client.DB = 7, 1
		}), warnings: "part 5 (idle_timeout)|part 6 (idle_check_frequency)"},
		{name: "comma: too many parts", text: ",,,,,,,8", want: defaults(nil), warnings: "more than 7 parts"},
		{name: "comma: socket", text: "/run/redis.sock,9", want: defaults(func(c *config) {
			c.client.Network, c.client.Addrs, c.client.PoolSize = "unix", []string{"/run/redis.sock"}, 9
		})},
		{name: "comma: no retries", text: ",,,,,,-1", want: defaults(func(c *config) { c.maxRetries, c.outageTime = 0, 0 })},

		{name: "JSON: beego's keys", text: `{"save_path":"127.0.0.1:6380","poolsize":7,"password":"secret","db_num":2,
			"idle_timeout":"30s","idle_check_frequency":"1m","max_retries":5}`, want: defaults(all), password: "secret"},
		{name: "JSON: the case of beego's structs", text: `{"Save_Path":"127.0.0.1:6380","POOLSIZE":7,"DB_num":2,
			"idle_timeout":30,"idle_check_frequency":60,"max_retries":5}`, want: defaults(all)},
		{name: "JSON: null and empty", text: `{"save_path":null,"idle_timeout":"","poolsize":0}`, want: defaults(nil)},
		{name: "JSON: the rest", text: `{"username":"u","min_retry_backoff":"1ms","max_retry_backoff":"2ms","dial_timeout":"3s",
			"read_timeout":4,"write_timeout":"5s","pool_timeout":"6s","min_idle_conns":8,"max_conn_age":"9s","key_prefix":"p:",
			"skip_empty":true,"touch_interval":"0s"}`, want: defaults(func(c *config) {
			c.client.Username, c.minBackoff, c.maxBackoff = "u", time.Millisecond, 2*time.Millisecond
			c.client.DialTimeout, c.client.ReadTimeout, c.client.WriteTimeout = 3*time.Second, 4*time.Second, 5*time.Second
			c.client.PoolTimeout, c.client.MinIdleConns, c.client.MaxConnAge = 6*time.Second, 8, 9*time.Second
			c.keyPrefix, c.skipEmpty, c.touchInterval = "p:", true, 0
		})},
		{name: "JSON: the timeouts that follow from others", text: `{"read_timeout":"1s"}`, want: defaults(func(c *config) {
			c.client.ReadTimeout, c.client.WriteTimeout, c.client.PoolTimeout = time.Second, time.Second, 2*time.Second
		})},
		{name: "JSON: fractions of seconds", text: `{"touch_interval":0.5}`, want: defaults(func(c *config) { c.touchInterval = time.Second / 2 })},
		{name: "JSON: no idle timeout", text: `{"idle_timeout":"-2s","idle_check_frequency":-3}`, want: defaults(func(c *config) {
			c.client.IdleTimeout, c.client.IdleCheckFrequency = never, never
		})},
		{name: "JSON: a long idle timeout", text: `{"idle_timeout":"10000h"}`, want: defaults(func(c *config) { c.client.IdleTimeout = 10000 * time.Hour })},
		{name: "JSON: aliases", text: `{"Pool_Size":7,"idle_timeout_seconds":30}`, want: defaults(func(c *config) {
			c.client.PoolSize, c.client.IdleTimeout = 7, 30*time.Second
		})},
		{name: "JSON: alias of what is null", text: `{"pool_size":7,"poolsize":null}`, want: defaults(func(c *config) { c.client.PoolSize = 7 })},
		{name: "JSON: unknown keys", text: `{"pol_size":1,"zzzzzzzzzz":2}`, want: defaults(nil),
			warnings: `"pol_size", which is ignored: did you mean "poolsize"?|"zzzzzzzzzz", which is ignored`},
		{name: "JSON: password from a file", text: `{"password_file":"` + file + `"}`, want: defaults(nil), password: "from a file"},
		{name: "JSON: password from the environment", text: `{"password_env":"SESSION_TEST_PASSWORD"}`, want: defaults(nil), password: "from the environment"},

		{name: "URL", text: "redis://127.0.0.1:6380/2?poolsize=7&idle_timeout=30s&idle_check_frequency=60&max_retries=5", want: defaults(all)},
		{name: "URL: host", text: "redis://example.org", want: defaults(func(c *config) { c.client.Addrs = []string{"example.org:6379"} })},
		{name: "URL: IPv6", text: "redis://[::1]", want: defaults(func(c *config) { c.client.Addrs = []string{"[::1]:6379"} })},
		{name: "URL: user", text: "redis://u:p%40ss@:6379/", want: defaults(func(c *config) { c.client.Username = "u" }), password: "p@ss"},
		{name: "URL: password only", text: "redis://:12345@localhost", want: defaults(nil), password: "12345"},
		{name: "URL: numbers as strings", text: "redis://localhost?key_prefix=12&skip_empty=true", want: defaults(func(c *config) {
			c.keyPrefix, c.skipEmpty = "12", true
		})},
		{name: "URL: socket", text: "unix://u:p@/run/redis.sock?db=3", want: defaults(func(c *config) {
			c.client.Network, c.client.Addrs, c.client.Username, c.client.DB = "unix", []string{"/run/redis.sock"}, "u", 3
		}), password: "p"},
		{name: "URL: scheme in capitals", text: "REDIS://:12345@localhost", want: defaults(nil), password: "12345"},
		{name: "URL: Valkey", text: "Valkey://:12345@localhost", want: defaults(nil), password: "12345"},
		{name: "URL: no percent-encoding", text: "redis://:p@s s:ö@localhost", want: defaults(nil), password: "p@s s:ö"},
		{name: "URL: aliases", text: "redis://localhost?pool_size=7&idle_timeout_seconds=30", want: defaults(func(c *config) {
			c.client.PoolSize, c.client.IdleTimeout = 7, 30*time.Second
		})},
		{name: "URL: unknown key", text: "redis://localhost?poolsiz=3", want: defaults(nil), warnings: `did you mean "poolsize"?`},
		{name: "URL: key of JSON", text: "redis://localhost?tls=true", want: defaults(nil), warnings: "tls in the URL of save_path is ignored"},
		{name: "URL: user whose password is beside it", text: `{"save_path":"redis://u@localhost","password":"p"}`,
			want: defaults(func(c *config) { c.client.Username = "u" }), password: "p"},
		{name: "URL in JSON", text: `{"save_path":"redis://:secret@127.0.0.1:6380/2","poolsize":7,"idle_timeout":30,"idle_check_frequency":60,
			"max_retries":5,"password":"secret","db_num":2}`, want: defaults(all), password: "secret"},

		{name: "sentinel: all parts", mode: client.Sentinel, text: "a;b:1,7,secret,2,main,30,60,5", want: defaults(func(c *config) {
			all(c)
			sentinels(c)
			c.client.MasterName = "main"
		}), password: "secret"},
		{name: "sentinel: no master name", mode: client.Sentinel, text: "a;b:1,,,,", want: defaults(sentinels)},
		{name: "sentinel: nothing", mode: client.Sentinel, text: "", want: defaults(func(c *config) {
			sentinels(c)
			c.client.Addrs = []string{"localhost:26379"}
		})},
		{name: "sentinel: JSON", mode: client.Sentinel, text: `{"save_path":"a;b:1"}`, want: defaults(sentinels)},
		{name: "sentinel: by mode", text: `{"save_path":"a; b:1","mode":"sentinel","sentinel_username":"su","sentinel_password":"sp"}`,
			want: defaults(func(c *config) {
				sentinels(c)
				c.client.SentinelUsername, c.client.SentinelPassword = "su", "sp"
			})},
		{name: "cluster: all parts", mode: client.Cluster, text: "a;b:1,7,secret,0,30,60,5", want: defaults(func(c *config) {
			all(c)
			cluster(c)
			c.client.DB = 0
		}), password: "secret"},
		{name: "sentinel: URL", text: "redis+sentinel://:pw@a:26379,b:1/main/2", want: defaults(func(c *config) {
			sentinels(c)
			c.client.MasterName, c.client.DB, c.client.SentinelPassword = "main", 2, "pw"
		}), password: "pw"},
		{name: "sentinel: URL with a user", mode: client.Sentinel, text: "Redis+Sentinel://u:pw@a;b:1/", want: defaults(func(c *config) {
			sentinels(c)
			c.client.Username, c.client.SentinelUsername, c.client.SentinelPassword = "u", "u", "pw"
		}), password: "pw"},
		{name: "sentinel: URL and other Sentinel credentials", text: "redis+sentinel://u:pw@a,b:1?sentinel_password=sp", want: defaults(func(c *config) {
			sentinels(c)
			c.client.Username, c.client.SentinelPassword = "u", "sp"
		}), password: "pw"},
		{name: "cluster: URL", text: "redis://:pw@a:6379;b:1?mode=cluster", want: defaults(cluster), password: "pw"},
		{name: "cluster: a database", mode: client.Cluster, text: "a;b:1,,,1", want: defaults(cluster), warnings: "db_num is ignored"},
		{name: "cluster: by mode", text: `{"save_path":"a;b:1;","mode":"cluster"}`, want: defaults(cluster)},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, warnings, err := parseConfig(test.mode, test.text)
			if err != nil {
				t.Fatal(err)
			}
			password := ""
			if got.client.Password != nil {
				if password, err = got.client.Password(); err != nil {
					t.Error(err)
				}
			}
			if password != test.password {
				t.Errorf("password %q, want %q", password, test.password)
			}
			got.client.Password, got.settings = nil, settings{}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			want := strings.Split(test.warnings, "|")
			if test.warnings == "" {
				want = nil
			}
			if len(warnings) != len(want) {
				t.Fatalf("warnings %q, want %d", warnings, len(want))
			}
			for i, part := range want {
				if !strings.Contains(warnings[i], part) {
					t.Errorf("warning %q does not say %q", warnings[i], part)
				}
			}
		})
	}
}

func TestTLSIsConfiguredByURLOrKey(t *testing.T) {
	for text, want := range map[string]bool{
		"rediss://localhost": true, `{"save_path":"rediss://localhost"}`: true, `{"tls":true}`: true, "VALKEYS://localhost": true,
		"rediss+sentinel://localhost": true, "redis+sentinel://localhost": false, "valkey://localhost": false,
		`{"tls":{"insecure_skip_verify":true}}`: true, `{"tls":false}`: false, "redis://localhost": false,
	} {
		cfg, _, err := parseConfig(client.Standalone, text)
		if err != nil || (cfg.client.TLS != nil) != want {
			t.Errorf("%s: TLS %v, %v; want %v", text, cfg.client.TLS != nil, err, want)
		}
	}
}

func TestSentinelsHaveTheServersTLSOrTheirOwn(t *testing.T) {
	for text, want := range map[string][2]string{ // the name that is verified of the servers, and of the Sentinels
		`{"tls":{"server_name":"a"}}`:                                    {"a", "a"},
		`{"tls":{"server_name":"a"},"sentinel_tls":null}`:                {"a", "a"},
		`{"tls":{"server_name":"a"},"sentinel_tls":false}`:               {"a", "plain"},
		`{"tls":{"server_name":"a"},"sentinel_tls":true}`:                {"a", ""},
		`{"tls":{"server_name":"a"},"sentinel_tls":{"server_name":"b"}}`: {"a", "b"},
		`{"sentinel_tls":{"server_name":"b"}}`:                           {"plain", "b"},
		`{"save_path":"redis+sentinel://a","sentinel_tls":true}`:         {"plain", ""},
		`{"save_path":"rediss+sentinel://a","sentinel_tls":false}`:       {"", "plain"},
	} {
		cfg, _, err := parseConfig(client.Sentinel, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := [2]string{"plain", "plain"}
		for i, tls := range []*tls.Config{cfg.client.TLS, cfg.client.SentinelTLS} {
			if tls != nil {
				got[i] = tls.ServerName
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestNamesFromElsewhereHaveAHint(t *testing.T) {
	for key, want := range map[string]string{
		"max_lifetime": "SessionGCMaxLifetime", "TTL": "SessionGCMaxLifetime", "cookieName": "ManagerConfig", "db": "db_num",
		"addr": "save_path", "addrs": "a:26379;b:26379", "host": "save_path", "network": "unix socket", "ssl": `"tls"`,
		"prefix": "key_prefix", "max-retries": "max_retries", "maxretries": "max_retries", "ConnMaxIdleTime": "idle_timeout",
		"max_idle": "idle_timeout", "masterName": "master_name", "user": `"username"`, "dial-timeout": "dial_timeout",
	} {
		_, warnings, err := parseConfig(client.Standalone, `{"`+key+`":1}`)
		if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], `"`+key+`", which is ignored: `) || !strings.Contains(warnings[0], want) {
			t.Errorf("%s: %v %q, want %s", key, err, warnings, want)
		}
	}
}

func TestBadConfigurationsSayWhatToDo(t *testing.T) {
	for _, test := range []struct {
		mode client.Mode
		text string
		want string
	}{
		{text: `{"poolsize":`, want: "not valid JSON at byte 12"},
		{text: `{"poolsize":"100"}`, want: "poolsize must be a whole number, 0 or more"},
		{text: `{"poolsize":-1}`, want: "poolsize must be a whole number"},
		{text: `{"poolsize":1.5}`, want: "poolsize must be a whole number"},
		{text: `{"max_retries":-2}`, want: "max_retries must be a whole number, -1 or more"},
		{text: `{"password":12}`, want: "password must be a string"},
		{text: `{"idle_timeout":"soon"}`, want: `idle_timeout must be a duration like "30s"`},
		{text: `{"idle_timeout":1e10}`, want: "idle_timeout must be"},
		{text: `{"idle_timeout":"NaN"}`, want: "idle_timeout must be"},
		{text: `{"read_timeout":-1}`, want: "read_timeout must be"},
		{text: `{"read_timeout":"8761h"}`, want: "read_timeout must be"},
		{text: `{"pool_size":1,"poolsize":1}`, want: "pool_size and poolsize are the same: give one of them"},
		{text: `{"idle_timeout":1,"idle_timeout_seconds":1}`, want: "idle_timeout and idle_timeout_seconds are the same"},
		{text: `{"pool_size":"many"}`, want: "pool_size must be a whole number"},
		{text: "redis://localhost/1?db=2", want: "db_num and the URL in save_path contradict"},
		{text: "redis://localhost?db=1&db_num=1", want: "db and db_num in the URL of save_path are the same"},
		{text: `{"idle_timeout":true}`, want: "idle_timeout must be"},
		{text: `{"read_timeout":1e300}`, want: "read_timeout must be"},
		{text: `{"skip_empty":1}`, want: "skip_empty must be true or false"},
		{text: `{"tls":{"ca":"x"}}`, want: "tls must be true, or an object"},
		{text: `{"sentinel_tls":false}`, want: `sentinel_tls needs "mode": "sentinel"`},
		{mode: client.Cluster, text: `{"sentinel_tls":true}`, want: `sentinel_tls needs "mode": "sentinel"`},
		{mode: client.Sentinel, text: `{"sentinel_tls":{"ca":"x"}}`, want: "sentinel_tls must be true, or an object"},
		{mode: client.Sentinel, text: `{"sentinel_tls":{"ca_file":"/does/not/exist"}}`, want: "sentinel_tls: ca_file: open /does/not/exist"},
		{text: `{"mode":"ring"}`, want: `mode must be "standalone", "sentinel" or "cluster"`},
		{mode: client.Cluster, text: `{"mode":"sentinel"}`, want: "contradicts the name of the provider"},
		{text: `{"master_name":"m"}`, want: "master_name needs"},
		{text: `{"sentinel_password_env":"X"}`, want: "sentinel_password need"},
		{text: "a;b", want: "several servers"},
		{mode: client.Cluster, text: "/run/redis.sock", want: "a unix socket is for a standalone server"},
		{mode: client.Cluster, text: `{"key_prefix":"a{b"}`, want: "no hash tag"},
		{text: `{"tls":true,"save_path":"/run/redis.sock"}`, want: "tls needs a TCP address"},
		{text: `{"tls":true,"save_path":"redis://localhost"}`, want: "write rediss://"},
		{text: ",,,4294967296", want: "part 4 (db_num) must be a whole number, 0 or more, and less than 2^31"},
		{text: "localhost:port", want: "no valid port"},
		{text: "localhost:70000", want: "no valid port"},
		{text: "redis://localhost:6379,100,secret", want: "write the rest as its query"},
		{text: "redis://u:sec/ret@localhost", want: "percent-encode special characters"},
		{text: "redis://u:12?secret@localhost", want: "percent-encode special characters"},
		{text: "redis://:12?secret", want: "write key=value&key=value"},
		{text: "redis://u:12#secret", want: "percent-encode special characters"},
		{text: "redis://u:sec%zzret@localhost", want: "write %25 for it"},
		{text: "redis://secret@localhost", want: "write redis://:password@host for a password"},
		{text: "redis://:secret@a,b", want: "separate addresses by a semicolon"},
		{text: "tcp://:secret@localhost:1", want: "whose scheme is unknown: write redis://user:password@host:port/db"},
		{text: "redis-sentinel://:secret@localhost:1", want: "whose scheme is unknown"},
		{text: "user:secret@localhost:1", want: "an address in save_path is not host:port"},
		{text: `"redis://:secret@localhost:1"`, want: "without quotes"},
		{text: "'redis://:secret@localhost:1'", want: "without quotes"},
		{text: `{"save_path":"://secret"}`, want: "an address in save_path is not host:port"},
		{text: `{"save_path":"a:6379,b:6379"}`, want: "separate them by a semicolon, as in a:6379;b:6379"},
		{text: "redis+sentinel://:secret@a/main/secret", want: "like /mymaster/0"},
		{mode: client.Cluster, text: "redis+sentinel://:secret@a/main", want: "contradicts the name of the provider"},
		{text: `{"save_path":"redis+sentinel://:secret@a/main","mode":"cluster"}`, want: "mode and the URL in save_path contradict"},
		{text: `{"save_path":"redis+sentinel://:secret@a/main","master_name":"other"}`, want: "master_name and the URL in save_path contradict"},
		{text: `{"save_path":"redis+sentinel://:secret@a/main","tls":true}`, want: "write rediss://, or rediss+sentinel://"},
		{text: "redis://localhost/secret", want: "number of a database"},
		{text: "redis://localhost?a=%zz", want: "query"},
		{text: "redis://localhost?poolsize=secret", want: "poolsize in the URL of save_path must be a whole number"},
		{text: "unix://run/redis.sock", want: "unix:///run/redis.sock"},
		{text: "unix://", want: "absolute path"},
		{text: `{"save_path":"redis://:secret@a","password":"other"}`, want: "password and the URL in save_path contradict"},
		{text: `{"save_path":"redis://u@a","username":"other"}`, want: "username and the URL in save_path contradict"},
		{text: `{"save_path":"redis://a/1","db_num":2}`, want: "db_num and the URL in save_path contradict"},
		{text: `{"password":"secret","password_env":"X"}`, want: "give only one of password, password_file and password_env"},
		{text: `{"password_file":"/does/not/exist"}`, want: "/does/not/exist"},
		{text: `{"password_env":"SESSION_TEST_UNSET"}`, want: "SESSION_TEST_UNSET"},
		{text: `{"min_retry_backoff":"2s","max_retry_backoff":"1s"}`, want: "min_retry_backoff is longer"},
		{text: `{"poolsize":1,"min_idle_conns":2}`, want: "min_idle_conns 2 is more than poolsize 1"},
	} {
		_, _, err := parseConfig(test.mode, test.text)
		if err == nil {
			t.Errorf("%s: accepted", test.text)
			continue
		}
		if !strings.HasPrefix(err.Error(), "session/redis: configuration: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v\nwant: %s", test.text, err, test.want)
		}
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec") && strings.Contains(test.text, "sec/ret") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
}

// Whatever is wrong around or in a password, it is not shown, nor is a part of it.
func TestNoMessageShowsAPassword(t *testing.T) {
	const secret = "sesame"
	count := 0
	check := func(mode client.Mode, text string) {
		t.Helper()
		count++
		_, warnings, err := parseConfig(mode, text)
		if said := fmt.Sprint(err, warnings); strings.Contains(said, secret) {
			t.Errorf("%s\nis answered by: %s", text, said)
		}
	}
	for _, scheme := range []string{"redis://", "REDIS://", "redis+sentinel://", "unix://", "tcp://", "://", "redis:", ""} {
		for _, user := range []string{":", "us@er:"} {
			for _, before := range []string{"", "1?", "1#", "1/", "1&", "1,", "1;", "1@", "1%", `1"`, "1'", "1 ", "1\n", "1=", "1[", "1?a=", "1:", "{"} {
				for _, after := range []string{"", "?", ",", "%", "=1"} {
					for _, host := range []string{"@h", "@h:1/0", "@/run/sock", "@h,100", "@[::1"} {
						text := scheme + user + before + secret + after + host
						check(client.Standalone, text)
						check(client.Sentinel, `"`+text+`"`)
						check(client.Standalone, fmt.Sprintf(`{"save_path":%s}`, quote(text)))
						check(client.Cluster, fmt.Sprintf(`{%s:1}`, quote(text)))
					}
				}
			}
		}
	}
	t.Log(count, "configurations")
}

func FuzzConfig(f *testing.F) {
	const secret = "s3cret" // stands between the two strings; with its digit it is no key
	for _, seed := range []string{
		"|", "127.0.0.1:6380,7,|,2,30,60,5", "a;b:1,7,|,2,main,30,60,5", ",,|,,,,,,",
		`{"save_path":"127.0.0.1:6380","poolsize":7,"idle_timeout":"30s","password":"|"}`, `{"tls":{"ca_file":"x|"}}`, `{"pool":1,"|":2}`,
		"redis://u:|@host:1/2?poolsize=7", "rediss://:|@[::1]", "unix://:|@/run/redis.sock?db=1", "redis://u:se%zz|@h",
		"redis+sentinel://:|@a,b/main/0", "redis://:12?|@h", "user:|@host", `"tcp://:|@h"`, `{"idle_timeout":-1,"save_path":"h:|"}`,
	} {
		for mode := client.Standalone; mode <= client.Cluster; mode++ {
			before, after, _ := strings.Cut(seed, "|")
			f.Add(int(mode), before, after)
		}
	}
	shown := regexp.MustCompile(`(?i)_file|_env|tls`) // which errors show
	f.Fuzz(func(t *testing.T, mode int, before, after string) {
		cfg, warnings, err := parseConfig(client.Mode(uint(mode)%3), before+secret+after)
		if said := fmt.Sprint(err, warnings); strings.Contains(said, secret) && !shown.MatchString(before) {
			t.Errorf("the password is shown: %s", said)
		}
		if err != nil {
			return
		}
		c := cfg.client
		if len(c.Addrs) == 0 || c.PoolSize < 1 || c.DB < 0 || cfg.maxRetries < 0 || cfg.minBackoff > cfg.maxBackoff ||
			c.DialTimeout <= 0 || c.ReadTimeout <= 0 || c.WriteTimeout <= 0 || c.PoolTimeout <= 0 || cfg.operationTime() <= 0 {
			t.Errorf("accepted as valid: %+v", cfg)
		}
	})
}
