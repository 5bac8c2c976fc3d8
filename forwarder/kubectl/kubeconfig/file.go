// Package kubeconfig reads kubeconfig files and makes an HTTP client's TLS settings and headers of them, as kubectl does. A client-go that does
// this costs every start of the program, also those of a prompt, more than a millisecond: see "Kubeconfig files" in .github/DESIGN.md. The tests
// compare this package with client-go.
//
// The format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
package kubeconfig

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Kubeconfig is the contents of kubeconfig files, merged. Paths of files are absolute.
type Kubeconfig struct {
	CurrentContext string
	Contexts       map[string]*Context
	Clusters       map[string]*Cluster
	Users          map[string]*User
}

// Context names a cluster, a user and a namespace.
type Context struct {
	Cluster   string `yaml:"cluster"`
	User      string `yaml:"user"`
	Namespace string `yaml:"namespace"`
}

// Cluster is an API server.
type Cluster struct {
	Server                   string      `yaml:"server"`
	TLSServerName            string      `yaml:"tls-server-name"`
	InsecureSkipTLSVerify    bool        `yaml:"insecure-skip-tls-verify"`
	CertificateAuthority     string      `yaml:"certificate-authority"`
	CertificateAuthorityData base64Data  `yaml:"certificate-authority-data"`
	ProxyURL                 string      `yaml:"proxy-url"`
	DisableCompression       bool        `yaml:"disable-compression"`
	Extensions               []extension `yaml:"extensions"`
}

type extension struct {
	Name      string `yaml:"name"`
	Extension any    `yaml:"extension"`
}

// User is what a client identifies itself with.
type User struct {
	ClientCertificate     string              `yaml:"client-certificate"`
	ClientCertificateData base64Data          `yaml:"client-certificate-data"`
	ClientKey             string              `yaml:"client-key"`
	ClientKeyData         base64Data          `yaml:"client-key-data"`
	Token                 string              `yaml:"token"`
	TokenFile             string              `yaml:"tokenFile"`
	Username              string              `yaml:"username"`
	Password              string              `yaml:"password"`
	Impersonate           string              `yaml:"as"`
	ImpersonateUID        string              `yaml:"as-uid"`
	ImpersonateGroups     []string            `yaml:"as-groups"`
	ImpersonateExtra      map[string][]string `yaml:"as-user-extra"`
	AuthProvider          *AuthProvider       `yaml:"auth-provider"`
	Exec                  *Exec               `yaml:"exec"`

	file string // the kubeconfig file that defines the user
}

// AuthProvider is a login that kubectl itself implements. The only one is "oidc".
type AuthProvider struct {
	Name   string            `yaml:"name"`
	Config map[string]string `yaml:"config"`
}

// Exec is a credential plugin. https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
type Exec struct {
	Command            string   `yaml:"command"`
	Args               []string `yaml:"args"`
	Env                []EnvVar `yaml:"env"`
	APIVersion         string   `yaml:"apiVersion"`
	InstallHint        string   `yaml:"installHint"`
	ProvideClusterInfo bool     `yaml:"provideClusterInfo"`
	InteractiveMode    string   `yaml:"interactiveMode"`
}

// EnvVar is a variable of a credential plugin's environment.
type EnvVar struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}

// The values of Exec.InteractiveMode.
const (
	NeverInteractive       = "Never"
	InteractiveIfAvailable = "IfAvailable"
	AlwaysInteractive      = "Always"
)

// base64Data is bytes that the file has in base64.
type base64Data []byte

func (d *base64Data) UnmarshalYAML(node *yaml.Node) error {
	var text string
	if err := node.Decode(&text); err != nil {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	*d = data
	return nil
}

// document is one file.
type document struct {
	APIVersion     string `yaml:"apiVersion"`
	Kind           string `yaml:"kind"`
	CurrentContext string `yaml:"current-context"`
	Clusters       []struct {
		Name    string   `yaml:"name"`
		Cluster *Cluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string `yaml:"name"`
		User *User  `yaml:"user"`
	} `yaml:"users"`
	Contexts []struct {
		Name    string   `yaml:"name"`
		Context *Context `yaml:"context"`
	} `yaml:"contexts"`
}

// Load reads kubeconfig files and merges them: of several with a context, cluster or user of one name, the first counts. A file that does not
// exist is ignored. The errors, each with the name of its file, are joined.
func Load(files ...string) (*Kubeconfig, error) {
	merged := &Kubeconfig{Contexts: make(map[string]*Context), Clusters: make(map[string]*Cluster), Users: make(map[string]*User)}
	var failures []error
	for _, file := range files {
		config, err := readFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if merged.CurrentContext == "" {
			merged.CurrentContext = config.CurrentContext
		}
		mergeMap(merged.Contexts, config.Contexts)
		mergeMap(merged.Clusters, config.Clusters)
		mergeMap(merged.Users, config.Users)
	}
	return merged, errors.Join(failures...)
}

// mergeMap adds the entries of src that dst does not have.
func mergeMap[T any](dst, src map[string]T) {
	for name, value := range src {
		if _, ok := dst[name]; !ok {
			dst[name] = value
		}
	}
}

// readFile reads one file. An empty one defines nothing.
func readFile(file string) (*Kubeconfig, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc document
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if kind := doc.Kind; kind != "" && kind != "Config" {
		return nil, fmt.Errorf("%s: kind is %q, want \"Config\"", file, kind)
	}
	if version := doc.APIVersion; version != "" && version != "v1" {
		return nil, fmt.Errorf("%s: apiVersion is %q, want \"v1\"", file, version)
	}
	config, err := doc.kubeconfig(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return config, nil
}

func (doc *document) kubeconfig(file string) (*Kubeconfig, error) {
	k := &Kubeconfig{
		CurrentContext: doc.CurrentContext,
		Contexts:       make(map[string]*Context), Clusters: make(map[string]*Cluster), Users: make(map[string]*User),
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	for _, entry := range doc.Contexts {
		if err := add(k.Contexts, "context", entry.Name, entry.Context); err != nil {
			return nil, err
		}
	}
	for _, entry := range doc.Clusters {
		if err := add(k.Clusters, "cluster", entry.Name, entry.Cluster); err != nil {
			return nil, err
		}
		resolvePaths(dir, &k.Clusters[entry.Name].CertificateAuthority)
	}
	for _, entry := range doc.Users {
		if err := add(k.Users, "user", entry.Name, entry.User); err != nil {
			return nil, err
		}
		user := k.Users[entry.Name]
		user.file = file
		resolvePaths(dir, &user.ClientCertificate, &user.ClientKey, &user.TokenFile)
		if exec := user.Exec; exec != nil {
			if strings.ContainsRune(exec.Command, filepath.Separator) { // else it is looked for in PATH
				resolvePaths(dir, &exec.Command)
			}
			if exec.InteractiveMode == "" && slices.Contains([]string{"client.authentication.k8s.io/v1beta1", "client.authentication.k8s.io/v1alpha1"}, exec.APIVersion) {
				exec.InteractiveMode = InteractiveIfAvailable // version 1 requires the key
			}
		}
	}
	return k, nil
}

// add adds an entry of a list to a map. An entry without contents is an empty one.
func add[T any](entries map[string]*T, what, name string, value *T) error {
	if _, ok := entries[name]; ok {
		return fmt.Errorf("there are two entries for %s %q", what, name)
	}
	if value == nil {
		value = new(T)
	}
	entries[name] = value
	return nil
}

// resolvePaths makes paths absolute that are relative to the directory of the kubeconfig file.
func resolvePaths(dir string, paths ...*string) {
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}
