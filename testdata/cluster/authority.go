package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs the certificates by which a cluster's parts and users know each other.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(path string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test cluster"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return a, write(path, der, key)
}

// identity is who a certificate is for.
type identity struct {
	name, group string
	until       time.Time // zero: a day from now
}

// sign writes PATH.crt and PATH.key, which are good for a client and for a server on loopback.
func (a *authority) sign(path string, who identity) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	subject := pkix.Name{CommonName: who.name}
	if who.group != "" {
		subject.Organization = []string{who.group}
	}
	if who.until.IsZero() {
		who.until = time.Now().Add(24 * time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: who.until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)}, DNSNames: []string{"localhost", "kubernetes.default.svc"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return err
	}
	return write(path, der, key)
}

func write(path string, der []byte, key *ecdsa.PrivateKey) error {
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(path+".crt", cert, 0o644); err != nil {
		return err
	}
	return os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600)
}

func (c *Cluster) pki(name string) string { return filepath.Join(c.Dir, "pki", name) }

// identities are those of the cluster's own parts, and of its administrator.
func (c *Cluster) identities() error {
	for _, who := range []identity{
		{name: "server"}, {name: "admin", group: "system:masters"}, {name: "node", group: "system:masters"},
	} {
		if err := c.auth.sign(c.pki(who.name), who); err != nil {
			return err
		}
	}
	return c.kubeconfig(c.Kubeconfig(), c.pki("admin"))
}

// kubeconfig writes a kubeconfig for who has a certificate. Its context is called "test".
func (c *Cluster) kubeconfig(path, cert string) error {
	return c.kubeconfigAs(path, fmt.Sprintf("{client-certificate-data: %s, client-key-data: %s}", encoded(cert+".crt"), encoded(cert+".key")))
}

// kubeconfigAs writes a kubeconfig with a user as its text says.
func (c *Cluster) kubeconfigAs(path, user string) error {
	return os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: test
clusters:
- name: test
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: test
  user: %s
contexts:
- name: test
  context: {cluster: test, user: test, namespace: default}
`, c.Server, encoded(c.pki("ca.crt")), user), 0o600)
}

func encoded(path string) string {
	data, _ := os.ReadFile(path) // an empty one is refused by whoever reads it
	return base64.StdEncoding.EncodeToString(data)
}
