// This file owns the tests of TLS: its configuration, what is on the wire, and who is let in.

package client_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
)

func clientTLS(t testing.TB, certs *redistest.Certs) *tls.Config {
	t.Helper()
	cfg, err := client.TLS{CAFile: certs.CAFile}.Config()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// The servers' TLS ports understand nothing else, so what they answer was encrypted.
func TestTLS(t *testing.T) {
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	server := redistest.StartTLS(t, certs)
	mutual := redistest.StartTLS(t, certs, "--tls-auth-clients", "yes")
	_, port, _ := strings.Cut(server.Addr(), ":")
	for _, tt := range []struct {
		name string
		addr string
		tls  client.TLS
	}{
		{"address", server.Addr(), client.TLS{CAFile: certs.CAFile}},
		{"host name", "localhost:" + port, client.TLS{CAFile: certs.CAFile}},
		{"server name", server.Addr(), client.TLS{CAFile: certs.CAFile, ServerName: "localhost"}},
		{"not verified", server.Addr(), client.TLS{InsecureSkipVerify: true}},
		{"1.3 only", server.Addr(), client.TLS{CAFile: certs.CAFile, MinVersion: "1.3"}},
		{"client certificate", mutual.Addr(), client.TLS{CAFile: certs.CAFile, CertFile: certs.ClientCertFile, KeyFile: certs.ClientKeyFile}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := tt.tls.Config()
			if err != nil {
				t.Fatal(err)
			}
			c := open(t, client.Options{Addrs: []string{tt.addr}, TLS: cfg})
			if err := setAndGet(within(t, 10*time.Second), c, "key"); err != nil {
				t.Error(err)
			}
		})
	}
	if err := ping(within(t, 10*time.Second), open(t, client.Options{Addrs: []string{server.Addr()}})); err == nil {
		t.Error("the TLS port answered in plain text")
	}
}

func TestTLSIsVerifiedByDefault(t *testing.T) {
	cfg, err := client.TLS{}.Config()
	if err != nil || cfg.InsecureSkipVerify || cfg.MinVersion != tls.VersionTLS12 {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestTLSConfigErrors(t *testing.T) {
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	broken := filepath.Join(dir, "broken.pem")
	missing := filepath.Join(dir, "missing.pem")
	for path, text := range map[string]string{empty: "", broken: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		tls  client.TLS
		want []string
	}{
		{"CA file missing", client.TLS{CAFile: missing}, []string{"tls: ca_file:", missing, "no such file"}},
		{"CA file without PEM", client.TLS{CAFile: empty}, []string{"tls: ca_file:", empty, "no certificate in PEM form"}},
		{"CA file with a key", client.TLS{CAFile: certs.KeyFile}, []string{"tls: ca_file:", certs.KeyFile, "no certificate in PEM form"}},
		{"CA certificate broken", client.TLS{CAFile: broken}, []string{"tls: ca_file:", broken, "certificate 1: x509: "}},
		{"certificate without key", client.TLS{CertFile: certs.CertFile}, []string{"tls: cert_file", certs.CertFile, "without key_file: set both"}},
		{"key without certificate", client.TLS{KeyFile: certs.KeyFile}, []string{"tls: key_file", certs.KeyFile, "without cert_file: set both"}},
		{"certificate missing", client.TLS{CertFile: missing, KeyFile: certs.KeyFile}, []string{"tls: cert_file", missing, "no such file"}},
		{"certificate without PEM", client.TLS{CertFile: empty, KeyFile: certs.KeyFile}, []string{"tls: cert_file", empty, "failed to find any PEM data"}},
		{"key of another certificate", client.TLS{CertFile: certs.CertFile, KeyFile: certs.ClientKeyFile}, []string{certs.CertFile, certs.ClientKeyFile, "private key does not match"}},
		{"version", client.TLS{MinVersion: "1.1"}, []string{`tls: min_version "1.1": use "1.2" or "1.3"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := tt.tls.Config()
			if cfg != nil || err == nil {
				t.Fatalf("got %v, %v", cfg, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("want %q in %q", want, err)
				}
			}
		})
	}
}
