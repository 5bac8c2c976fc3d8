package web

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/certs"
	"github.com/localport-sh/localport/testdata/nginx"
	"github.com/localport-sh/localport/testdata/probetest"
	"github.com/localport-sh/localport/testdata/tcpserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// directDialer dials an address directly.
type directDialer string

func (d directDialer) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", string(d))
}
func (p directDialer) Acknowledges() bool { return true }

const pages = `
location = /healthz { return 200 "all is well\n"; }
location = /empty { return 204; }
location = /moved { return 301 /broken; }
location = /broken { return 503 "database\r\n is   away"; }
location = /private { if ($http_authorization != "Bearer opensesame") { return 401; } return 200 welcome; }
location = /forbidden { return 403; }
location = /who { return 200 "$request_method host=$http_host x=$http_x_tenant agent=$http_user_agent proxy=$http_proxy_connection"; }
location = /other { if ($host != "shop.test") { return 421; } return 200; }
`

func TestCheck_SucceedsOnAnAnswer(t *testing.T) {
	server := nginx.Start(t, pages)
	for _, page := range []string{"/healthz", "/empty", "/moved"} {
		if err := probetest.Check(t, HTTP, server.Addr, project.Settings{"path": page}); err != nil {
			t.Errorf("%s: %v", page, err)
		}
	}
}

func TestCheck_ReportsAWrongStatusWithTheBody(t *testing.T) {
	server := nginx.Start(t, pages)
	probetest.RequireFailure(t, probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/broken"}),
		"GET /broken: 503 Service Temporarily Unavailable: database is away")
	probetest.RequireFailure(t, probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/nowhere"}), "404 Not Found", "check health_check.path")
	probetest.RequireFailure(t, probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/forbidden"}), "403 Forbidden", "headers")
	probetest.RequireFailure(t, probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/other"}), "421", "check health_check.host")
}

func TestCheck_AcceptsOnlyExpectedStatus(t *testing.T) {
	server := nginx.Start(t, pages)
	settings := project.Settings{"path": "/broken", "expected_status": []int{500, 503}}
	if err := probetest.Check(t, HTTP, server.Addr, settings); err != nil {
		t.Error(err)
	}
	settings["path"] = "/healthz"
	probetest.RequireFailure(t, probetest.Check(t, HTTP, server.Addr, settings), "200 OK")
}

func TestCheck_SendsCredentialsAndNeverPrintsThem(t *testing.T) {
	server := nginx.Start(t, pages)
	headers := map[string]string{"Authorization": "Bearer opensesame"}
	if err := probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/private", "headers": headers}); err != nil {
		t.Error(err)
	}
	headers["Authorization"] = "Bearer hunter2-hunter2"
	err := probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/private", "headers": headers})
	probetest.RequireFailure(t, err, "401 Unauthorized", "set credentials in health_check.headers")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the secret is in %q", err)
	}
}

func TestCheck_SendsTheConfiguredRequestWithoutProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	server := nginx.Start(t, pages)
	settings := project.Settings{
		"path": "/who", "method": "POST", "host": "shop.test:8080", "headers": map[string]string{"X-Tenant": "blue"},
		"expected_body": "POST host=shop.test:8080 x=blue agent=localport proxy=",
	}
	if err := probetest.Check(t, HTTP, server.Addr, settings); err != nil {
		t.Error(err)
	}
	if err := probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/healthz", "method": "HEAD"}); err != nil {
		t.Error(err)
	}
}

func TestCheck_RequiresTheExpectedBody(t *testing.T) {
	server := nginx.Start(t, pages)
	for expected, isExpected := range map[string]bool{"is well": true, `/^all\s+is (well|fine)/`: true, "/healthz": false, "/^is/": false} {
		err := probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/healthz", "expected_body": expected})
		if isExpected && err != nil {
			t.Errorf("%s: %v", expected, err)
		}
		if !isExpected {
			probetest.RequireFailure(t, err, "200 OK, but the body does not match expected_body: all is well")
		}
	}
}

func TestCheck_ReadsAtMostOneMegabyteOfBody(t *testing.T) {
	server := nginx.Start(t)
	text := "early" + strings.Repeat(".", maxBodySize) + "late"
	if err := os.WriteFile(filepath.Join(server.Root, "long"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/long", "expected_body": "early"}); err != nil {
		t.Error(err)
	}
	probetest.RequireFailure(t, probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/long", "expected_body": "late"}), "does not match expected_body")
}

func TestCheck_VerifiesCertificates(t *testing.T) {
	trusted, stranger := certs.NewAuthority(t), certs.NewAuthority(t)
	cert, key := trusted.Sign(certs.Leaf{Names: []string{"shop.test"}})
	server := nginx.StartTLS(t, cert, key, `location = / { return 200 "sni=$ssl_server_name host=$host"; }`)
	for name, settings := range map[string]project.Settings{
		"authority":      {"ca_file": trusted.File},
		"name":           {"ca_file": trusted.File, "host": "shop.test:443", "expected_body": "sni=shop.test host=shop.test"},
		"server_name":    {"ca_file": trusted.File, "host": "inner", "server_name": "shop.test", "expected_body": "sni=shop.test host=inner"},
		"not verified":   {"tls_verify": false, "host": "elsewhere"},
		"first, nothing": {"tls_verify": false},
	} {
		if err := probetest.Check(t, HTTPS, server.Addr, settings); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	const unknown = `signed by an unknown authority: "CN=test authority"`
	probetest.RequireFailure(t, probetest.Check(t, HTTPS, server.Addr, nil), unknown, "ca_file", "tls_verify = false")
	probetest.RequireFailure(t, probetest.Check(t, HTTPS, server.Addr, project.Settings{"ca_file": stranger.File}), unknown)
	probetest.RequireFailure(t, probetest.Check(t, HTTPS, server.Addr, project.Settings{"ca_file": trusted.File, "host": "other.test"}),
		"certificate is valid for shop.test, not other.test", "server_name")
}

func TestCheck_ReportsAnExpiredCertificate(t *testing.T) {
	ca := certs.NewAuthority(t)
	cert, key := ca.Sign(certs.Leaf{Expired: true})
	server := nginx.StartTLS(t, cert, key, `return 200;`)
	probetest.RequireFailure(t, probetest.Check(t, HTTPS, server.Addr, project.Settings{"ca_file": ca.File}), "certificate has expired", "renew the certificate")
}

func TestCheck_ReportsTheWrongScheme(t *testing.T) {
	cert, key := certs.NewAuthority(t).Sign(certs.Leaf{})
	probetest.RequireFailure(t, probetest.Check(t, HTTP, nginx.StartTLS(t, cert, key).Addr, nil), "plain HTTP request was sent to HTTPS port", `health_check.type = "https"`)
	probetest.RequireFailure(t, probetest.Check(t, HTTPS, nginx.Start(t).Addr, nil), "does not use TLS", `type = "http"`)
}

func TestCheck_UnreachableServerIsNotAServiceFailure(t *testing.T) {
	server := nginx.Start(t, pages)
	server.Stop()
	err := probetest.Check(t, HTTP, server.Addr, nil)
	if _, answered := errors.AsType[*probe.Failure](err); answered || err == nil {
		t.Errorf("got %v", err)
	}
	server.Start()
	if err := probetest.Check(t, HTTP, server.Addr, project.Settings{"path": "/healthz"}); err != nil {
		t.Errorf("started again: %v", err)
	}
}

// startGreetingServer sends says on every connection, and keeps it open until the client closes it.
func startGreetingServer(t *testing.T, greeting string) string {
	t.Helper()
	return tcpserver.Start(t, func(conn *net.TCPConn) {
		_, _ = conn.Write([]byte(greeting))
		_, _ = io.Copy(io.Discard, conn)
	}).String()
}

func TestCheck_EndsWithItsContext(t *testing.T) {
	for greeting, kind := range map[string]probe.Type{
		"": HTTP, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf": HTTP, "\x16\x03\x01": HTTPS,
	} {
		check, err := kind.New(project.Settings{"path": "/", "method": "GET"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := check(ctx, directDialer(startGreetingServer(t, greeting))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: %v", greeting, err)
		}
		cancel()
	}
}

func TestCheck_AcceptsInformationalResponses(t *testing.T) {
	addr := startGreetingServer(t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
	if err := probetest.Check(t, HTTP, addr, nil); err != nil {
		t.Error(err)
	}
}

func TestCheck_ReportsAnAnswerThatIsNotHTTP(t *testing.T) {
	probetest.RequireFailure(t, probetest.Check(t, HTTP, startGreetingServer(t, "220 mail.test ESMTP\r\n"), nil), "the answer is not HTTP", "mail.test")
}

func TestKeys_AreValidatedWhenParsed(t *testing.T) {
	for _, bad := range []struct {
		name  string
		value any
	}{
		{"path", "healthz"},
		{"path", "/a b"},
		{"path", "/%zz"},
		{"method", "GET IT"},
		{"expected_status", []int{200, 99}},
		{"expected_body", "/(/"},
		{"headers", map[string]string{"X Y": "a"}},
		{"headers", map[string]string{"X-Y": "opensesame\r\n"}},
	} {
		err := validateKey(t, HTTPS, bad.name, bad.value)
		if err == nil || strings.Contains(err.Error(), "opensesame") {
			t.Errorf("%s = %v: %v", bad.name, bad.value, err)
		}
	}
	for _, good := range []struct {
		name  string
		value any
	}{
		{"path", "/healthz?full=1"},
		{"method", "PROPFIND"},
		{"expected_status", []int{301}},
		{"expected_body", "/"},
		{"headers", map[string]string{"Authorization": "Bearer x"}},
	} {
		if err := validateKey(t, HTTP, good.name, good.value); err != nil {
			t.Errorf("%s = %v: %v", good.name, good.value, err)
		}
	}
}

func validateKey(t *testing.T, kind probe.Type, name string, value any) error {
	t.Helper()
	for _, key := range kind.Keys {
		if key.Name == name {
			return key.Validate(value)
		}
	}
	t.Fatalf("there is no key %s", name)
	return nil
}
