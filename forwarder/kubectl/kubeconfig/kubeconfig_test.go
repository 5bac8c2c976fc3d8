package kubeconfig_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newCertificate returns a certificate for itself and its key, in PEM.
var newCertificate = func() func(t testing.TB) (cert, key string) {
	make := sync.OnceValues(func() (string, string) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true,
		}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
		if err != nil {
			panic(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			panic(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	})
	return func(testing.TB) (string, string) { return make() }
}()

func TestLoad_NamesTheFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"broken": "a: b: c", "twice": "{users: [{name: u, user: {}}, {name: u, user: {}}]}", "pod": "{kind: Pod}", "data": "{clusters: [{name: k, cluster: {certificate-authority-data: '?'}}]}",
	} {
		path := filepath.Join(dir, name)
		writeFile(t, path, text)
		if _, err := kubeconfig.Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestConfig_ReportsAllMistakes(t *testing.T) {
	files := write(t, t.TempDir(), minimal("{certificate-authority: none.pem}", "{client-certificate: none.pem, as-uid: x}"))
	_, err := ourConfig(files)
	if err == nil {
		t.Fatal("there is no error")
	}
	for _, want := range []string{`cluster "k": it has no server`, `none.pem: no such file`, `user "u": it has a client certificate, but neither`, `but not "as"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %q, want %q in it", err, want)
		}
	}
}

// A credential plugin gets the cluster's extension.
func TestConfig_HasTheExtensionForExec(t *testing.T) {
	files := write(t, t.TempDir(), minimal("{server: 'https://s', extensions: [{name: other, extension: 1}, {name: client.authentication.k8s.io/exec, extension: {audience: x, n: [1]}}]}",
		"{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: helper}}"))
	config, err := ourConfig(files)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(config.ExecConfig); err != nil || string(text) != `{"audience":"x","n":[1]}` {
		t.Errorf("the extension is %s, %v", text, err)
	}
}

func TestAuthenticate_ReadsARenewedTokenAndCertificate(t *testing.T) {
	dir := t.TempDir()
	config, err := ourConfig(write(t, dir, minimal("{server: 'https://s'}", "{tokenFile: token, client-certificate: cert.pem, client-key: key.pem}")))
	if err != nil {
		t.Fatal(err)
	}
	var sent recorder
	tripper, err := config.Authenticate(&sent, "test")
	if err != nil {
		t.Fatal(err)
	}
	send := func() string {
		req, _ := http.NewRequest(http.MethodGet, "https://s", nil)
		resp, err := tripper.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return sent.header.Get("Authorization")
	}
	writeFile(t, filepath.Join(dir, "token"), "renewed\n")
	if got := send(); got != "Bearer renewed" {
		t.Errorf("after a renewal the header is %q", got)
	}
	if err := os.Remove(filepath.Join(dir, "token")); err != nil {
		t.Fatal(err)
	}
	if got := send(); got != "Bearer from-a-file" {
		t.Errorf("without the file the header is %q", got)
	}
	settings, err := config.TLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "cert.pem"), "being written")
	if _, err := settings.GetClientCertificate(nil); err == nil {
		t.Error("a handshake uses a certificate that is not in the file any more")
	}
}

// identityProvider is a server of OpenID Connect that accepts each refresh token once.
type identityProvider struct {
	*httptest.Server
	refreshes atomic.Int32
	expires   time.Duration // after which the ID tokens expire
}

func (p *identityProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"token_endpoint": %q}`, p.URL+"/token")
	case "/token":
		want := fmt.Sprintf("refresh-%d", p.refreshes.Load())
		id, secret, _ := r.BasicAuth()
		if r.FormValue("refresh_token") != want || r.FormValue("grant_type") != "refresh_token" || id+r.FormValue("client_id") != "me" || secret+r.FormValue("client_secret") != "s3cret" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error": "invalid_grant"}`)
			return
		}
		n := p.refreshes.Add(1)
		fmt.Fprintf(w, `{"access_token": "a", "token_type": "bearer", "id_token": %q, "refresh_token": "refresh-%d"}`, jwt(int(n), p.expires), n)
	}
}

// jwt is a JSON web token without a valid signature.
func jwt(number int, expires time.Duration) string {
	payload := fmt.Sprintf(`{"n": %d, "exp": %d.5}`, number, time.Now().Add(expires).Unix())
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func newIdentityProvider(t *testing.T, expires time.Duration) (p *identityProvider, user string) {
	p = &identityProvider{expires: expires}
	p.Server = httptest.NewTLSServer(p)
	t.Cleanup(p.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	user = fmt.Sprintf("    auth-provider:\n      name: oidc\n      config:\n        idp-issuer-url: %s/\n        client-id: me\n        client-secret: s3cret\n"+
		"        idp-certificate-authority-data: %s\n        refresh-token: refresh-0 # of the last login\n", p.URL, base64.StdEncoding.EncodeToString(ca))
	return p, user
}

func (p *identityProvider) kubeconfig(t *testing.T, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	writeFile(t, path, "# mine\napiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\n"+
		"clusters:\n- name: k\n  cluster: {server: 'https://s'} # the server\nusers:\n- name: u\n  user:\n"+user+"- name: other\n  user: {token: x}\n")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// authorization returns the header that a request gets.
func authorization(config *kubeconfig.Config) (string, error) {
	var sent recorder
	tripper, err := config.Authenticate(&sent, "test")
	if err != nil {
		return "", err
	}
	req, _ := http.NewRequest(http.MethodGet, "https://s", nil)
	resp, err := tripper.RoundTrip(req)
	if err != nil {
		return "", err
	}
	_ = resp.Body.Close()
	return sent.header.Get("Authorization"), nil
}

func TestOIDC_RefreshesOnceAndStoresTheTokens(t *testing.T) {
	p, user := newIdentityProvider(t, time.Hour)
	path := p.kubeconfig(t, user)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	config, err := ourConfig([]string{link})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if got, err := authorization(config); err != nil || !strings.HasPrefix(got, "Bearer e30.") {
				t.Errorf("the header is %q, %v", got, err)
			}
		})
	}
	group.Wait()
	if got := p.refreshes.Load(); got != 1 {
		t.Errorf("%d refreshes, want 1", got)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# mine\n", "# the server\n", "refresh-token: refresh-1 # of the last login\n", "id-token: e30.", "token: x"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%q is missing in the kubeconfig:\n%s", want, data)
		}
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(path + ".lock"); !os.IsNotExist(err) {
		t.Errorf("the lock file: %v", err)
	}
	// Another program's read: client-go takes the same token.
	theirs, err := peerConfig([]string{path})
	if err != nil || theirs.AuthProvider == nil || theirs.AuthProvider.Config["refresh-token"] != "refresh-1" {
		t.Errorf("client-go reads %+v, %v", theirs, err)
	}
}

// An expired token is replaced by the one that another program has stored, without a refresh of ours.
func TestOIDC_UsesWhatAnotherProgramHasStored(t *testing.T) {
	p, user := newIdentityProvider(t, time.Hour)
	path := p.kubeconfig(t, user+"        id-token: "+jwt(0, -time.Hour)+"\n")
	config, err := ourConfig([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	stored := jwt(7, time.Hour)
	writeFile(t, path, strings.Replace(string(data), jwtOf(string(data)), stored, 1))
	if got, err := authorization(config); err != nil || got != "Bearer "+stored {
		t.Errorf("the header is %q, %v; want the token of the file", got, err)
	}
	if got := p.refreshes.Load(); got != 0 {
		t.Errorf("%d refreshes, want none", got)
	}
}

func jwtOf(text string) string {
	_, token, _ := strings.Cut(text, "id-token: ")
	token, _, _ = strings.Cut(token, "\n")
	return token
}

func TestOIDC_RefreshesAgainAfterTheExpiry(t *testing.T) {
	p, user := newIdentityProvider(t, time.Second) // within the leeway
	path := p.kubeconfig(t, user)
	config, err := ourConfig([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	for want := int32(1); want <= 3; want++ {
		if _, err := authorization(config); err != nil {
			t.Fatal(err)
		}
		if got := p.refreshes.Load(); got != want {
			t.Errorf("%d refreshes, want %d", got, want)
		}
	}
}

func TestOIDC_ErrorsSayWhatIsWrong(t *testing.T) {
	p, user := newIdentityProvider(t, time.Hour)
	for _, test := range []struct{ user, want string }{
		{strings.ReplaceAll(user, "refresh-0", "used"), "invalid_grant"},
		{strings.ReplaceAll(user, "refresh-token", "unused"), "no refresh-token"},
		{strings.ReplaceAll(user, "idp-issuer-url", "unused"), "no idp-issuer-url"},
		{strings.ReplaceAll(user, "name: oidc", "name: saml"), `no auth provider "saml"`},
		{strings.ReplaceAll(user, p.URL+"/", p.URL+"/nowhere"), "/nowhere/.well-known/openid-configuration"},
		{strings.ReplaceAll(user, "idp-certificate-authority-data: ", "idp-certificate-authority-data: '?' # "), "idp-certificate-authority-data"},
	} {
		path := p.kubeconfig(t, test.user)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		config, err := ourConfig([]string{path})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := authorization(config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("the header is %q, the error %v, want %q", got, err, test.want)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("the kubeconfig was changed:\n%s", after)
		}
	}
}
