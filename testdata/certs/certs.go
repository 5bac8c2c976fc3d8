// Package certs makes certificates for the servers that tests start, signed by authorities that nothing else trusts.
package certs

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
	"testing"
	"time"
)

// Authority signs certificates. Its files are removed with the test.
type Authority struct {
	File string // its own certificate, PEM

	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Leaf describes a server's certificate.
type Leaf struct {
	Names   []string // host names and addresses; none: "localhost"
	Expired bool     // it was valid until an hour ago
}

// Pair has the PEM files of a certificate. Only the owner can read them.
type Pair struct {
	CAFile   string // the certificate of the authority that signed it
	CertFile string
	KeyFile  string
}

// NewAuthority makes an authority called "test authority".
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	return newAuthority(t, t.TempDir())
}

// Sign makes a certificate and its key, and returns their PEM files.
func (a *Authority) Sign(leaf Leaf) (certFile, keyFile string) {
	a.t.Helper()
	return a.signIn(a.t.TempDir(), leaf)
}

// Issue makes an authority and has it sign a certificate for names, which may be addresses. It writes the files to dir.
func Issue(t testing.TB, dir string, names ...string) Pair {
	t.Helper()
	a := newAuthority(t, dir)
	certFile, keyFile := a.signIn(dir, Leaf{Names: names})
	return Pair{CAFile: a.File, CertFile: certFile, KeyFile: keyFile}
}

// ClientConfig returns the TLS settings of a client that trusts only the authority in caFile and connects to "localhost".
func ClientConfig(t testing.TB, caFile string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

func newAuthority(t testing.TB, dir string) *Authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &Authority{t: t, cert: template, key: newKey(t)}
	der := a.certify(template, a.key)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.File = writePEM(t, dir, "authority.pem", "CERTIFICATE", der)
	return a
}

// signIn is Sign with a directory for the files.
func (a *Authority) signIn(dir string, leaf Leaf) (certFile, keyFile string) {
	a.t.Helper()
	key := newKey(a.t)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certFile = writePEM(a.t, dir, "cert.pem", "CERTIFICATE", a.certify(leaf.template(), key))
	return certFile, writePEM(a.t, dir, "key.pem", "PRIVATE KEY", private)
}

// certify returns a certificate of key's public half, signed by the authority, in DER.
func (a *Authority) certify(template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func (l Leaf) template() *x509.Certificate {
	notAfter := time.Now().Add(24 * time.Hour)
	if l.Expired {
		notAfter = time.Now().Add(-time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test server"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range l.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if len(l.Names) == 0 {
		template.DNSNames = []string{"localhost"}
	}
	return template
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, dir, name, blockType string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
