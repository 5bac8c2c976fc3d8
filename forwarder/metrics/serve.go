package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
)

// Timeouts of the HTTP server. A scraper sends a short request every few seconds and reads the whole response at once.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
	idleTimeout  = 2 * time.Minute
)

// Serve serves GET /metrics on ln, which must listen on a loopback address, until ctx ends; then it returns nil. It closes ln.
// Each response is made from a new snapshot. Every user of this machine may read it.
func Serve(ctx context.Context, ln net.Listener, snapshot func(ctx context.Context) (api.Status, error)) error {
	if addr, ok := ln.Addr().(*net.TCPAddr); !ok || !addr.IP.IsLoopback() {
		ln.Close()
		return fmt.Errorf("serve metrics on %s: not a loopback address", ln.Addr())
	}
	server := &http.Server{
		Handler:           newHandler(snapshot),
		ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 16 << 10,
		BaseContext:    func(net.Listener) context.Context { return ctx },
	}
	serveErrCh := make(chan error, 1)
	go func() { serveErrCh <- server.Serve(ln) }()
	var err error
	select {
	case err = <-serveErrCh:
	case <-ctx.Done():
	}
	shutdownCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(shutdownCtx) != nil {
		_ = server.Close()
	}
	if err == nil {
		err = <-serveErrCh
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics on %s: %w", ln.Addr(), err)
}

func newHandler(snapshot func(context.Context) (api.Status, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), writeTimeout/2)
		defer cancel()
		status, err := snapshot(ctx)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		var text bytes.Buffer
		_ = Write(&text, status) // a write to a buffer cannot fail
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(text.Bytes()) // fails only if the scraper has disconnected
	})
	return allowLoopbackHosts(mux)
}

// allowLoopbackHosts rejects requests whose Host header is not a loopback name: a web page must not read the metrics by DNS
// rebinding.
func allowLoopbackHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch (&url.URL{Host: r.Host}).Hostname() {
		case "localhost", "127.0.0.1", "::1":
			next.ServeHTTP(w, r)
		default:
			http.Error(w, "use http://127.0.0.1:PORT/metrics or http://localhost:PORT/metrics", http.StatusForbidden)
		}
	})
}
