package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubelet/pkg/cri/streaming/portforward"
)

// newServer returns the HTTPS server that the API server connects to. authority is the file with the certificate that clients'
// certificates must be signed by.
func (s *standin) newServer(authority string) (*http.Server, error) {
	text, err := os.ReadFile(authority)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(text)
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/portForward/{namespace}/{pod}", s.servePortForward)
	mux.HandleFunc("/portForward/{namespace}/{pod}/{uid}", s.servePortForward)
	return &http.Server{
		Addr: fmt.Sprintf("127.0.0.1:%d", s.port), Handler: mux,
		TLSConfig: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients},
		// Without HTTP/2, whose connections cannot be upgraded to SPDY.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}, nil
}

// The kubelet's defaults: pkg/kubelet/apis/config/v1beta1/defaults.go and pkg/kubelet/server/server.go in Kubernetes.
const (
	idleTimeout           = 4 * time.Hour
	streamCreationTimeout = 30 * time.Second
)

func (s *standin) servePortForward(w http.ResponseWriter, r *http.Request) {
	p := s.pods.find(r.PathValue("namespace"), r.PathValue("pod"))
	if p == nil {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, forwarder{s}, p.Name, p.UID, options, idleTimeout, streamCreationTimeout, portforward.SupportedProtocols)
}

// forwarder connects the streams of port-forwards to pods.
type forwarder struct{ node *standin }

// PortForward connects a stream to a port of a pod until either side ends. Its errors have the wording of containerd's.
func (f forwarder) PortForward(_ context.Context, name string, uid types.UID, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	p := f.node.pods.get(uid)
	if p == nil {
		return fmt.Errorf("failed to find sandbox %q in store: not found", name)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: p.socket(port)})
	if err != nil {
		return fmt.Errorf("failed to execute portforward in network namespace %q: failed to connect to localhost:%d inside namespace %q, "+
			"IPv4: dial tcp4 127.0.0.1:%d: connect: connection refused", p.dir, port, name, port)
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, stream)
		_ = conn.CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	return err
}
