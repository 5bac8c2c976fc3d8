package chaos

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

func startTestAPIServer(t *testing.T, credential credentialKind) (s *apiServer, roots *x509.CertPool) {
	t.Helper()
	upstream, err := startUpstreamServer(t.Errorf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.stop)
	if s, err = newAPIServer(t.TempDir(), "chaos", upstream.addr, credential); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	roots = x509.NewCertPool()
	text, err := os.ReadFile(s.certFile)
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	return s, roots
}

const podPortForward = "/api/v1/namespaces/default/pods/web-1/portforward"

// sendRecordOver forwards a connection over SPDY, sends a record of a client through it, and checks the acknowledgement.
func sendRecordOver(t *testing.T, conn httpstream.Connection, client string) {
	t.Helper()
	create := func(kind string) httpstream.Stream {
		stream, err := conn.CreateStream(http.Header{"Streamtype": {kind}, "Port": {"7000"}, "Requestid": {"0"}})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	create("error")
	data := create("data")
	fmt.Fprintln(data, client, 1)
	if line, err := bufio.NewReader(data).ReadString('\n'); line != client+" 1"+padding+"\n" {
		t.Errorf("the upstream answered %q, %v", line, err)
	}
}

func TestAPIServer_ForwardsOverWebSocketAndSPDY(t *testing.T) {
	s, roots := startTestAPIServer(t, tokenInKubeconfig)
	header := http.Header{"Authorization": {"Bearer " + s.token}}
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: roots}, Subprotocols: []string{webSocketProtocol}}
	url := fmt.Sprintf("://127.0.0.1:%d%s", s.port, podPortForward)
	socket, resp, err := dialer.DialContext(t.Context(), "wss"+url, header)
	if err != nil {
		t.Fatal(resp, err)
	}
	conn, err := spdy.NewClientConnection(&webSocketConn{Conn: socket.NetConn(), socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	sendRecordOver(t, conn, "one")
	_ = conn.Close()

	s.webSocketStatus.Store(http.StatusBadGateway)
	if _, resp, err := dialer.DialContext(t.Context(), "wss"+url, header); err == nil || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("WebSocket is not refused: %v", err)
	}
	roundTripper, err := spdy.NewRoundTripper(&tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https"+url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	req.Header.Set(httpstream.HeaderProtocolVersion, portForwardProtocol)
	resp, err = roundTripper.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if conn, err = roundTripper.NewConnection(resp); err != nil {
		t.Fatal(err)
	}
	sendRecordOver(t, conn, "two")
	_ = conn.Close()
	if s.forwardedSPDY.Load() != 1 {
		t.Errorf("%d upgrades to SPDY", s.forwardedSPDY.Load())
	}
}

func TestAPIServer_RefusesAndRecovers(t *testing.T) {
	s, roots := startTestAPIServer(t, tokenInFile)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	get := func() string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/api/v1/namespaces/default/pods", s.port), nil)
		if err != nil {
			t.Fatal(err)
		}
		token, err := os.ReadFile(s.dir + "/" + tokenFile)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+string(token))
		resp, err := client.Do(req)
		if err != nil {
			return err.Error()
		}
		resp.Body.Close()
		return resp.Status
	}
	expect := func(want string) {
		t.Helper()
		if got := get(); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	expect("200")
	for _, code := range []int32{http.StatusUnauthorized, http.StatusForbidden} {
		s.refusal.Store(code)
		expect(fmt.Sprint(code))
		s.refusal.Store(0)
		expect("200")
	}
	s.showsOtherCert.Store(true)
	expect("x509")
	s.showsOtherCert.Store(false)
	s.renewToken()
	expect("401")
	s.stop()
	expect("refused")
	if err := s.move(); err != nil {
		t.Fatal(err)
	}
	if err := s.writeKubeconfig(true); err != nil {
		t.Fatal(err)
	}
	expect("200")
}
