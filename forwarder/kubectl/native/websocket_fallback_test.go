package native

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // RFC 6455, section 4.2.2, prescribes it
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/localport-sh/localport/testdata/certs"
	"github.com/localport-sh/localport/testdata/cluster"
)

// oddServer stands before an API server, passes on all requests but those for a WebSocket, and answers these as it is told.
type oddServer struct {
	answer       func(c net.Conn, r *http.Request) // answers the request for a WebSocket; the connection is closed then
	alertOnHello bool                              // the first connection for an upgrade gets a TLS alert

	webSockets, spdys, alerts atomic.Int32
	closedCh                  chan struct{}
}

// start returns the path of a kubeconfig whose server is s. s passes requests on to the cluster in the name of its administrator.
func (s *oddServer) start(t *testing.T, c *cluster.Cluster) (kubeconfig string) {
	t.Helper()
	dir := t.TempDir()
	pair := certs.Issue(t, dir, "127.0.0.1")
	cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := tls.LoadX509KeyPair(c.Credential(t, "odd-"+strings.ToLower(filepath.Base(t.Name())), cluster.Identity{User: "odd", Groups: []string{"system:masters"}}))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.closedCh = make(chan struct{})
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		// Connections for upgrades, and only those, do not offer HTTP/2.
		if s.alertOnHello && !slices.Contains(hello.SupportedProtos, "h2") && s.alerts.Add(1) == 1 {
			return nil, errors.New("not now")
		}
		return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}, nil
	}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				s.serve(tls.Server(conn, config), strings.TrimPrefix(c.Server(), "https://"), admin)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		close(s.closedCh)
		running.Wait()
	})
	ca, err := os.ReadFile(pair.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(ca); block == nil {
		t.Fatal("the authority has no certificate")
	}
	kubeconfig = filepath.Join(dir, "config")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: test, clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}], "+
		"users: [{name: u, user: {}}], contexts: [{name: test, context: {cluster: c, user: u}}]}", "https://"+listener.Addr().String(), base64.StdEncoding.EncodeToString(ca))
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// serve answers the first request of a connection, if it is for a WebSocket, or connects it to the API server.
func (s *oddServer) serve(client *tls.Conn, server string, admin tls.Certificate) {
	buffered := bufio.NewReader(client)
	request, err := http.ReadRequest(buffered)
	if err != nil {
		return
	}
	switch request.Header.Get("Upgrade") {
	case "websocket":
		s.webSockets.Add(1)
		s.answer(client, request)
		return
	case "SPDY/3.1":
		s.spdys.Add(1)
	}
	upstream, err := tls.Dial("tcp4", server, &tls.Config{Certificates: []tls.Certificate{admin}, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) //nolint:gosec // the test's own server
	if err != nil || request.Write(upstream) != nil {
		return
	}
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(upstream, buffered)
		_ = upstream.Close()
	})
	copying.Go(func() {
		_, _ = io.Copy(client, upstream)
		_ = client.NetConn().Close()
	})
	doneCh := make(chan struct{})
	go func() {
		copying.Wait()
		close(doneCh)
	}()
	select {
	case <-doneCh:
	case <-s.closedCh:
		_ = upstream.NetConn().Close()
		_ = client.NetConn().Close()
		<-doneCh
	}
}

// acceptKey is the value of Sec-WebSocket-Accept that answers a request.
func acceptKey(r *http.Request) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Whatever answer but 401 the request for a WebSocket gets, and none, a tunnel over SPDY follows, and works.
func TestTunnel_UsesSPDYAfterAnyOddAnswerToWebSocket(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	say := func(text string) func(net.Conn, *http.Request) {
		return func(c net.Conn, r *http.Request) {
			_, _ = io.WriteString(c, strings.NewReplacer("ACCEPT", acceptKey(r), "\n", "\r\n").Replace(text))
		}
	}
	const switching = "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n"
	servers := map[string]*oddServer{
		"garbage":             {answer: say("SSH-2.0-OpenSSH_9.2\n\n")},
		"page-without-header": {answer: say("<html><body>Sign in</body></html>\n")},
		"binary":              {answer: say("\x15\x03\x01\x00\x02\x02\x28")},
		"half-header":         {answer: say("HTTP/1.1 101 Switching Pro")},
		"malformed-header":    {answer: say(switching + "no colon\n\n")},
		"unknown-protocol":    {answer: say("HTTP/9.9 200 OK\n\n")},
		"status-no-number":    {answer: say("HTTP/1.1 OK\n\n")},
		"closed":              {answer: say("")},
		"reset":               {answer: func(c net.Conn, _ *http.Request) { _ = c.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0) }},
		"tls-alert":           {answer: say(""), alertOnHello: true},
		"plain-text-after-tls": {answer: func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c.(*tls.Conn).NetConn(), "HTTP/1.1 400 Bad Request\r\n\r\n")
		}},
		"101-wrong-accept":   {answer: say(switching + "Sec-WebSocket-Accept: wrong\nSec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\n\n")},
		"101-no-subprotocol": {answer: say(switching + "Sec-WebSocket-Accept: ACCEPT\n\n")},
		"101-other-protocol": {answer: say(switching + "Sec-WebSocket-Accept: ACCEPT\nSec-WebSocket-Protocol: chat\n\n")},
		"101-compressed":     {answer: say(switching + "Sec-WebSocket-Accept: ACCEPT\nSec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\nSec-WebSocket-Extensions: permessage-deflate\n\n")},
		"101-h2c":            {answer: say("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: h2c\n\n")},
		"103":                {answer: say("HTTP/1.1 103 Early Hints\nLink: </x>\n\n")},
		"200-body":           {answer: say("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello")},
		"204":                {answer: say("HTTP/1.1 204 No Content\n\n")},
		"301":                {answer: say("HTTP/1.1 301 Moved Permanently\nLocation: https://127.0.0.1:1/\nContent-Length: 0\n\n")},
		"302":                {answer: say("HTTP/1.1 302 Found\nLocation: /login\nContent-Length: 0\n\n")},
		"304":                {answer: say("HTTP/1.1 304 Not Modified\n\n")},
		"407":                {answer: say("HTTP/1.1 407 Proxy Authentication Required\nContent-Length: 0\n\n")},
		"426":                {answer: say("HTTP/1.1 426 Upgrade Required\nUpgrade: SPDY/3.1\nContent-Length: 0\n\n")},
		"502":                {answer: say("HTTP/1.1 502 Bad Gateway\nContent-Length: 0\n\n")},
		"short-body":         {answer: say("HTTP/1.1 500 Internal Server Error\nContent-Length: 500\n\nshort")},
	}
	silent := &oddServer{}
	silent.answer = func(net.Conn, *http.Request) { <-silent.closedCh }
	servers["silent"] = silent
	slow := &oddServer{}
	slow.answer = func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
		<-slow.closedCh
	}
	servers["header-without-end"] = slow
	for name, s := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tunnel := openTunnel(t, s.start(t, c), specFor("service/web:greet", ns))
			for range 2 {
				readGreeting(t, dial(t, tunnel))
			}
			_ = tunnel.Close()
			if asked := s.webSockets.Load() + min(1, s.alerts.Load()); asked != 1 {
				t.Errorf("a WebSocket was requested %d times", asked)
			}
			if s.spdys.Load() == 0 {
				t.Error("SPDY was not requested")
			}
		})
	}
}
