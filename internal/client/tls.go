// This file owns the configuration of TLS and the errors in it.

package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// TLS is how TLS is configured. The zero value verifies the server against the system's authorities, by the host that is
// dialled, and takes TLS 1.2 or later.
type TLS struct {
	CAFile             string `json:"ca_file"`   // the authorities to trust instead of the system's
	CertFile           string `json:"cert_file"` // with KeyFile: the certificate to show to the server
	KeyFile            string `json:"key_file"`
	ServerName         string `json:"server_name"`          // the name to verify instead of the host that is dialled
	InsecureSkipVerify bool   `json:"insecure_skip_verify"` // anyone may pose as the server
	MinVersion         string `json:"min_version"`          // "1.2", also if empty, or "1.3"
}

// Config reads the files. Its errors name the key, the file, and what is wrong with it.
func (t TLS) Config() (*tls.Config, error) {
	cfg := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
	switch t.MinVersion {
	case "", "1.2":
		cfg.MinVersion = tls.VersionTLS12
	case "1.3":
		cfg.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf(`tls: min_version %q: use "1.2" or "1.3"`, t.MinVersion)
	}
	if t.CAFile != "" {
		pool, err := readAuthorities(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls: ca_file: %w", err)
		}
		cfg.RootCAs = pool
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		return nil, fmt.Errorf("tls: cert_file %s without key_file: set both", t.CertFile)
	case t.CertFile == "" && t.KeyFile != "":
		return nil, fmt.Errorf("tls: key_file %s without cert_file: set both", t.KeyFile)
	case t.CertFile != "":
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls: cert_file %s with key_file %s: %w", t.CertFile, t.KeyFile, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func readAuthorities(path string) (*x509.CertPool, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool, count := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		count++
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, count, err)
		}
		pool.AddCert(cert)
	}
	if count == 0 {
		return nil, fmt.Errorf("%s: no certificate in PEM form in it (-----BEGIN CERTIFICATE-----)", path)
	}
	return pool, nil
}
