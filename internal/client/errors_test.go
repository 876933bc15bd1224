// This file owns what a user reads when the configuration does not fit the servers.

package client_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
)

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	password := func(text string) client.Secret { return func() (string, error) { return text, nil } }
	withTLS := func(c client.TLS) client.Options {
		cfg, err := c.Config()
		if err != nil {
			t.Fatal(err)
		}
		return client.Options{TLS: cfg}
	}

	plain := redistest.Start(t, "--user", "app on >secret ~* +@all", "--user", "noslots on nopass ~* +@all -cluster")
	locked := redistest.Start(t, "--requirepass", "sesame-of-the-server")
	secure := redistest.StartTLS(t, certs)
	mutual := redistest.StartTLS(t, certs, "--tls-auth-clients", "yes")
	full := redistest.Start(t, "--maxclients", "1") // which the helper's own connection takes
	notYet := redistest.Start(t, "--cluster-enabled", "yes")
	guarded := redistest.StartSentinel(t, redistest.SentinelOptions{SentinelArgs: []string{"--requirepass", "sesame-of-sentinel"}})
	web := httpServer(t)
	missing := filepath.Join(t.TempDir(), "missing")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		name  string
		opt   client.Options
		addrs []string
		want  []string
		net   bool // a network error, which is worth another try
	}{
		{"nothing listens", client.Options{}, []string{"127.0.0.1:1"},
			[]string{"dial tcp 127.0.0.1:1: connect: connection refused"}, true},
		{"no such socket", client.Options{Network: "unix"}, []string{missing},
			[]string{"dial unix " + missing + ": connect: no such file or directory"}, true},
		{"no password given", client.Options{}, []string{locked.Addr()},
			[]string{"PING on " + locked.Addr() + ": NOAUTH Authentication required.; the server wants a password"}, false},
		{"no password given, with a database", client.Options{DB: 1}, []string{locked.Addr()},
			[]string{"SELECT 1 on " + locked.Addr() + ": NOAUTH Authentication required.; the server wants a password"}, false},
		{"wrong password", client.Options{Password: password("wrong-guess")}, []string{locked.Addr()},
			[]string{"AUTH on " + locked.Addr() + ": WRONGPASS invalid username-password pair or user is disabled.; check the user name and the password"}, false},
		{"wrong user", client.Options{Username: "nobody", Password: password("wrong-guess")}, []string{plain.Addr()},
			[]string{`AUTH as user "nobody" on ` + plain.Addr() + ": WRONGPASS"}, false},
		{"no such database", client.Options{DB: 99}, []string{plain.Addr()},
			[]string{"SELECT 99 on " + plain.Addr() + ": ERR DB index is out of range"}, false},
		{"no password file", client.Options{Password: client.PasswordFile(missing)}, []string{plain.Addr()},
			[]string{"connect to " + plain.Addr(), "password file", missing, "no such file"}, false},
		{"empty password file", client.Options{Password: client.PasswordFile(empty)}, []string{plain.Addr()},
			[]string{"connect to " + plain.Addr(), "password file", empty, "is empty"}, false},
		{"server full", client.Options{}, []string{full.Addr()},
			[]string{"PING on " + full.Addr() + ": ERR max number of clients reached"}, false},
		{"a web server", client.Options{}, []string{web},
			[]string{"PING on " + web + `: reply "HTTP/1.1 400 Bad Request" is none of a Redis server`}, false},

		{"wrong authority", withTLS(client.TLS{CAFile: certs.OtherCAFile}), []string{secure.Addr()},
			[]string{"TLS handshake on " + secure.Addr(), "signed by unknown authority", "set ca_file"}, false},
		{"wrong server name", withTLS(client.TLS{CAFile: certs.CAFile, ServerName: "redis.example.com"}), []string{secure.Addr()},
			[]string{"TLS handshake on " + secure.Addr(), "not redis.example.com", "set server_name"}, false},
		{"no client certificate", withTLS(client.TLS{CAFile: certs.CAFile}), []string{mutual.Addr()},
			[]string{"on " + mutual.Addr() + ": remote error: tls: certificate required", "set cert_file and key_file"}, false},
		{"TLS to a plain port", withTLS(client.TLS{CAFile: certs.CAFile}), []string{plain.Addr()},
			[]string{"TLS handshake on " + plain.Addr(), "i/o timeout; does the server speak TLS on this port?"}, true},
		{"TLS to another service", withTLS(client.TLS{CAFile: certs.CAFile}), []string{web},
			[]string{"TLS handshake on " + web, "the server does not speak TLS on this port"}, false},
		{"plain text to a TLS port", client.Options{}, []string{secure.Addr()},
			[]string{"PING on " + secure.Addr(), "if the server speaks TLS on this port, configure tls"}, true},

		{"no Sentinel answers", client.Options{Mode: client.Sentinel, MasterName: "mymaster"}, []string{"127.0.0.1:1", "127.0.0.1:2"},
			[]string{`no Sentinel told the address of master "mymaster"`, "dial tcp 127.0.0.1:1: connect: connection refused", "dial tcp 127.0.0.1:2: connect: connection refused"}, true},
		{"wrong Sentinel password", client.Options{Mode: client.Sentinel, MasterName: "mymaster", SentinelPassword: "wrong-guess"}, guarded.Addrs(),
			[]string{"sentinel " + guarded.Addrs()[2], "AUTH on " + guarded.Addrs()[2] + ": WRONGPASS", "sentinel_password"}, false},
		{"no Sentinel password", client.Options{Mode: client.Sentinel, MasterName: "mymaster"}, guarded.Addrs()[:1],
			[]string{"sentinel " + guarded.Addrs()[0], "NOAUTH", "sentinel_password"}, false},
		{"wrong master name", client.Options{Mode: client.Sentinel, MasterName: "other", SentinelPassword: "sesame-of-sentinel"}, guarded.Addrs()[:1],
			[]string{`no Sentinel told the address of master "other": sentinel ` + guarded.Addrs()[0] + " knows no master of that name: check master_name"}, false},
		{"not a Sentinel", client.Options{Mode: client.Sentinel, MasterName: "mymaster"}, []string{plain.Addr()},
			[]string{plain.Addr() + " is not a Sentinel (ERR unknown command 'sentinel'"}, false},

		{"not a cluster", client.Options{Mode: client.Cluster}, []string{plain.Addr()},
			[]string{plain.Addr() + " is not a cluster node (ERR This instance has cluster support disabled): use the standalone mode"}, false},
		{"not yet a cluster", client.Options{Mode: client.Cluster}, []string{notYet.Addr()},
			[]string{"CLUSTER SLOTS on " + notYet.Addr() + ": the node knows no slots"}, false},
		{"no cluster node answers", client.Options{Mode: client.Cluster}, []string{"127.0.0.1:1", "127.0.0.1:2"},
			[]string{"no node of the cluster told its slots: ", "dial tcp 127.0.0.1:1: connect: connection refused; dial tcp 127.0.0.1:2: connect: connection refused"}, true},
		{"wrong cluster password", client.Options{Mode: client.Cluster, Password: password("wrong-guess")}, []string{locked.Addr()},
			[]string{"AUTH on " + locked.Addr() + ": WRONGPASS"}, false},
		{"user may not read slots", client.Options{Mode: client.Cluster, Username: "noslots"}, []string{plain.Addr()},
			[]string{"CLUSTER SLOTS on " + plain.Addr() + ": NOPERM", "allow the user +cluster|slots"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opt.Addrs, tt.opt.DialTimeout = tt.addrs, 2*time.Second
			ctx := within(t, 10*time.Second)
			c := open(t, tt.opt)
			for _, call := range []string{"command", "pipeline"} {
				var err error
				if call == "command" {
					err = c.ProcessContext(ctx, redis.NewStringCmd("get", "key"))
				} else {
					pipe := c.Pipeline()
					_ = pipe.Process(redis.NewStringCmd("get", "key"))
					_, err = pipe.ExecContext(ctx)
				}
				if err == nil {
					t.Fatal("no error")
				}
				t.Log(err)
				for _, want := range tt.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: want %q in %q", call, want, err)
					}
				}
				for _, secret := range []string{"sesame", "guess"} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("%s: a password in %q", call, err)
					}
				}
				var netErr net.Error
				if got := errors.As(err, &netErr); got != tt.net {
					t.Errorf("%s: net.Error %v, want %v: %q", call, got, tt.net, err)
				}
			}
		})
	}
}

func httpServer(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accept(t, l, func(c net.Conn) {
		c.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
		c.Close()
	})
	return l.Addr().String()
}
