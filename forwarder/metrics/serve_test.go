package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/api"
)

// startServer starts Serve and returns its address. Serve must end without an error when the test does.
func startServer(t *testing.T, snapshot func(context.Context) (api.Status, error)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- Serve(ctx, ln, snapshot) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			t.Error("the port is still open")
		}
	})
	return ln.Addr().String()
}

func sendRequest(t *testing.T, method, url, host string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func runningSnapshot(context.Context) (api.Status, error) { return runningStatus(), nil }

func TestServe_ReturnsCurrentMetrics(t *testing.T) {
	addr := startServer(t, runningSnapshot)
	response, body := sendRequest(t, http.MethodGet, "http://"+addr+"/metrics", "")
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("%s, %v", response.Status, response.Header)
	}
	if body != writeText(t, runningStatus()) {
		t.Errorf("got %s", body)
	}
}

func TestServe_RejectsForeignHostHeaders(t *testing.T) {
	addr := startServer(t, runningSnapshot)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:9464": 200, "127.0.0.1": 200, "127.0.0.1:1": 200, "[::1]:9464": 200, "[::1]": 200,
		"evil.example": 403, "evil.example:9464": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example:80": 403, "127.0.0.2": 403,
	} {
		response, body := sendRequest(t, http.MethodGet, "http://"+addr+"/metrics", host)
		if response.StatusCode != want || (want != 200) == strings.Contains(body, "localport_up") {
			t.Errorf("for host %q: %s, %q", host, response.Status, body)
		}
	}
}

// A page of another origin may send the request, but must not be allowed to read the response.
func TestServe_AllowsNoOtherOrigin(t *testing.T) {
	addr := startServer(t, runningSnapshot)
	for _, method := range []string{http.MethodGet, http.MethodOptions} {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Origin", "http://evil.example")
		request.Header.Set("Access-Control-Request-Method", http.MethodGet)
		request.Header.Set("Access-Control-Request-Private-Network", "true")
		transport := &http.Transport{}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		transport.CloseIdleConnections()
		for name := range response.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s: %s", method, name, response.Header.Get(name))
			}
		}
	}
}

func TestServe_OnlyMetricsPathAndReadMethods(t *testing.T) {
	addr := startServer(t, runningSnapshot)
	for request, want := range map[string]int{
		"POST /metrics": 405, "GET /": 404, "GET /metrics/": 404, "GET /debug/pprof/": 404, "HEAD /metrics": 200,
	} {
		method, path, _ := strings.Cut(request, " ")
		if response, _ := sendRequest(t, method, "http://"+addr+path, ""); response.StatusCode != want {
			t.Errorf("%s: %s, want %d", request, response.Status, want)
		}
	}
}

func TestServe_SnapshotErrorIsServiceUnavailable(t *testing.T) {
	addr := startServer(t, func(context.Context) (api.Status, error) { return api.Status{}, errors.New("is ending") })
	if response, body := sendRequest(t, http.MethodGet, "http://"+addr+"/metrics", ""); response.StatusCode != 503 || body != "is ending\n" {
		t.Errorf("%s, %q", response.Status, body)
	}
}

func TestServe_ShutdownDoesNotWaitForAPendingScrape(t *testing.T) {
	asked := make(chan struct{})
	addr := startServer(t, func(ctx context.Context) (api.Status, error) {
		close(asked)
		<-ctx.Done()
		return api.Status{}, ctx.Err()
	})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-asked
}

func TestServe_RefusesNonLoopbackAddresses(t *testing.T) {
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), ln, runningSnapshot); err == nil || !strings.Contains(err.Error(), "not a loopback address") {
		t.Errorf("got %v", err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}
