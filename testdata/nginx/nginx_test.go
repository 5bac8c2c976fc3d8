package nginx

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get asks for a page and returns the status and the page.
func get(t *testing.T, s *Server, url, password string) (int, string) {
	t.Helper()
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: Name}, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = Name
	request.Header.Set("X-Token", "token")
	if password != "" {
		request.SetBasicAuth("app", password)
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestEveryPageIsAsSaidBeforeAndAfterARestart(t *testing.T) {
	s := Start(t, Options{Password: "word"})
	pages := []struct {
		path, password string
		status         int
		body           string
	}{
		{path: "/healthz", status: 200, body: "ok"},
		{path: "/broken", status: 500},
		{path: "/secret", status: 401},
		{path: "/secret", password: "wrong", status: 401},
		{path: "/secret", password: "word", status: 200, body: "in"},
		{path: "/moved", status: 302},
		{path: "/echo-host", status: 200, body: "shop.internal token"},
		{path: "/other", status: 404},
	}
	for range 2 {
		for _, page := range pages {
			for _, base := range []string{"http://" + s.Addr(), "https://" + s.TLSAddr()} {
				status, body := get(t, s, base+page.path, page.password)
				if status != page.status || page.body != "" && body != page.body {
					t.Errorf("%s%s: %d %q", base, page.path, status, body)
				}
			}
		}
		s.Restart()
	}
}
