package kubeconfig_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
)

// The tests of this file compare the package with client-go, which kubectl uses.

// write writes kubeconfig files into a directory, with a certificate, its key and a token beside them, and returns their paths.
func write(t testing.TB, dir string, texts ...string) (files []string) {
	t.Helper()
	cert, key := newCertificate(t)
	for name, text := range map[string]string{"cert.pem": cert, "key.pem": key, "ca.pem": cert, "token": "from-a-file\n"} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	replacer := strings.NewReplacer("CERT", base64.StdEncoding.EncodeToString([]byte(cert)), "KEY", base64.StdEncoding.EncodeToString([]byte(key)))
	for i, text := range texts {
		path := filepath.Join(dir, fmt.Sprintf("config%d", i))
		writeFile(t, path, replacer.Replace(text))
		files = append(files, path)
	}
	return files
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// peerConfig is what client-go makes of the files.
func peerConfig(files []string) (*rest.Config, error) {
	raw, err := (&clientcmd.ClientConfigLoadingRules{Precedence: files}).Load()
	if err != nil {
		return nil, err
	}
	return clientcmd.NewNonInteractiveClientConfig(*raw, raw.CurrentContext, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
}

func ourConfig(files []string) (*kubeconfig.Config, error) {
	k, err := kubeconfig.Load(files...)
	if err != nil {
		return nil, err
	}
	return k.Config(k.CurrentContext)
}

// recorder is a transport that keeps the request it is to send.
type recorder struct{ header http.Header }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.header = req.Header
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// compare fails the test if this package and client-go make different things of the files.
func compare(t failer, files []string) {
	t.Helper()
	theirs, theirErr := peerConfig(files)
	if theirErr == nil {
		_, _, theirErr = rest.DefaultServerUrlFor(theirs)
	}
	ours, ourErr := ourConfig(files)
	if (theirErr == nil) != (ourErr == nil) {
		t.Fatalf("client-go's error is %v, ours is %v", theirErr, ourErr)
	}
	if theirErr != nil {
		return
	}
	base, _, err := rest.DefaultServerUrlFor(theirs)
	if (err == nil) != (ours.Server != nil) || err == nil && base.String() != ours.Server.String() {
		t.Errorf("the server is %v, want %v (%v)", ours.Server, base, err)
	}
	for what, values := range map[string][2]any{
		"server name": {ours.ServerName, theirs.ServerName}, "insecure": {ours.Insecure, theirs.Insecure},
		"CA file": {ours.CAFile, theirs.CAFile}, "CA data": {string(ours.CAData), string(theirs.CAData)},
		"certificate file": {ours.CertFile, theirs.CertFile}, "certificate data": {string(ours.CertData), string(theirs.CertData)},
		"key file": {ours.KeyFile, theirs.KeyFile}, "key data": {string(ours.KeyData), string(theirs.KeyData)},
		"token": {ours.Token, theirs.BearerToken}, "token file": {ours.TokenFile, theirs.BearerTokenFile},
		"username": {ours.Username, theirs.Username}, "password": {ours.Password, theirs.Password},
		"no compression": {ours.DisableCompression, theirs.DisableCompression},
		"exec":           {ours.Exec != nil, theirs.ExecProvider != nil},
		"proxy":          {ours.Proxy != nil, theirs.Proxy != nil},
	} {
		if values[0] != values[1] {
			t.Errorf("%s is %v, want %v", what, values[0], values[1])
		}
	}
	if ours.Exec != nil && theirs.ExecProvider != nil {
		got := []any{ours.Exec.Command, fmt.Sprint(ours.Exec.Args), fmt.Sprint(ours.Exec.Env), ours.Exec.APIVersion, ours.Exec.InteractiveMode, ours.Exec.InstallHint}
		peer := theirs.ExecProvider
		want := []any{peer.Command, fmt.Sprint(peer.Args), fmt.Sprint(peer.Env), peer.APIVersion, string(peer.InteractiveMode), peer.InstallHint}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("exec is %q, want %q", got, want)
		}
		return // client-go would run it
	}
	compareRequests(t, ours, theirs)
}

func compareRequests(t failer, ours *kubeconfig.Config, theirs *rest.Config) {
	t.Helper()
	theirs.UserAgent = "test"
	transportConfig, err := theirs.TransportConfig()
	if err != nil {
		t.Fatalf("%v", err)
	}
	theirTLS, theirErr := transport.TLSConfigFor(transportConfig)
	ourTLS, ourErr := ours.TLS(nil)
	if (theirErr == nil) != (ourErr == nil) {
		t.Fatalf("for TLS client-go's error is %v, ours is %v", theirErr, ourErr)
	}
	if theirErr == nil && theirTLS != nil {
		if ourTLS.InsecureSkipVerify != theirTLS.InsecureSkipVerify || ourTLS.ServerName != theirTLS.ServerName || ourTLS.MinVersion != theirTLS.MinVersion ||
			(ourTLS.RootCAs == nil) != (theirTLS.RootCAs == nil) || ourTLS.RootCAs != nil && !ourTLS.RootCAs.Equal(theirTLS.RootCAs) {
			t.Errorf("the TLS settings differ: %+v, want %+v", ourTLS, theirTLS)
		}
		if (ourTLS.GetClientCertificate == nil) != (theirTLS.GetClientCertificate == nil) {
			t.Errorf("there is a client certificate: %v, want %v", ourTLS.GetClientCertificate != nil, theirTLS.GetClientCertificate != nil)
		} else if ourTLS.GetClientCertificate != nil {
			got, gotErr := ourTLS.GetClientCertificate(nil)
			want, wantErr := theirTLS.GetClientCertificate(nil)
			if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !bytes.Equal(got.Certificate[0], want.Certificate[0]) {
				t.Errorf("the client certificates differ (%v, %v)", gotErr, wantErr)
			}
		}
	}
	var got, want recorder
	wantTripper, wantErr := transport.HTTPWrappersForConfig(transportConfig, &want)
	gotTripper, gotErr := ours.Authenticate(&got, "test")
	if (gotErr == nil) != (wantErr == nil) {
		t.Fatalf("for requests client-go's error is %v, ours is %v", wantErr, gotErr)
	}
	if gotErr != nil {
		return
	}
	for _, authorization := range []string{"", "Bearer of-the-caller"} {
		for tripper, name := range map[http.RoundTripper]string{gotTripper: "ours", wantTripper: "client-go"} {
			req, _ := http.NewRequest(http.MethodGet, ours.Server.String(), nil)
			if authorization != "" {
				req.Header.Set("Authorization", authorization)
			}
			before := len(req.Header)
			resp, err := tripper.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_ = resp.Body.Close()
			if len(req.Header) != before {
				t.Errorf("%s: the caller's request was changed: %v", name, req.Header)
			}
		}
		if !reflect.DeepEqual(got.header, want.header) {
			t.Errorf("the headers are %v, want %v", got.header, want.header)
		}
	}
}

// minimal is a kubeconfig with the given cluster and user, in YAML's flow style.
func minimal(cluster, user string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k, user: u, namespace: ns}}], "+
		"clusters: [{name: k, cluster: %s}], users: [{name: u, user: %s}]}", cluster, user)
}

func TestConfig_IsLikeKubectls(t *testing.T) {
	for name, texts := range map[string][]string{
		"nothing":                    {""},
		"comments only":              {"# nothing\n"},
		"no current context":         {`{contexts: [{name: c, context: {cluster: k, user: u}}]}`},
		"another kind":               {`{apiVersion: v1, kind: Pod, metadata: {name: p}}`},
		"another version":            {`{apiVersion: v2, kind: Config}`},
		"not YAML":                   {"a: b: c"},
		"a list":                     {"[1, 2]"},
		"no kind":                    {strings.Replace(minimal("{server: 'https://s'}", "{token: t}"), "apiVersion: v1, kind: Config, ", "", 1)},
		"two contexts of one name":   {`{current-context: c, contexts: [{name: c, context: {cluster: a}}, {name: c, context: {cluster: b}}]}`},
		"two users of one name":      {`{users: [{name: u, user: {token: a}}, {name: u, user: {token: b}}]}`},
		"an unknown key":             {minimal("{server: 'https://s', unknown: 1}", "{token: t, other: {}}")},
		"no user":                    {strings.Replace(minimal("{server: 'https://s'}", "{}"), ", user: u", "", 1)},
		"unknown user":               {strings.Replace(minimal("{server: 'https://s'}", "{}"), "user: u,", "user: other,", 1)},
		"unknown cluster":            {strings.Replace(minimal("{server: 'https://s'}", "{}"), "cluster: k,", "cluster: other,", 1)},
		"no server":                  {minimal("{}", "{}"), minimal("{insecure-skip-tls-verify: true}", "{}")},
		"no server but a flag":       {minimal("{insecure-skip-tls-verify: true}", "{}")},
		"plain HTTP":                 {minimal("{server: 'http://s:8080', certificate-authority: ca.pem}", "{token: t, as: other}")},
		"no scheme":                  {minimal("{server: 's:8080'}", "{token: t}")},
		"an address":                 {minimal("{server: '127.0.0.1:8080'}", "{token: t}")},
		"a path":                     {minimal("{server: 'https://s/a/b/?x=1#y'}", "{token: t}")},
		"a path without scheme":      {minimal("{server: 's/a'}", "{token: t}")},
		"spaces":                     {minimal("{server: ' https://s'}", "{token: t}")},
		"CA in a file":               {minimal("{server: 'https://s', certificate-authority: ca.pem}", "{token: t}")},
		"CA data":                    {minimal("{server: 'https://s', certificate-authority-data: CERT}", "{token: t}")},
		"CA twice":                   {minimal("{server: 'https://s', certificate-authority: ca.pem, certificate-authority-data: CERT}", "{}")},
		"CA missing":                 {minimal("{server: 'https://s', certificate-authority: none.pem}", "{}")},
		"CA not PEM":                 {minimal("{server: 'https://s', certificate-authority: token}", "{}")},
		"CA and insecure":            {minimal("{server: 'https://s', certificate-authority: ca.pem, insecure-skip-tls-verify: true}", "{}")},
		"not base64":                 {minimal("{server: 'https://s', certificate-authority-data: '?'}", "{}")},
		"insecure":                   {minimal("{server: 'https://s', insecure-skip-tls-verify: true}", "{token: t}")},
		"server name":                {minimal("{server: 'https://s', tls-server-name: other}", "{token: t}")},
		"proxy":                      {minimal("{server: 'https://s', proxy-url: 'socks5://p:1'}", "{token: t}")},
		"proxy of another scheme":    {minimal("{server: 'https://s', proxy-url: 'ftp://p:1'}", "{token: t}")},
		"no compression":             {minimal("{server: 'https://s', disable-compression: true}", "{token: t}")},
		"token file":                 {minimal("{server: 'https://s'}", "{tokenFile: token}")},
		"token file missing":         {minimal("{server: 'https://s'}", "{tokenFile: none}")},
		"token and file":             {minimal("{server: 'https://s'}", "{token: t, tokenFile: token}")},
		"token and missing file":     {minimal("{server: 'https://s'}", "{token: t, tokenFile: none}")},
		"password":                   {minimal("{server: 'https://s'}", "{username: me, password: p}")},
		"password and token":         {minimal("{server: 'https://s'}", "{username: me, password: p, token: t}")},
		"password and token file":    {minimal("{server: 'https://s'}", "{username: me, password: p, tokenFile: token}")},
		"certificate files":          {minimal("{server: 'https://s'}", "{client-certificate: cert.pem, client-key: key.pem}")},
		"certificate data":           {minimal("{server: 'https://s'}", "{client-certificate-data: CERT, client-key-data: KEY}")},
		"certificate mixed":          {minimal("{server: 'https://s'}", "{client-certificate: cert.pem, client-key-data: KEY}")},
		"certificate without key":    {minimal("{server: 'https://s'}", "{client-certificate: cert.pem}")},
		"key without certificate":    {minimal("{server: 'https://s'}", "{client-key: key.pem}")},
		"certificate twice":          {minimal("{server: 'https://s'}", "{client-certificate: cert.pem, client-certificate-data: CERT, client-key: key.pem}")},
		"key twice":                  {minimal("{server: 'https://s'}", "{client-certificate: cert.pem, client-key-data: KEY, client-key: key.pem}")},
		"certificate missing":        {minimal("{server: 'https://s'}", "{client-certificate: none.pem, client-key: key.pem}")},
		"key is no key":              {minimal("{server: 'https://s'}", "{client-certificate: cert.pem, client-key: token}")},
		"certificate and token":      {minimal("{server: 'https://s'}", "{client-certificate: cert.pem, client-key: key.pem, token: t}")},
		"impersonation":              {minimal("{server: 'https://s'}", "{token: t, as: other, as-uid: '7', as-groups: [a, b], as-user-extra: {'Scope/x%y ä': [p, q]}}")},
		"impersonation without user": {minimal("{server: 'https://s'}", "{token: t, as-groups: [a]}")},
		"exec":                       {minimal("{server: 'https://s'}", "{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: helper, args: [a, b], env: [{name: NAME, value: v}], installHint: \"in\\e[1mstall\\tit\\n\"}}")},
		"exec relative":              {minimal("{server: 'https://s'}", "{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: ./bin/helper, interactiveMode: Never}}")},
		"exec v1 without mode":       {minimal("{server: 'https://s'}", "{exec: {apiVersion: client.authentication.k8s.io/v1, command: helper}}")},
		"exec of a wrong mode":       {minimal("{server: 'https://s'}", "{exec: {apiVersion: client.authentication.k8s.io/v1, command: helper, interactiveMode: Maybe}}")},
		"exec without a command":     {minimal("{server: 'https://s'}", "{exec: {apiVersion: client.authentication.k8s.io/v1beta1}}")},
		"exec without a version":     {minimal("{server: 'https://s'}", "{exec: {command: helper, interactiveMode: Never}}")},
		"exec, nameless variable":    {minimal("{server: 'https://s'}", "{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: helper, env: [{value: v}]}}")},
		"exec and auth provider":     {minimal("{server: 'https://s'}", "{auth-provider: {name: oidc}, exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: helper}}")},
		"first file counts": {
			`{contexts: [{name: c, context: {cluster: k, user: u}}], users: [{name: u, user: {token: first}}]}`,
			minimal("{server: 'https://second'}", "{token: second}"),
			minimal("{server: 'https://third'}", "{token: third}"),
		},
		"first current context counts": {`{current-context: c}`, strings.Replace(minimal("{server: 'https://s'}", "{token: t}"), "current-context: c", "current-context: d", 1)},
		"one of two is broken":         {minimal("{server: 'https://s'}", "{token: t}"), "a: b: c"},
		"JSON":                         {`{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}],"clusters":[{"name":"k","cluster":{"server":"https://s"}}],"users":[{"name":"u","user":{"token":"t"}}]}`},
		"anchors": {"current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'https://s'}}]\n" +
			"users:\n- name: base\n  user: &base {token: t}\n- name: u\n  user:\n    <<: *base\n    as: other\n"},
		"null entries": {"current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'https://s', extensions: null}}]\nusers: [{name: u, user: null}]\n"},
	} {
		t.Run(name, func(t *testing.T) { compare(t, write(t, t.TempDir(), texts...)) })
	}
}

// A kubeconfig of any combination of keys is taken or refused as by kubectl.
func TestConfig_AnyCombinationIsLikeKubectls(t *testing.T) {
	dir := t.TempDir()
	write(t, dir)
	cluster := []string{
		"certificate-authority: ca.pem", "certificate-authority-data: CERT", "insecure-skip-tls-verify: true", "tls-server-name: name", "proxy-url: 'http://p'",
		"disable-compression: true",
	}
	user := []string{
		"token: t", "tokenFile: token", "username: me", "password: p", "client-certificate: cert.pem", "client-certificate-data: CERT", "client-key: key.pem",
		"client-key-data: KEY", "as: other", "as-uid: u", "as-groups: [a]", "as-user-extra: {k: [v]}",
		"exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: c}",
	}
	rapid.Check(t, func(rt *rapid.T) {
		server := rapid.SampledFrom([]string{"https://s", "https://s:1/p", "http://s", "s:1"}).Draw(rt, "server")
		some := func(keys []string, label string) string {
			var drawn []string
			for _, key := range keys {
				if rapid.IntRange(0, 3).Draw(rt, label+" "+key) == 0 {
					drawn = append(drawn, key)
				}
			}
			return strings.Join(drawn, ", ")
		}
		files := write(t, dir, minimal(fmt.Sprintf("{server: '%s', %s}", server, some(cluster, "cluster")), "{"+some(user, "user")+"}"))
		compare(rt, files)
	})
}
