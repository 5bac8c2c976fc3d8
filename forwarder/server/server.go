// Package server is the supervisor's end of its socket. It is no part of client, because net/http, which it is made
// of, would cost every prompt.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
)

// Backend is what a supervisor does for its clients. Each method may be called at any time, concurrently.
type Backend interface {
	Join(ctx context.Context, session api.Session) (api.View, error)
	Leave(ctx context.Context, r api.LeaveRequest) error
	Status(ctx context.Context) (api.Status, error)
	// Watch passes the status as it stands to on, and again after each change, until on or ctx returns an error.
	Watch(ctx context.Context, on func(api.Status) error) error
	Act(ctx context.Context, r api.ActRequest) ([]string, error)
	Wait(ctx context.Context, names []string) error
	Reload(ctx context.Context) (api.Reload, error)
	Yield(ctx context.Context, addresses []string) (bool, error)
	Login(ctx context.Context, r api.LoginRequest) error
	Replace(ctx context.Context, r api.Replacement) error
	End(ctx context.Context) error
	// TakeOver returns what takes another supervisor's listeners over, on the connection, which it closes.
	TakeOver(h api.HandOver) (func(*net.UnixConn), error)
}

// Listen binds the control socket, 0600. Only the winner of the election may call it: what lay at the path before
// is taken for a dead supervisor's and unlinked.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return ln, os.Chmod(path, 0o600)
}

// Serve answers clients on ln until ctx ends or ln is closed, then lets those under way finish for a moment. It closes ln.
func Serve(ctx context.Context, ln net.Listener, backend Backend, log *slog.Logger) error {
	server := &http.Server{
		Handler:           logged(handler(backend), log),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	var err error
	select {
	case err = <-ended: // whoever closed ln may be a client's own request, which wants its answer
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close()
	}
	if err == nil {
		err = <-ended
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// logged logs each request: at debug, for a status that is watched would fill the log, but what was refused is told in
// any case, under the id that the command shows.
func logged(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		seen := &outcome{ResponseWriter: w}
		next.ServeHTTP(seen, r)
		level, trouble := slog.LevelDebug, []any{}
		if seen.refusal != "" {
			level, trouble = slog.LevelError, []any{"error", seen.refusal}
		}
		log.Log(r.Context(), level, "request", append([]any{
			"request", r.Header.Get(api.RequestHeader), "path", r.URL.Path, "took", time.Since(began),
		}, trouble...)...)
	})
}

// outcome remembers why a request was refused.
type outcome struct {
	http.ResponseWriter
	refusal string
}

// Unwrap gives http.ResponseController the writer that can flush.
func (o *outcome) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func handler(b Backend) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/join", answer(b.Join))
	mux.Handle("POST /v1/leave", answer(func(ctx context.Context, r api.LeaveRequest) (struct{}, error) {
		return struct{}{}, b.Leave(ctx, r)
	}))
	mux.Handle("GET /v1/watch", watch(b, make(chan struct{}, api.MaxWatchers)))
	mux.Handle("GET /v1/status", answer(func(ctx context.Context, _ struct{}) (api.Status, error) {
		return b.Status(ctx)
	}))
	mux.Handle("POST /v1/act", answer(func(ctx context.Context, r api.ActRequest) ([]string, error) {
		return b.Act(ctx, r)
	}))
	mux.Handle("POST /v1/wait", answer(func(ctx context.Context, names []string) (api.Status, error) {
		if err := b.Wait(ctx, names); err != nil {
			return api.Status{}, err
		}
		return b.Status(ctx)
	}))
	mux.Handle("POST /v1/reload", answer(func(ctx context.Context, _ struct{}) (api.Reload, error) {
		return b.Reload(ctx)
	}))
	mux.Handle("POST /v1/yield", answer(func(ctx context.Context, r api.YieldRequest) (api.YieldResponse, error) {
		yielded, err := b.Yield(ctx, r.Addresses)
		return api.YieldResponse{Yielded: yielded}, err
	}))
	mux.Handle("POST /v1/replace", answer(func(ctx context.Context, r api.Replacement) (struct{}, error) {
		return struct{}{}, b.Replace(ctx, r)
	}))
	mux.Handle("POST /v1/login", answer(func(ctx context.Context, r api.LoginRequest) (struct{}, error) {
		return struct{}{}, b.Login(ctx, r)
	}))
	mux.Handle("POST /v1/handover", handOver(b))
	mux.Handle("POST /v1/end", answer(func(ctx context.Context, _ struct{}) (struct{}, error) {
		return struct{}{}, b.End(ctx)
	}))
	return mux
}

// answer turns a function into a handler: its argument is the request's body, its results the response's.
func answer[Q, A any](fn func(context.Context, Q) (A, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if r.Method == http.MethodPost {
			const limit = 1 << 20 // no request of ours comes near it
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit)).Decode(&q); err != nil {
				reply(w, http.StatusBadRequest, api.Failure{Error: "read the request: " + err.Error()})
				return
			}
		}
		a, err := fn(r.Context(), q)
		if errors.Is(err, api.ErrEnding) {
			reply(w, http.StatusServiceUnavailable, api.Failure{Error: err.Error()})
			return
		}
		if err != nil {
			reply(w, http.StatusConflict, api.Failure{Error: err.Error()})
			return
		}
		reply(w, http.StatusOK, a)
	})
}

// watch streams the status as JSON values, one a line. watchers holds one for each stream; its capacity is the limit.
func watch(b Backend, watchers chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case watchers <- struct{}{}:
			defer func() { <-watchers }()
		default:
			reply(w, http.StatusTooManyRequests, api.Failure{Error: api.ErrTooManyWatchers.Error()})
			return
		}
		out, encoder, begun := http.NewResponseController(w), json.NewEncoder(w), false
		err := b.Watch(r.Context(), func(status api.Status) error {
			if !begun {
				w.Header().Set("Content-Type", "application/x-ndjson")
				begun = true
			}
			if err := encoder.Encode(status); err != nil {
				return err
			}
			return out.Flush()
		})
		if errors.Is(err, api.ErrEnding) && !begun {
			reply(w, http.StatusServiceUnavailable, api.Failure{Error: err.Error()})
		}
	})
}

// handOver leaves the connection to the backend.
func handOver(b Backend) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const limit = 1 << 10
		var h api.HandOver
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit)) // to its end: what follows are descriptors
		if err == nil {
			err = json.Unmarshal(data, &h)
		}
		if err != nil {
			reply(w, http.StatusBadRequest, api.Failure{Error: "read the request: " + err.Error()})
			return
		}
		take, err := b.TakeOver(h)
		switch {
		case errors.Is(err, api.ErrEnding):
			reply(w, http.StatusServiceUnavailable, api.Failure{Error: err.Error()})
			return
		case err != nil:
			reply(w, http.StatusConflict, api.Failure{Error: err.Error()})
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			reply(w, http.StatusInternalServerError, api.Failure{Error: err.Error()})
			return
		}
		unixConn, ok := conn.(*net.UnixConn)
		if !ok {
			conn.Close()
			return
		}
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\n\r\n", http.StatusSwitchingProtocols,
			http.StatusText(http.StatusSwitchingProtocols)); err != nil {
			conn.Close()
			return
		}
		take(unixConn)
	})
}

func reply(w http.ResponseWriter, code int, body any) {
	if f, failed := body.(api.Failure); failed && code == http.StatusConflict {
		if o, ok := w.(*outcome); ok {
			o.refusal = f.Error
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A client that has gone away is no error of ours, and there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(body)
}
