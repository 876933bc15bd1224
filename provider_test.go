package redis_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// A topology starts servers, and tells how a site is configured for them and how a test looks behind its back.
type topology struct {
	name  string
	start func(t *testing.T) (config string, raw goredis.UniversalClient)
}

var topologies = []topology{
	{"miniredis", func(t *testing.T) (string, goredis.UniversalClient) {
		m := miniredis.RunT(t)
		return fmt.Sprintf(`{"save_path":%q}`, m.Addr()), rawClient(t, client.Options{Addrs: []string{m.Addr()}})
	}},
	{"standalone", func(t *testing.T) (string, goredis.UniversalClient) {
		s := redistest.Start(t)
		return fmt.Sprintf(`{"save_path":%q}`, s.Addr()), s.Client()
	}},
	{"miniredis with IFEQ", func(t *testing.T) (string, goredis.UniversalClient) {
		m := miniredis.RunT(t)
		m.Server().SetPreHook(redistest.IFEQ(m))
		return fmt.Sprintf(`{"save_path":%q}`, m.Addr()), rawClient(t, client.Options{Addrs: []string{m.Addr()}})
	}},
	{"unix socket", func(t *testing.T) (string, goredis.UniversalClient) {
		s := redistest.Start(t)
		return fmt.Sprintf(`{"save_path":"unix://%s"}`, s.Socket()), s.Client()
	}},
	{"user with the rights that docs/configuration.md names", func(t *testing.T) (string, goredis.UniversalClient) {
		rights := rightsFor(t, everySite, "`user_key`", "`Sessions`, `SessionAll`")
		s := redistest.Start(t, "--user", "app on >secret ~* -@all "+strings.Join(rights, " "))
		return fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret"}`, s.Addr()), s.Client()
	}},
	{"user without scripts", func(t *testing.T) (string, goredis.UniversalClient) {
		s := redistest.Start(t, "--user", "app on >secret ~* +@all -@scripting")
		return fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret"}`, s.Addr()), s.Client()
	}},
	{"mutual TLS", func(t *testing.T) (string, goredis.UniversalClient) {
		certs := redistest.NewCerts(t)
		s := redistest.StartTLS(t, certs, "--tls-auth-clients", "yes")
		return fmt.Sprintf(`{"save_path":"rediss://%s","tls":{"ca_file":%q,"cert_file":%q,"key_file":%q}}`,
			s.Addr(), certs.CAFile, certs.ClientCertFile, certs.ClientKeyFile), s.Client()
	}},
	{"sentinel", func(t *testing.T) (string, goredis.UniversalClient) {
		s := redistest.StartSentinel(t, redistest.SentinelOptions{})
		return fmt.Sprintf(`{"mode":"sentinel","save_path":%q}`, strings.Join(s.Addrs(), ";")), s.Master().Client()
	}},
	{"sentinel with users, in plain text with TLS servers", func(t *testing.T) (string, goredis.UniversalClient) {
		certs := redistest.NewCerts(t)
		s := redistest.StartSentinel(t, redistest.SentinelOptions{
			Certs:        certs,
			PlainPort:    true,
			Args:         []string{"--user", "app on >secret ~* +@all", "--user", "default off"},
			SentinelArgs: []string{"--user", "watcher on >word ~* &* +@all", "--user", "default off"},
		})
		return fmt.Sprintf(`{"mode":"sentinel","save_path":%q,"username":"app","password":"secret","tls":{"ca_file":%q},
			"sentinel_tls":false,"sentinel_username":"watcher","sentinel_password":"word"}`, strings.Join(s.Addrs(), ";"), certs.CAFile), s.Master().Client()
	}},
	{"cluster", func(t *testing.T) (string, goredis.UniversalClient) {
		c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
		return fmt.Sprintf(`{"mode":"cluster","save_path":%q}`, strings.Join(c.Addrs(), ";")),
			rawClient(t, client.Options{Mode: client.Cluster, Addrs: c.Addrs()})
	}},
	{"cluster with TLS and a user", func(t *testing.T) (string, goredis.UniversalClient) {
		certs := redistest.NewCerts(t)
		c := redistest.StartCluster(t, redistest.ClusterOptions{
			NoReplicas: true, Certs: certs, Args: []string{"--user", "app on >secret ~* +@all", "--user", "default off"},
		})
		return fmt.Sprintf(`{"mode":"cluster","save_path":%q,"username":"app","password":"secret","tls":{"ca_file":%q}}`,
				strings.Join(c.Addrs(), ";"), certs.CAFile),
			rawClient(t, client.Options{
				Mode: client.Cluster, Addrs: c.Addrs(), TLS: certs.ClientConfig(t),
				Username: "app", Password: func() (string, error) { return "secret", nil },
			})
	}},
}

func rawClient(t *testing.T, opt client.Options) goredis.UniversalClient {
	t.Helper()
	c := client.New(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestMain(m *testing.M) { redistest.Main(m) }

// ofTheProcess are the rows of the suite in which requests wait half a second for another of their own process. What they
// show is the same wherever the sessions are.
var ofTheProcess = map[string]bool{
	"a merge function may do anything":                         true,
	"an Update takes back no release of its store":             true,
	"a function that ends its goroutine leaves nothing behind": true,
}

func TestProvider(t *testing.T) {
	for _, topology := range topologies {
		t.Run(topology.name, func(t *testing.T) {
			config, raw := topology.start(t)
			captureLog(t)
			left := ofTheProcess
			if topology.name == "miniredis" || topology.name == "standalone" {
				left = nil
			}
			runSuite(t, &site{T: t, config: config, raw: raw, Provider: open(t, config, life)}, left)
		})
	}
}

// runSuite runs the suite but for some rows.
func runSuite(t *testing.T, s *site, left map[string]bool) {
	for _, row := range suite {
		if left[row.behaviour] {
			continue
		}
		t.Run(row.behaviour, func(t *testing.T) {
			own := *s
			own.T = t
			row.shown(&own)
		})
	}
}

func TestTheImportRegistersTheProviders(t *testing.T) {
	for _, name := range []string{"redis", "redis_sentinel", "redis_cluster"} {
		if p, err := session.GetProvider(name); err != nil {
			t.Error(err)
		} else if _, ok := p.(*redis.Provider); !ok {
			t.Errorf("%s is a %T", name, p)
		}
	}
}

// beego's own comma strings, read at the positions that are documented for them.
func TestTheSentinelAndClusterProvidersReadCommaStrings(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t, redistest.SentinelOptions{Args: []string{"--requirepass", "secret"}})
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true, Args: []string{"--requirepass", "secret"}})
	for name, config := range map[string]string{
		"redis_sentinel": strings.Join(sentinel.Addrs(), ";") + ",10,secret,2,mymaster,30,60,3",
		"redis_cluster":  strings.Join(cluster.Addrs(), ";") + ",10,secret,0,30,60,3",
	} {
		manager, err := session.NewManager(name, &session.ManagerConfig{CookieName: "id", Gclifetime: life, ProviderConfig: config})
		if err != nil {
			t.Fatal(err)
		}
		p := manager.GetProvider().(*redis.Provider)
		if p.Poolsize != 10 || p.IdleTimeoutStr != "30s" || p.IdleCheckFrequencyStr != "1m0s" || p.MaxRetries != 3 {
			t.Errorf("%s: pool size %d, idle %s and %s, retries %d", name, p.Poolsize, p.IdleTimeoutStr, p.IdleCheckFrequencyStr, p.MaxRetries)
		}
		id := newID()
		store, err := p.SessionRead(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		set(t, store, "a", 1)
		store.SessionRelease(ctx, nil)
		if store, err = p.SessionRegenerate(ctx, id, newID()); err != nil || store.Get(ctx, "a") != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := sentinel.Master().Client().Info("keyspace").Val(); !strings.Contains(n, "db2:keys=") {
		t.Errorf("the session is not in database 2: %s", n)
	}
}
