package session

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Like kubectl, an upgrade to SPDY follows whatever answer WebSocket gets but 401, and none.
func TestSession_UpgradesToSPDYWhereWebSocketFails(t *testing.T) {
	refuse := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for _, tt := range []struct {
		name      string
		webSocket http.HandlerFunc
		want      bool
	}{
		{"200", refuse(http.StatusOK), true},
		{"301", refuse(http.StatusMovedPermanently), true},
		{"400", refuse(http.StatusBadRequest), true},
		{"401", refuse(http.StatusUnauthorized), false},
		{"403", refuse(http.StatusForbidden), true},
		{"404", refuse(http.StatusNotFound), true},
		{"500", refuse(http.StatusInternalServerError), true},
		{"502", refuse(http.StatusBadGateway), true},
		{"503", refuse(http.StatusServiceUnavailable), true},
		{"closed", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true},
		{"silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") != "SPDY/3.1" {
					tt.webSocket(w, r)
					return
				}
				conn, buffered, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				fmt.Fprint(buffered, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhello\n")
				_ = buffered.Flush()
			}))
			t.Cleanup(server.Close)
			src := (&tokenServer{Server: server}).source(t, "{token: x}", "")
			s, release, err := testRegistry.Open(src)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			conn, err := s.Upgrade(ctx, "/portforward")
			if (err == nil) != tt.want {
				t.Fatalf("the upgrade: %v", err)
			}
			if err != nil {
				return
			}
			defer conn.Close()
			if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" {
				t.Errorf("read %q, %v", line, err)
			}
			if !s.lacksWebSocket.Load() {
				t.Error("the next upgrade tries WebSocket again")
			}
			if err, _ := s.Reachability(); err != nil {
				t.Errorf("the server counts as unreachable: %v", err)
			}
		})
	}
}
