package kubeconfig

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"go.yaml.in/yaml/v3"
	"golang.org/x/oauth2"
)

// The keys of the auth provider "oidc": https://kubernetes.io/docs/reference/access-authn-authz/authentication/#option-1-oidc-authenticator
const (
	oidcIssuer       = "idp-issuer-url"
	oidcClientID     = "client-id"
	oidcClientSecret = "client-secret"
	oidcCAFile       = "idp-certificate-authority"
	oidcCAData       = "idp-certificate-authority-data"
	oidcIDToken      = "id-token"
	oidcRefreshToken = "refresh-token"
)

// oidcTimeout limits each request to the identity provider.
const oidcTimeout = 30 * time.Second

// oidcProvider provides an ID token (OpenID Connect). It refreshes an expired one, and stores the new one in the kubeconfig file, because the
// refresh token may have been replaced.
type oidcProvider struct {
	userFile, userName string // where the kubeconfig has the tokens

	mu     sync.Mutex // held during a refresh, so that concurrent requests cause only one
	config map[string]string
	proxy  ProxyFunc // for requests to the identity provider
}

// oidcProviders are shared by all who use the same user, so that a refresh token is used once only.
var oidcProviders = struct {
	sync.Mutex
	byUser map[string]*oidcProvider // by file and name
}{byUser: make(map[string]*oidcProvider)}

// authProvider returns the provider of the kubeconfig's user, with the tokens that the kubeconfig has now.
func (c *Config) authProvider() (*oidcProvider, error) {
	if c.AuthProvider.Name != "oidc" {
		return nil, fmt.Errorf("there is no auth provider %q", c.AuthProvider.Name)
	}
	config := c.AuthProvider.Config
	for _, key := range []string{oidcIssuer, oidcClientID} {
		if config[key] == "" {
			return nil, fmt.Errorf("the auth provider oidc has no %s", key)
		}
	}
	if _, err := oidcClient(config, c.EnvironmentProxy); err != nil {
		return nil, err
	}
	oidcProviders.Lock()
	key := c.UserFile + "\x00" + c.UserName
	provider := oidcProviders.byUser[key]
	if provider == nil {
		provider = &oidcProvider{userFile: c.UserFile, userName: c.UserName}
		oidcProviders.byUser[key] = provider
	}
	oidcProviders.Unlock()
	provider.mu.Lock()
	defer provider.mu.Unlock()
	provider.config, provider.proxy = config, c.EnvironmentProxy
	return provider, nil
}

// oidcClient is the client for requests to the identity provider.
func oidcClient(config map[string]string, proxy ProxyFunc) (*http.Client, error) {
	data, err := base64.StdEncoding.DecodeString(config[oidcCAData])
	if err != nil {
		return nil, fmt.Errorf("the auth provider oidc: %s: %w", oidcCAData, err)
	}
	tlsConfig, err := (&Config{CAFile: config[oidcCAFile], CAData: data}).TLS(nil)
	if err != nil {
		return nil, fmt.Errorf("the auth provider oidc: %w", err)
	}
	return &http.Client{
		Transport: &http.Transport{Proxy: proxy, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DisableKeepAlives: true},
		Timeout:   oidcTimeout,
	}, nil
}

// LoginError is why there is no token for a user of a kubeconfig. The API server has not been asked.
type LoginError struct {
	User, File string // the kubeconfig's user, and the file that defines it
	Err        error
}

func (e *LoginError) Error() string {
	return fmt.Sprintf("user %q of %s has no valid ID token: %v", e.User, e.File, e.Err)
}

func (e *LoginError) Unwrap() error { return e.Err }

// idToken returns an ID token that is valid, refreshed if necessary. Its error is a *LoginError.
func (p *oidcProvider) idToken(req *http.Request) (string, error) {
	token, err := p.findToken(req.Context())
	if err != nil {
		return "", &LoginError{p.userName, p.userFile, err}
	}
	return token, nil
}

func (p *oidcProvider) findToken(ctx context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if token := p.config[oidcIDToken]; isValidToken(token) {
		return token, nil
	}
	// kubectl may have refreshed it.
	if config := p.stored(); config != nil {
		p.config = config
	}
	if token := p.config[oidcIDToken]; isValidToken(token) {
		return token, nil
	}
	changes, err := p.refresh(ctx)
	if err != nil {
		return "", err
	}
	if err := storeTokens(p.userFile, p.userName, changes); err != nil {
		return "", fmt.Errorf("store the refreshed tokens: %w", err)
	}
	p.config = maps.Clone(p.config)
	maps.Copy(p.config, changes)
	return changes[oidcIDToken], nil
}

// stored returns what the kubeconfig file has now; nil if it has no such user.
func (p *oidcProvider) stored() map[string]string {
	k, err := Load(p.userFile)
	if err != nil || k.Users[p.userName] == nil || k.Users[p.userName].AuthProvider == nil {
		return nil
	}
	return k.Users[p.userName].AuthProvider.Config
}

// refresh returns the new tokens, by their keys in the kubeconfig.
func (p *oidcProvider) refresh(ctx context.Context) (map[string]string, error) {
	refreshToken := p.config[oidcRefreshToken]
	if refreshToken == "" {
		return nil, errors.New("it has expired, and the file has no " + oidcRefreshToken)
	}
	client, err := oidcClient(p.config, p.proxy)
	if err != nil {
		return nil, err
	}
	endpoint, err := tokenEndpoint(ctx, client, p.config[oidcIssuer])
	if err != nil {
		return nil, err
	}
	oauth := oauth2.Config{ClientID: p.config[oidcClientID], ClientSecret: p.config[oidcClientSecret], Endpoint: oauth2.Endpoint{TokenURL: endpoint}}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
	answer, err := oauth.TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
	if err != nil {
		return nil, fmt.Errorf("refresh the ID token at %s: %w", endpoint, err)
	}
	token, ok := answer.Extra("id_token").(string)
	if !ok { // it is not a required part of the response
		return nil, fmt.Errorf("%s returned no id_token: the login did not request the scope \"openid\", or the provider does not refresh ID tokens", endpoint)
	}
	changes := map[string]string{oidcIDToken: token}
	if answer.RefreshToken != "" && answer.RefreshToken != refreshToken {
		changes[oidcRefreshToken] = answer.RefreshToken
	}
	return changes, nil
}

// expiryLeeway is how long before its expiry a token is taken for expired: clocks differ.
const expiryLeeway = 10 * time.Second

// isValidToken reports whether a JSON web token is valid for a while.
func isValidToken(token string) bool { return time.Now().Add(expiryLeeway).Before(TokenExpiry(token)) }

// TokenExpiry returns the expiration time of a JSON web token (RFC 7519, section 4.1.4: seconds, perhaps with a fraction); zero for other tokens.
func TokenExpiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Exp float64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Exp == 0 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Exp), 0)
}

// tokenEndpoint asks an issuer for its token endpoint. https://openid.net/specs/openid-connect-discovery-1_0.html
func tokenEndpoint(ctx context.Context, client *http.Client, issuer string) (string, error) {
	address := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s: %s", address, resp.Status)
	}
	var metadata struct {
		TokenEndpoint string `json:"token_endpoint"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&metadata); err != nil {
		return "", fmt.Errorf("get %s: %w", address, err)
	}
	if metadata.TokenEndpoint == "" {
		return "", fmt.Errorf("get %s: the response has no token_endpoint", address)
	}
	return metadata.TokenEndpoint, nil
}

// storeTokens sets keys of a user's auth provider in a kubeconfig file. Everything else, also comments, stays. The lock file is the one that
// kubectl uses.
func storeTokens(file, userName string, changes map[string]string) error {
	path, err := filepath.EvalSymlinks(file)
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return err
	}
	defer os.Remove(lock.Name())
	defer lock.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	config := providerConfig(&doc, userName)
	if config == nil {
		return fmt.Errorf("%s has no user %q with an auth provider any more", path, userName)
	}
	for key, value := range changes {
		setKey(config, key, value)
	}
	var text strings.Builder
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(&doc), encoder.Close()); err != nil {
		return err
	}
	return replaceFile(path, text.String())
}

// replaceFile replaces a file's contents at once, and keeps its mode and, as far as this process may, its owner.
func replaceFile(path, text string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	pending, err := renameio.NewPendingFile(path, renameio.WithPermissions(info.Mode().Perm()), renameio.IgnoreUmask())
	if err != nil {
		return err
	}
	defer pending.Cleanup() //nolint:errcheck // what matters is the replacement
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = pending.Chown(int(owner.Uid), int(owner.Gid))
	}
	if _, err := pending.WriteString(text); err != nil {
		return err
	}
	return pending.CloseAtomicallyReplace()
}

// providerConfig returns users[name=userName].user.auth-provider.config of a document.
func providerConfig(doc *yaml.Node, userName string) *yaml.Node {
	if len(doc.Content) == 0 {
		return nil
	}
	users := valueOf(doc.Content[0], "users")
	if users == nil {
		return nil
	}
	for _, entry := range users.Content {
		if name := valueOf(entry, "name"); name != nil && name.Value == userName {
			return valueOf(valueOf(valueOf(entry, "user"), "auth-provider"), "config")
		}
	}
	return nil
}

// valueOf returns the value of a mapping's key; nil if there is none.
func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	if mapping != nil && mapping.Kind == yaml.AliasNode {
		mapping = mapping.Alias
	}
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func setKey(mapping *yaml.Node, key, value string) {
	text := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	if old := valueOf(mapping, key); old != nil {
		text.LineComment, text.HeadComment, text.FootComment = old.LineComment, old.HeadComment, old.FootComment
		*old = *text
		return
	}
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, text)
}
