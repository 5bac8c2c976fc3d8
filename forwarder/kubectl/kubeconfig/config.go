package kubeconfig

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"unicode"
)

// Config is how to reach an API server, and with which identity: what a context of a kubeconfig amounts to.
type Config struct {
	Server             *url.URL
	Proxy              ProxyFunc // nil: the kubeconfig names none
	DisableCompression bool

	ServerName string // that the server's certificate must have; empty: that of Server
	Insecure   bool   // the server's certificate is not verified
	CAFile     string
	CAData     []byte // takes precedence over CAFile

	CertFile, KeyFile string
	CertData, KeyData []byte // take precedence over the files
	Token             string
	TokenFile         string // takes precedence over Token, once it has been read
	Username          string
	Password          string
	AuthProvider      *AuthProvider
	Exec              *Exec
	ExecConfig        any // of the cluster, for Exec
	Impersonate       Impersonation

	UserName         string    // of the kubeconfig's user
	UserFile         string    // the kubeconfig file that defines the user
	EnvironmentProxy ProxyFunc // for requests to an identity provider; nil: none
}

// ProxyFunc returns the proxy for a request; nil: none. It is that of http.Transport.
type ProxyFunc = func(*http.Request) (*url.URL, error)

// Impersonation is the user that requests are made for. Only a Config with a UserName impersonates.
type Impersonation struct {
	UserName string
	UID      string
	Groups   []string
	Extra    map[string][]string
}

// execExtension is the name of a cluster's extension that a credential plugin gets.
const execExtension = "client.authentication.k8s.io/exec"

// Config returns what a context of the kubeconfig amounts to. It reads the token file, and reports all mistakes of the context's cluster and user.
func (k *Kubeconfig) Config(contextName string) (*Config, error) {
	kubeContext := k.Contexts[contextName]
	if kubeContext == nil {
		return nil, fmt.Errorf("context %q does not exist", contextName)
	}
	cluster, user := k.Clusters[kubeContext.Cluster], k.Users[kubeContext.User]
	if cluster == nil {
		return nil, fmt.Errorf("context %q: cluster %q is not defined", contextName, kubeContext.Cluster)
	}
	if user == nil {
		user = &User{} // kubectl sends requests without an identity
	}
	mistakes := append(user.check(kubeContext.User), cluster.check(kubeContext.Cluster)...)
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	server, err := parseServer(cluster.Server)
	if err != nil {
		return nil, err
	}
	c := &Config{Server: server, DisableCompression: cluster.DisableCompression, UserName: kubeContext.User, UserFile: user.file}
	if cluster.ProxyURL != "" {
		proxy, err := parseProxy(cluster.ProxyURL)
		if err != nil {
			return nil, err
		}
		c.Proxy = http.ProxyURL(proxy)
	}
	c.Impersonate = Impersonation{user.Impersonate, user.ImpersonateUID, user.ImpersonateGroups, user.ImpersonateExtra}
	if server.Scheme != "https" {
		return c, nil // credentials are not sent to a server that is not verified
	}
	c.ServerName, c.Insecure = cluster.TLSServerName, cluster.InsecureSkipTLSVerify
	c.CAFile, c.CAData = cluster.CertificateAuthority, cluster.CertificateAuthorityData
	if err := c.identify(user); err != nil {
		return nil, err
	}
	for _, extension := range cluster.Extensions {
		if c.Exec != nil && extension.Name == execExtension {
			c.ExecConfig = extension.Extension
		}
	}
	return c, nil
}

// identify sets the credentials of a user.
func (c *Config) identify(user *User) error {
	if len(user.ClientCertificate)+len(user.ClientCertificateData) > 0 {
		c.CertFile, c.CertData = user.ClientCertificate, user.ClientCertificateData
		c.KeyFile, c.KeyData = user.ClientKey, user.ClientKeyData
	}
	c.Token, c.TokenFile = user.Token, user.TokenFile
	if c.Token == "" && c.TokenFile != "" {
		token, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return err
		}
		c.Token = string(token)
	}
	c.Username, c.Password, c.AuthProvider = user.Username, user.Password, user.AuthProvider
	if user.Exec != nil {
		exec := *user.Exec
		exec.InstallHint = printable(exec.InstallHint)
		c.Exec = &exec
	}
	return nil
}

func (c *Cluster) check(name string) (mistakes []error) {
	complain := func(format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("cluster %q: "+format, append([]any{name}, args...)...))
	}
	if c.Server == "" {
		complain("it has no server")
	}
	if c.ProxyURL != "" {
		if _, err := parseProxy(c.ProxyURL); err != nil {
			complain("%w", err)
		}
	}
	if c.CertificateAuthority != "" && len(c.CertificateAuthorityData) > 0 {
		complain("it has both certificate-authority and certificate-authority-data")
	}
	if err := checkReadable(c.CertificateAuthority); err != nil {
		complain("certificate-authority: %w", err)
	}
	return mistakes
}

func (u *User) check(name string) (mistakes []error) {
	complain := func(format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("user %q: "+format, append([]any{name}, args...)...))
	}
	if u.ClientCertificate != "" || len(u.ClientCertificateData) > 0 {
		switch {
		case u.ClientCertificate != "" && len(u.ClientCertificateData) > 0:
			complain("it has both client-certificate and client-certificate-data")
		case u.ClientKey != "" && len(u.ClientKeyData) > 0:
			complain("it has both client-key and client-key-data")
		case u.ClientKey == "" && len(u.ClientKeyData) == 0:
			complain("it has a client certificate, but neither client-key nor client-key-data")
		}
		if err := checkReadable(u.ClientCertificate); err != nil {
			complain("client-certificate: %w", err)
		}
		if err := checkReadable(u.ClientKey); err != nil {
			complain("client-key: %w", err)
		}
	}
	if u.Exec != nil {
		u.checkExec(complain)
	}
	if u.Token != "" && u.Username+u.Password != "" {
		complain("it has both a token and a username or password")
	}
	if u.Impersonate == "" && (u.ImpersonateUID != "" || len(u.ImpersonateGroups) > 0 || len(u.ImpersonateExtra) > 0) {
		complain(`it has as-uid, as-groups or as-user-extra, but not "as"`)
	}
	return mistakes
}

func (u *User) checkExec(complain func(format string, args ...any)) {
	if u.AuthProvider != nil {
		complain("it has both exec and auth-provider")
	}
	if u.Exec.Command == "" {
		complain("exec has no command")
	}
	if u.Exec.APIVersion == "" {
		complain("exec has no apiVersion")
	}
	for _, variable := range u.Exec.Env {
		if variable.Name == "" {
			complain("a variable in exec.env has no name")
		}
	}
	switch mode := u.Exec.InteractiveMode; mode {
	case "":
		complain("exec has no interactiveMode, which apiVersion %s requires: Never, IfAvailable or Always", u.Exec.APIVersion)
	case NeverInteractive, InteractiveIfAvailable, AlwaysInteractive:
	default:
		complain("interactiveMode is %q, want Never, IfAvailable or Always", mode)
	}
}

// checkReadable returns an error, with the path, if there is a path and it cannot be opened.
func checkReadable(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return file.Close()
}

// parseServer parses a server's URL. One without a scheme is "host:port", without TLS.
func parseServer(text string) (*url.URL, error) {
	server, err := url.Parse(text)
	if err != nil || server.Scheme == "" || server.Host == "" {
		if server, err = url.Parse("http://" + text); err != nil {
			return nil, err
		}
		if strings.Trim(server.Path, "/") != "" {
			return nil, fmt.Errorf("server %q must be a URL or host:port", text)
		}
	}
	if len(server.Path) > 1 {
		server.RawQuery, server.Fragment = "", ""
	}
	return server, nil
}

func parseProxy(text string) (*url.URL, error) {
	proxy, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("proxy-url: %w", err)
	}
	switch proxy.Scheme {
	case "http", "https", "socks5":
		return proxy, nil
	}
	return nil, fmt.Errorf("proxy-url %q: the scheme must be http, https or socks5", text)
}

// printable replaces control characters, other than space, by their code: a terminal would obey them.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsSpace(r) || !unicode.Is(unicode.C, r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "%U", r)
		}
	}
	return b.String()
}

// Where a pod finds its service account. https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
const (
	podTokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	podCAFile    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)

// InCluster returns the config of a process that runs in a pod.
func InCluster() (*Config, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if cmp.Or(host, port) == "" {
		return nil, errors.New("this process does not run in a pod")
	}
	token, err := os.ReadFile(podTokenFile)
	if err != nil {
		return nil, err
	}
	c := &Config{
		Server: &url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)},
		Token:  string(token), TokenFile: podTokenFile,
	}
	if checkReadable(podCAFile) == nil {
		c.CAFile = podCAFile
	}
	return c, nil
}
