package chaos

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gorilla/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/localport-sh/localport/testdata/certs"
	"github.com/localport-sh/localport/testdata/ports"
)

// credentialKind is where the kubeconfig of an apiServer gets the token from.
type credentialKind int

const (
	tokenInKubeconfig credentialKind = iota
	tokenInFile
	tokenFromHelper // RunProgram's login-helper, an exec plugin
)

// apiServer is a stand-in for a Kubernetes API server with one service and its pod, to whose port it forwards connections over WebSocket
// or SPDY. Events make it refuse requests, show the certificate of another authority, or move to another port.
type apiServer struct {
	dir        string // of its kubeconfig and the files that it names
	self       string // this program, which is also the login helper
	upstream   string // what the pod's port leads to
	credential credentialKind
	certFile   string             // of the authority that the kubeconfig trusts
	certs      [2]tls.Certificate // signed by that authority, and by another one

	refusal         atomic.Int32 // the HTTP status with which all requests are refused; 0: none is
	webSocketStatus atomic.Int32 // the HTTP status with which upgrades to WebSocket are refused; 0: none is
	showsOtherCert  atomic.Bool
	forwardedSPDY   atomic.Int64 // upgrades to SPDY that were accepted

	mu           sync.Mutex // guards the fields that follow
	port         int
	reservedPort *ports.Port // the same; nil before the first start
	token        string      // the one that it accepts
	lastToken    int
	server       *http.Server // nil while it is stopped
	conns        map[net.Conn]bool
	goroutines   sync.WaitGroup
}

// newAPIServer starts a server and writes its kubeconfig.
func newAPIServer(dir, self, upstream string, credential credentialKind) (*apiServer, error) {
	s := &apiServer{dir: dir, self: self, upstream: upstream, credential: credential, conns: map[net.Conn]bool{}}
	for i := range s.certs {
		pairDir := filepath.Join(dir, fmt.Sprint("authority", i))
		if err := os.MkdirAll(pairDir, 0o700); err != nil {
			return nil, err
		}
		var pair certs.Pair
		if err := catchHelperError(func() { pair = certs.Issue(&helperTB{}, pairDir, "127.0.0.1") }); err != nil {
			return nil, err
		}
		var err error
		if s.certs[i], err = tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile); err != nil {
			return nil, err
		}
		if i == 0 {
			s.certFile = pair.CAFile
		}
	}
	s.renewToken()
	if err := s.move(); err != nil {
		return nil, err
	}
	return s, s.writeKubeconfig(true)
}

// move starts the server at another port. It must be stopped.
func (s *apiServer) move() error {
	port, err := ports.Reserve()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reservedPort != nil {
		s.reservedPort.Release()
	}
	s.reservedPort, s.port = port, port.Number
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.refuseWithStatus(http.StatusNotFound, "NotFound"))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("GET /api/v1/nodes/{name}", s.serveObject(clusterNode))
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/services", s.serveList(clusterService))
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/services/{name}", s.serveObject(clusterService))
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods", s.serveList(clusterPod))
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods/{name}/portforward", s.serveWebSocket)
	mux.HandleFunc("POST /api/v1/namespaces/{namespace}/pods/{name}/portforward", s.serveSPDY)
	server := &http.Server{
		Handler: s.authorize(mux), ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true, // a resumed session would not show the certificate
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				if s.showsOtherCert.Load() {
					return &s.certs[1], nil
				}
				return &s.certs[0], nil
			},
		},
	}
	s.server = server
	s.goroutines.Go(func() { _ = server.ServeTLS(trackingListener{l, s}, "", "") })
	return nil
}

// stop closes the listener and resets all connections.
func (s *apiServer) stop() {
	s.mu.Lock()
	server := s.server
	s.server = nil
	s.mu.Unlock()
	if server == nil {
		return
	}
	_ = server.Close()
	s.resetConns()
	s.goroutines.Wait()
}

// resetConns resets all connections, port forwards too. The listener stays.
func (s *apiServer) resetConns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// trackingListener records the connections that it accepts, so that the server can reset those of port forwards too.
type trackingListener struct {
	net.Listener
	server *apiServer
}

func (l trackingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	l.server.conns[conn] = true
	return trackedConn{conn, l.server}, nil
}

type trackedConn struct {
	net.Conn
	server *apiServer
}

func (c trackedConn) Close() error {
	c.server.mu.Lock()
	delete(c.server.conns, c.Conn)
	c.server.mu.Unlock()
	return c.Conn.Close()
}

// renewToken makes the server accept another token, and none that it accepted before.
func (s *apiServer) renewToken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastToken++
	s.token = fmt.Sprintf("token-%d", s.lastToken)
}

const (
	tokenFile         = "token"
	helperOfflineFile = "offline" // while it exists, the login helper cannot reach the server that it asks
)

// writeKubeconfig writes the kubeconfig and the token for the server as it is now: by a rename, as kubectl writes it, or in place.
func (s *apiServer) writeKubeconfig(renames bool) error {
	s.mu.Lock()
	token, port := s.token, s.port
	s.mu.Unlock()
	user := map[credentialKind]string{
		tokenInKubeconfig: "{token: " + token + "}",
		tokenInFile:       "{tokenFile: " + filepath.Join(s.dir, tokenFile) + "}",
		tokenFromHelper: fmt.Sprintf("{exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, args: [login-helper, %s], interactiveMode: Never}}",
			s.self, s.dir),
	}[s.credential]
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: chaos
clusters: [{name: chaos, cluster: {server: "https://127.0.0.1:%d", certificate-authority: %s}}]
users: [{name: chaos, user: %s}]
contexts: [{name: chaos, context: {cluster: chaos, user: chaos, namespace: default}}]
`, port, s.certFile, user)
	if err := writeFile(filepath.Join(s.dir, tokenFile), token, renames); err != nil {
		return err
	}
	return writeFile(s.kubeconfig(), text, renames)
}

// writeHelperToken writes only the token, which the kubeconfig does not name if a login helper prints it.
func (s *apiServer) writeHelperToken() error {
	s.mu.Lock()
	token := s.token
	s.mu.Unlock()
	return writeFile(filepath.Join(s.dir, tokenFile), token, true)
}

// writeFile writes a file by a rename or in place.
func writeFile(path, text string, renames bool) error {
	if !renames {
		return os.WriteFile(path, []byte(text), 0o600)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (s *apiServer) kubeconfig() string { return filepath.Join(s.dir, "kubeconfig") }

// setHelperOffline makes the login helper fail with an error of the network, or work again.
func (s *apiServer) setHelperOffline(isOffline bool) error {
	path := filepath.Join(s.dir, helperOfflineFile)
	if !isOffline {
		return os.RemoveAll(path)
	}
	return os.WriteFile(path, nil, 0o600)
}

// runLoginHelper is the exec plugin of a kubeconfig: it prints the token of the directory.
// https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
func runLoginHelper(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, helperOfflineFile)); err == nil {
		return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "login.example", IsNotFound: true}}
	}
	token, err := os.ReadFile(filepath.Join(dir, tokenFile))
	if err != nil {
		return err
	}
	_, err = fmt.Printf(`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":%q}}`+"\n", token)
	return err
}

// authorize refuses requests without the current token, and all requests while an event says so.
func (s *apiServer) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		want := "Bearer " + s.token
		s.mu.Unlock()
		switch refusal := int(s.refusal.Load()); {
		case refusal == http.StatusForbidden:
			s.refuseWithStatus(refusal, "Forbidden")(w, r)
		case refusal != 0, r.Header.Get("Authorization") != want:
			s.refuseWithStatus(http.StatusUnauthorized, "Unauthorized")(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *apiServer) refuseWithStatus(code int, reason string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"%s %s is refused","reason":%q,"code":%d}`,
			strings.ToLower(r.Method), r.URL.Path, reason, code)
	}
}

// The objects of the cluster. Each has the fields that a client of a port forward reads.
const (
	clusterService = `{"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"default","uid":"s1","resourceVersion":"1"},` +
		`"spec":{"type":"ClusterIP","clusterIP":"10.0.0.1","selector":{"app":"web"},"ports":[{"port":7000,"protocol":"TCP","targetPort":7000}]}}`
	clusterPod = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-1","namespace":"default","uid":"p1","resourceVersion":"1","labels":{"app":"web"}},` +
		`"spec":{"nodeName":"node-1","containers":[{"name":"web","ports":[{"containerPort":7000,"protocol":"TCP"}]}]},` +
		`"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],` +
		`"containerStatuses":[{"name":"web","ready":true,"restartCount":0,"state":{"running":{}}}]}}`
	clusterNode = `{"kind":"Node","apiVersion":"v1","metadata":{"name":"node-1"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`
)

func (s *apiServer) serveObject(object string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, object)
	}
}

// serveList serves a list with one object, and a watch in which nothing changes.
func (s *apiServer) serveList(object string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			fmt.Fprintf(w, `{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[%s]}`, object)
			return
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// The protocol of port forwards over SPDY, and in WebSocket messages (KEP-4006).
const (
	portForwardProtocol = "portforward.k8s.io"
	webSocketProtocol   = "SPDY/3.1+" + portForwardProtocol
)

func (s *apiServer) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if code := int(s.webSocketStatus.Load()); code != 0 {
		http.Error(w, "no WebSocket", code)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{webSocketProtocol}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it has sent a response
	}
	defer conn.Close()
	f := newForwarder(s.upstream)
	spdyConn, err := spdy.NewServerConnection(&webSocketConn{Conn: conn.NetConn(), socket: conn}, f.acceptStream)
	if err != nil {
		return
	}
	f.serve(spdyConn)
}

// webSocketConn is the byte stream in the binary messages of a WebSocket.
type webSocketConn struct {
	net.Conn
	socket  *websocket.Conn
	message io.Reader // the rest of the last message; nil: there is none
}

func (c *webSocketConn) Read(b []byte) (int, error) {
	for {
		if c.message == nil {
			var err error
			if _, c.message, err = c.socket.NextReader(); err != nil {
				return 0, err
			}
		}
		n, err := c.message.Read(b)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *webSocketConn) Write(b []byte) (int, error) {
	if err := c.socket.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (s *apiServer) serveSPDY(w http.ResponseWriter, r *http.Request) {
	if !slices.Contains(r.Header[http.CanonicalHeaderKey(httpstream.HeaderProtocolVersion)], portForwardProtocol) {
		http.Error(w, "no such protocol", http.StatusBadRequest)
		return
	}
	w.Header().Set(httpstream.HeaderProtocolVersion, portForwardProtocol)
	f := newForwarder(s.upstream)
	spdyConn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, f.acceptStream)
	if spdyConn == nil {
		return // it has sent a response
	}
	s.forwardedSPDY.Add(1)
	f.serve(spdyConn)
}

// forwarder connects the streams of one connection to the upstream, as a kubelet does.
type forwarder struct {
	upstream string
	streamCh chan httpstream.Stream
	doneCh   chan struct{} // closed when serve returns
}

func newForwarder(upstream string) *forwarder {
	return &forwarder{upstream: upstream, streamCh: make(chan httpstream.Stream), doneCh: make(chan struct{})}
}

// acceptStream is called for each stream, one at a time.
func (f *forwarder) acceptStream(stream httpstream.Stream, replySent <-chan struct{}) error {
	go func() {
		select {
		case <-replySent:
		case <-f.doneCh:
			return
		}
		select {
		case f.streamCh <- stream:
		case <-f.doneCh:
		}
	}()
	return nil
}

// serve returns when the connection has ended. The streams of a forward, one for data and one for errors, have the same request id.
func (f *forwarder) serve(conn httpstream.Connection) {
	defer close(f.doneCh)
	var forwards sync.WaitGroup
	defer forwards.Wait()
	defer func() { _ = conn.Close() }()
	waiting := map[string]httpstream.Stream{} // by request id
	for {
		var stream httpstream.Stream
		select {
		case <-conn.CloseChan():
			return
		case stream = <-f.streamCh:
		}
		id := stream.Headers().Get("requestID")
		other := waiting[id]
		if other == nil {
			waiting[id] = stream
			continue
		}
		delete(waiting, id)
		data, errs := stream, other
		if data.Headers().Get("streamType") == "error" {
			data, errs = errs, data
		}
		forwards.Go(func() {
			if err := f.forward(data); err != nil {
				_, _ = fmt.Fprintf(errs, "error forwarding port 7000 to pod p1: %v", err)
			}
			_ = data.Close()
			_ = errs.Close()
			conn.RemoveStreams(data, errs)
		})
	}
}

// forward copies between a stream and a connection to the upstream until either side ends.
func (f *forwarder) forward(data httpstream.Stream) error {
	conn, err := net.Dial("tcp", f.upstream)
	if err != nil {
		return fmt.Errorf("failed to connect to localhost:7000 inside namespace: %w", err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, data)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(data, conn)
	return err
}

// String returns what a violation shows about the server.
func (s *apiServer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, _ := json.Marshal(map[string]any{
		"port": s.port, "runs": s.server != nil, "token": s.token, "refusal": s.refusal.Load(), "webSocketStatus": s.webSocketStatus.Load(),
		"showsOtherCert": s.showsOtherCert.Load(), "connections": len(s.conns), "upgradesToSPDY": s.forwardedSPDY.Load(),
	})
	return string(state)
}
