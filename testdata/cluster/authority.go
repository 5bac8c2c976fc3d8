package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// authority signs the certificates of a cluster's programs and users. Kubernetes takes a user's name and groups from the certificate.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Identity is the user that a certificate names.
type Identity struct {
	User      string
	Groups    []string
	ExpiresAt time.Time // zero: in a day
}

// administrators is the group that has every permission.
const administrators = "system:masters"

// makeCertificates makes the authority, the certificates of the servers and of the administrator, and the administrator's kubeconfig.
func (c *Cluster) makeCertificates(context.Context) error {
	var err error
	if c.authority, err = newAuthority(c.dir); err != nil {
		return err
	}
	if _, _, err := c.authority.sign("server", Identity{User: "server"}); err != nil {
		return err
	}
	cert, key, err := c.authority.sign("admin", Identity{User: "admin", Groups: []string{administrators}})
	if err != nil {
		return err
	}
	return c.writeKubeconfig("admin", certificateUser(cert, key), c.Server())
}

// newAuthority makes an authority and writes its certificate to ca.crt.
func newAuthority(dir string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test cluster"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, key: key}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	_, err = a.write("ca.crt", "CERTIFICATE", der)
	return a, err
}

// sign writes NAME.crt and NAME.key, for a client or a server on loopback, and returns their paths.
func (a *authority) sign(name string, identity Identity) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return "", "", err
	}
	expiresAt := identity.ExpiresAt
	if expiresAt.IsZero() {
		expiresAt = time.Now().Add(24 * time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: identity.User, Organization: identity.Groups},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: expiresAt, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		return "", "", err
	}
	if cert, err = a.write(name+".crt", "CERTIFICATE", der); err != nil {
		return "", "", err
	}
	if der, err = x509.MarshalECPrivateKey(private); err != nil {
		return "", "", err
	}
	key, err = a.write(name+".key", "EC PRIVATE KEY", der)
	return cert, key, err
}

// write writes a PEM file and returns its path.
func (a *authority) write(name, kind string, der []byte) (string, error) {
	path := filepath.Join(a.dir, name)
	return path, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// client returns an HTTP client that sends requests to the cluster's servers as the administrator.
func (a *authority) client() (*http.Client, error) {
	admin, err := tls.LoadX509KeyPair(filepath.Join(a.dir, "admin.crt"), filepath.Join(a.dir, "admin.key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{admin}},
	}}, nil
}
