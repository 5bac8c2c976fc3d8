package kubeconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// TLS returns the TLS settings for requests to the server. certificate provides the client certificate of a credential plugin; it may be nil,
// and may return nil. A certificate in the kubeconfig takes precedence; one in files is read at each handshake, because files are renewed.
func (c *Config) TLS(certificate func() (*tls.Certificate, error)) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure, ServerName: c.ServerName} //nolint:gosec // as the user has it
	caData, err := dataOrFile(c.CAData, c.CAFile)
	if err != nil {
		return nil, err
	}
	if c.CAFile != "" || len(caData) > 0 {
		if c.Insecure {
			return nil, errors.New("insecure-skip-tls-verify and a certificate authority cannot both be set")
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(caData) {
			return nil, fmt.Errorf("%s has no valid certificate in PEM format", nameOr(c.CAFile, c.CAData, "certificate-authority-data"))
		}
	}
	if c.hasCertificate() {
		certificate = c.loadCertificate
		if len(c.CertData)+len(c.KeyData) > 0 {
			own, err := c.loadCertificate()
			if err != nil {
				return nil, err
			}
			certificate = func() (*tls.Certificate, error) { return own, nil }
		}
	}
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := certificate()
			if cert == nil && err == nil {
				cert = &tls.Certificate{} // none is sent
			}
			return cert, err
		}
	}
	return config, nil
}

func (c *Config) hasCertificate() bool {
	return (c.CertFile != "" || len(c.CertData) > 0) && (c.KeyFile != "" || len(c.KeyData) > 0)
}

// loadCertificate returns the kubeconfig's client certificate, as it is now.
func (c *Config) loadCertificate() (*tls.Certificate, error) {
	cert, err := dataOrFile(c.CertData, c.CertFile)
	if err != nil {
		return nil, err
	}
	key, err := dataOrFile(c.KeyData, c.KeyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", nameOr(c.CertFile, c.CertData, "client-certificate-data"), err)
	}
	return &pair, nil
}

func dataOrFile(data []byte, file string) ([]byte, error) {
	if len(data) > 0 || file == "" {
		return data, nil
	}
	return os.ReadFile(file)
}

// nameOr is the file that data comes from, or the key that has it.
func nameOr(file string, data []byte, key string) string {
	if len(data) > 0 {
		return key
	}
	return file
}

// Authenticate returns a transport that adds the kubeconfig's credentials and impersonation to requests, which base sends. A request that has a
// header Authorization keeps it. Credentials of Exec are not added.
func (c *Config) Authenticate(base http.RoundTripper, userAgent string) (http.RoundTripper, error) {
	var tokens tokenSource
	hasToken, hasPassword := c.Token != "" || c.TokenFile != "", c.Username != ""
	switch {
	case hasToken && hasPassword:
		return nil, errors.New("the user has both a token and a username or password")
	case hasToken:
		tokens = c.currentToken
	case !hasPassword && c.AuthProvider != nil:
		provider, err := c.authProvider()
		if err != nil {
			return nil, err
		}
		tokens = provider.idToken
	}
	return &transport{config: c, base: base, tokens: tokens, userAgent: userAgent}, nil
}

// tokenSource returns the token to use for a request.
type tokenSource func(req *http.Request) (string, error)

// currentToken is the one in the token file, which may be renewed at any time, or else the one that was read first.
func (c *Config) currentToken(*http.Request) (string, error) {
	if c.TokenFile != "" {
		if data, err := os.ReadFile(c.TokenFile); err == nil && strings.TrimSpace(string(data)) != "" {
			return strings.TrimSpace(string(data)), nil
		}
	}
	return strings.TrimSpace(c.Token), nil
}

type transport struct {
	config    *Config
	base      http.RoundTripper
	tokens    tokenSource // nil: no token is added
	userAgent string
}

func (t *transport) RoundTrip(original *http.Request) (*http.Response, error) {
	req := original.Clone(original.Context()) // a RoundTripper must not modify its request
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", t.userAgent)
	}
	if req.Header.Get("Authorization") == "" {
		if t.tokens != nil {
			token, err := t.tokens(req)
			if err != nil {
				if req.Body != nil {
					_ = req.Body.Close() // as a RoundTripper must
				}
				return nil, err
			}
			req.Header.Set("Authorization", "Bearer "+token)
		} else if t.config.Username != "" {
			req.SetBasicAuth(t.config.Username, t.config.Password)
		}
	}
	t.config.Impersonate.setHeaders(req.Header)
	return t.base.RoundTrip(req)
}

// The headers of an impersonation: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
func (i Impersonation) setHeaders(header http.Header) {
	if i.UserName == "" || header.Get("Impersonate-User") != "" {
		return
	}
	header.Set("Impersonate-User", i.UserName)
	if i.UID != "" {
		header.Set("Impersonate-Uid", i.UID)
	}
	for _, group := range i.Groups {
		header.Add("Impersonate-Group", group)
	}
	for key, values := range i.Extra {
		for _, value := range values {
			header.Add("Impersonate-Extra-"+escapeHeaderKey(key), value)
		}
	}
}

// tokenPunctuation are the characters of a header's name that are neither letters nor digits (RFC 9110, section 5.6.2), but for %, which escapes.
const tokenPunctuation = "!#$&'*+-.^_`|~"

func escapeHeaderKey(key string) string {
	var b strings.Builder
	for _, c := range []byte(key) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(tokenPunctuation, c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
