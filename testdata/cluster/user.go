package cluster

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Kubeconfig returns the path of the administrator's kubeconfig. Its context is called "test", as in every kubeconfig of this package.
func (c *Cluster) Kubeconfig() string { return c.path("admin.kubeconfig") }

// User makes a user with only those permissions in a namespace that rules give, and returns the path of the user's kubeconfig. A rule
// is one of a Role, in YAML:
//
//	{apiGroups: [""], resources: [pods], verbs: [get]}
func (c *Cluster) User(tb testing.TB, name, namespace string, rules ...string) (kubeconfig string) {
	tb.Helper()
	if len(rules) > 0 {
		c.Apply(tb, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]q, namespace: %[2]q}
rules: [%[3]s]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]q, namespace: %[2]q}
subjects: [{kind: User, name: %[1]q, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: Role, name: %[1]q, apiGroup: rbac.authorization.k8s.io}
`, name, namespace, strings.Join(rules, ", ")))
	}
	return c.KubeconfigFor(tb, name, certificateUser(c.Credential(tb, name, Identity{User: name})), c.Server())
}

// Credential makes a certificate and its key in the files NAME.crt and NAME.key, and returns their paths.
func (c *Cluster) Credential(tb testing.TB, name string, identity Identity) (certFile, keyFile string) {
	tb.Helper()
	certFile, keyFile, err := c.authority.sign(name, identity)
	if err != nil {
		tb.Fatal(err)
	}
	return certFile, keyFile
}

// KubeconfigFor writes a kubeconfig and returns its path. The user is YAML, such as {exec: {…}}. The server's certificate must be signed
// by the cluster's authority.
func (c *Cluster) KubeconfigFor(tb testing.TB, name, user, server string) (path string) {
	tb.Helper()
	if err := c.writeKubeconfig(name, user, server); err != nil {
		tb.Fatal(err)
	}
	return c.path(name + ".kubeconfig")
}

// certificateUser returns the user of a kubeconfig, in YAML, who logs in with a certificate.
func certificateUser(certFile, keyFile string) string {
	return fmt.Sprintf("{client-certificate: %q, client-key: %q}", certFile, keyFile)
}

func (c *Cluster) writeKubeconfig(name, user, server string) error {
	authority, err := os.ReadFile(c.path("ca.crt"))
	if err != nil {
		return err
	}
	return c.writeFile(name+".kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
contexts:
- name: test
  context: {cluster: test, user: test, namespace: default}
clusters:
- name: test
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: test
  user: %s
`, server, base64.StdEncoding.EncodeToString(authority), user))
}
