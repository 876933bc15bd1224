// This file owns certificates: an authority made for one test, what it signed, and servers that speak TLS with it.

package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Certs are the paths of PEM files, which are removed when the test ends.
type Certs struct {
	CAFile                        string // signed the two pairs below
	CertFile, KeyFile             string // the servers', for 127.0.0.1, ::1 and localhost
	ClientCertFile, ClientKeyFile string // for servers that ask for one
	OtherCAFile                   string // an authority that signed none of them
}

// NewCerts makes an authority and certificates that are valid for an hour.
func NewCerts(tb testing.TB) *Certs {
	tb.Helper()
	dir := tempDir(tb)
	path := func(name string) string { return filepath.Join(dir, name) }
	c := &Certs{
		CAFile:         path("ca.crt"),
		CertFile:       path("server.crt"),
		KeyFile:        path("server.key"),
		ClientCertFile: path("client.crt"),
		ClientKeyFile:  path("client.key"),
		OtherCAFile:    path("other-ca.crt"),
	}
	ca, caKey := newCert(tb, "redistest CA", nil, nil, c.CAFile, path("ca.key"))
	newCert(tb, "redistest server", ca, caKey, c.CertFile, c.KeyFile)
	newCert(tb, "redistest client", ca, caKey, c.ClientCertFile, c.ClientKeyFile)
	newCert(tb, "redistest other CA", nil, nil, c.OtherCAFile, path("other-ca.key"))
	return c
}

// newCert makes a certificate and its key, self-signed where there is no authority.
func newCert(tb testing.TB, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey, certFile, keyFile string) (*x509.Certificate, *ecdsa.PrivateKey) {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal("redistest: make a certificate: ", err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(err)
	cert := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		BasicConstraintsValid: true,
	}
	if ca == nil {
		cert.IsCA, cert.KeyUsage = true, x509.KeyUsageCertSign
		ca, caKey = cert, key
	} else {
		cert.KeyUsage = x509.KeyUsageDigitalSignature
		// A server is a client of its master, and of every other node of a cluster.
		cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		cert.DNSNames = []string{"localhost"}
		cert.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(err)
	must(os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	return cert, key
}

// ClientConfig returns a configuration that trusts the authority and presents the client's certificate.
func (c *Certs) ClientConfig(tb testing.TB) *tls.Config {
	tb.Helper()
	pair, err := tls.LoadX509KeyPair(c.ClientCertFile, c.ClientKeyFile)
	if err != nil {
		tb.Fatal("redistest: ", err)
	}
	ca, err := os.ReadFile(c.CAFile)
	if err != nil {
		tb.Fatal("redistest: ", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// StartTLS starts a redis-server whose TCP port speaks TLS only. It asks clients for a certificate only if args hold
// "--tls-auth-clients", "yes".
func StartTLS(tb testing.TB, certs *Certs, args ...string) *Server {
	tb.Helper()
	return launch(tb, command(), false, func(port int) []string { return append(portArgs(port, certs), args...) })
}

// portArgs makes a server listen on port, speaking TLS to clients and to other servers if there are certificates.
func portArgs(port int, certs *Certs) []string {
	if certs == nil {
		return []string{"--port", strconv.Itoa(port)}
	}
	return []string{
		"--port", "0",
		"--tls-port", strconv.Itoa(port),
		"--tls-ca-cert-file", certs.CAFile,
		"--tls-cert-file", certs.CertFile,
		"--tls-key-file", certs.KeyFile,
		"--tls-auth-clients", "no",
		"--tls-replication", "yes",
		"--tls-cluster", "yes",
	}
}
