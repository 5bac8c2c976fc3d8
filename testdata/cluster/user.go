package cluster

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Kubeconfig is the path of the administrator's kubeconfig. The context in it is called "test", as in all that are made
// here.
func (c *Cluster) Kubeconfig() string { return c.path("admin.kubeconfig") }

// User makes a user who may do in a namespace what the rules say, each a rule of a role in YAML such as
//
//	{apiGroups: [""], resources: [pods], verbs: [get]}
//
// and nothing else, and returns the path of a kubeconfig.
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

// Credential makes a certificate and its key, and returns the files that hold them. The name is that of the files.
func (c *Cluster) Credential(tb testing.TB, name string, who Identity) (certFile, keyFile string) {
	tb.Helper()
	certFile, keyFile, err := c.authority.sign(name, who)
	if err != nil {
		tb.Fatal(err)
	}
	return certFile, keyFile
}

// KubeconfigFor writes a kubeconfig whose user is YAML, such as {exec: {…}}, for a server with a certificate of the
// cluster's authority, and returns its path.
func (c *Cluster) KubeconfigFor(tb testing.TB, name, user, server string) (path string) {
	tb.Helper()
	if err := c.writeKubeconfig(name, user, server); err != nil {
		tb.Fatal(err)
	}
	return c.path(name + ".kubeconfig")
}

// certificateUser is a kubeconfig's user who has a certificate.
func certificateUser(certFile, keyFile string) string {
	return fmt.Sprintf("{client-certificate: %q, client-key: %q}", certFile, keyFile)
}

func (c *Cluster) writeKubeconfig(name, user, server string) error {
	authority, err := os.ReadFile(c.path("ca.crt"))
	if err != nil {
		return err
	}
	return c.write(name+".kubeconfig", fmt.Sprintf(`apiVersion: v1
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
