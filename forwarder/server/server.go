// Package server serves the control API (forwarder/api) over HTTP on a unix socket. It is separate from client because every prompt would
// pay for net/http.
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
	"sync"
	"time"
	"unicode/utf8"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/printable"
	"github.com/localport-sh/localport/forwarder/promptapi"
)

// Backend implements the control API. Its methods must be safe for concurrent use.
type Backend interface {
	// Join closes session.PIDFD.
	Join(ctx context.Context, session api.JoinRequest) (api.ProjectView, error)
	Leave(ctx context.Context, r api.LeaveRequest) (api.LeaveResponse, error)
	Status(ctx context.Context) (api.Status, error)
	// Watch calls on with the current status and after each change, until on returns an error or ctx ends.
	Watch(ctx context.Context, on func(api.Status) error) error
	ApplyAction(ctx context.Context, r api.ActionRequest) ([]string, error)
	Wait(ctx context.Context, names []string) error
	Reload(ctx context.Context) (api.ReloadResult, error)
	CompareEnvironment(ctx context.Context, env api.Environment) (api.CompareEnvironmentResponse, error)
	Yield(ctx context.Context, addresses []string) (bool, error)
	Login(ctx context.Context, r api.LoginRequest) error
	Replace(ctx context.Context, r api.ReplaceRequest) error
	End(ctx context.Context) error
	// AcceptPrompt returns how long the evaluation of a prompt may take, and a function that evaluates it, which the caller calls once; nil if the
	// client has to evaluate the prompt itself. The function returns false if the client has to do that nevertheless.
	AcceptPrompt(r promptapi.Request) (limit time.Duration, evaluate func(context.Context) (promptapi.Response, bool))
	// TakeOver returns a function that receives another supervisor's listeners on a connection, and closes the connection.
	TakeOver(h api.HandOverRequest) (func(context.Context, *net.UnixConn), error)
	// Borrow returns a function that shares a service with another project on a connection, and closes the connection.
	Borrow(r api.BorrowRequest) (func(context.Context, *net.UnixConn), error)
}

// Listen binds the control socket with mode 0600. It removes what is at the path, so only the elected supervisor may call it.
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

// Serve serves clients on ln until ctx ends or ln is closed, then waits up to a second for running requests, and until the backend has closed
// the connections that TakeOver and Borrow have received. It closes ln.
func Serve(ctx context.Context, ln net.Listener, backend Backend, log *slog.Logger) error {
	var handOvers sync.WaitGroup
	defer handOvers.Wait()
	server := &http.Server{
		Handler:           logRequests(newHandler(backend, &handOvers), log),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	serveErrCh := make(chan error, 1)
	go func() { serveErrCh <- server.Serve(rightsListener{ln}) }()
	var err error
	select {
	case err = <-serveErrCh: // a request may have closed ln and still need its response
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
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// logRequests logs each request at debug level, because frequent ones would fill the log. A refused request is logged at error level,
// under the id that the command shows.
func logRequests(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		recorder := &refusalRecorder{ResponseWriter: w}
		next.ServeHTTP(recorder, r)
		level, errAttr := slog.LevelDebug, []any{}
		if recorder.refusal != "" {
			level, errAttr = slog.LevelError, []any{"error", recorder.refusal}
		}
		log.Log(r.Context(), level, "request", append([]any{
			"request", r.Header.Get(api.RequestHeader), "path", r.URL.Path, "took", time.Since(start),
		}, errAttr...)...)
	})
}

// refusalRecorder records why a request was refused.
type refusalRecorder struct {
	http.ResponseWriter
	refusal string
}

// Unwrap returns the wrapped writer to http.ResponseController, which flushes it.
func (r *refusalRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// newHandler adds the hijacked connections to handOvers: http.Server does not wait for them.
func newHandler(b Backend, handOvers *sync.WaitGroup) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/join", handleJSON(b.Join))
	mux.Handle("POST /v1/leave", handleJSON(b.Leave))
	mux.Handle("GET /v1/watch", handleWatch(b, make(chan struct{}, api.MaxWatchers)))
	mux.Handle("GET /v1/status", handleJSON(func(ctx context.Context, _ struct{}) (api.Status, error) {
		return b.Status(ctx)
	}))
	mux.Handle("POST /v1/act", refuseForeign(handleJSON(b.ApplyAction)))
	mux.Handle("POST /v1/wait", handleJSON(func(ctx context.Context, names []string) (api.Status, error) {
		if err := b.Wait(ctx, names); err != nil {
			return api.Status{}, err
		}
		return b.Status(ctx)
	}))
	mux.Handle("POST /v1/reload", handleJSON(func(ctx context.Context, _ struct{}) (api.ReloadResult, error) {
		return b.Reload(ctx)
	}))
	mux.Handle("POST /v1/environment", handleJSON(b.CompareEnvironment))
	mux.Handle("POST /v1/yield", refuseForeign(handleJSON(func(ctx context.Context, r api.YieldRequest) (api.YieldResponse, error) {
		yielded, err := b.Yield(ctx, r.Addresses)
		return api.YieldResponse{Yielded: yielded}, err
	})))
	mux.Handle("POST /v1/replace", refuseForeign(handleJSON(withoutResult(b.Replace))))
	mux.Handle("POST /v1/login", refuseForeign(handleJSON(withoutResult(b.Login))))
	mux.Handle("POST /v1/handover", handleUpgrade(b.TakeOver, http.StatusConflict, handOvers))
	// Another network namespace has a loopback of its own. A refusal is no conflict, which would be logged: it is asked for each second.
	mux.Handle("POST /v1/borrow", refuseForeignIn(handleUpgrade(b.Borrow, http.StatusPreconditionFailed, handOvers), networkNamespace))
	mux.Handle("POST "+promptapi.Path, handlePrompt(b))
	mux.Handle("POST /v1/end", refuseForeign(handleJSON(func(ctx context.Context, _ struct{}) (struct{}, error) {
		return struct{}{}, b.End(ctx)
	})))
	return mux
}

// maxRequest is the length of the longest body of a request, in bytes; an environment is the longest part.
const maxRequest = 8 << 20

// handlePrompt evaluates a prompt as package promptapi describes it, for clients in the same namespaces.
func handlePrompt(b Backend) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(namespacesOfClient(r.Context(), networkNamespace)) > 0 { // or the client has ended
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			http.Error(w, "read the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		request, ok := promptapi.ParseRequest(body)
		if !ok {
			http.Error(w, "the request is incomplete", http.StatusBadRequest)
			return
		}
		limit, evaluate := b.AcceptPrompt(request)
		if evaluate == nil {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		_, err = w.Write(promptapi.EncodeLimit(int(limit.Milliseconds())))
		if err == nil {
			err = http.NewResponseController(w).Flush()
		}
		response, ok := evaluate(r.Context()) // also after an error: the function frees what AcceptPrompt has taken
		if err == nil && ok {
			_, _ = w.Write(response.Encode()) // an error means that the client has disconnected
		}
	})
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// environmentSender is a request that may have variables of the client's environment.
type environmentSender interface{ DropEnvironment() }

// namespacesOfClient returns the kinds of the supervisor's namespaces that the client of a request is not in: only in the same ones do its paths
// mean the same here.
func namespacesOfClient(ctx context.Context, also ...namespaceKind) (foreign []string) {
	if conn, ok := ctx.Value(connKey{}).(*rightsConn); ok {
		return foreignNamespaces(conn.UnixConn, also...)
	}
	return nil
}

// fileReceiver is a request with which a file may be sent.
type fileReceiver interface{ SetFile(file *os.File) }

// receivedFile returns the file that came with a request; nil if there is none.
func receivedFile(ctx context.Context) *os.File {
	if conn, ok := ctx.Value(connKey{}).(*rightsConn); ok {
		return conn.takeFile()
	}
	return nil
}

// refuseForeign refuses the requests of clients in other user, mount or PID namespaces: they may read, and hold leases.
func refuseForeign(next http.Handler) http.Handler { return refuseForeignIn(next) }

// refuseForeignIn is refuseForeign, also for the clients in other namespaces of the kinds of also.
func refuseForeignIn(next http.Handler, also ...namespaceKind) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if kinds := namespacesOfClient(r.Context(), also...); len(kinds) > 0 {
			err := &api.ForeignError{Kinds: kinds}
			writeJSON(w, http.StatusConflict, api.ErrorResponse{Error: err.Error(), IsForeign: true, Namespaces: kinds})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withoutResult gives a function for handleJSON an empty result.
func withoutResult[Q any](fn func(context.Context, Q) error) func(context.Context, Q) (struct{}, error) {
	return func(ctx context.Context, request Q) (struct{}, error) { return struct{}{}, fn(ctx, request) }
}

// handleJSON makes a handler of a function: its argument is the request's JSON body, its result the response's.
func handleJSON[Q, A any](fn func(context.Context, Q) (A, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request Q
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&request); err != nil {
				writeJSON(w, http.StatusBadRequest, api.ErrorResponse{Error: "read the request: " + err.Error()})
				return
			}
		}
		if sender, ok := any(&request).(environmentSender); ok && len(namespacesOfClient(r.Context())) > 0 {
			sender.DropEnvironment()
		}
		if receiver, ok := any(&request).(fileReceiver); ok {
			receiver.SetFile(receivedFile(r.Context()))
		}
		response, err := fn(r.Context(), request)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, response)
	})
}

// watchWriteTimeout is how long a client of /v1/watch may take to read a status. A stopped one would occupy one of the MaxWatchers streams indefinitely.
const watchWriteTimeout = 10 * time.Second

// handleWatch streams the status as JSON lines. watchers is a semaphore: its capacity limits the streams.
func handleWatch(b Backend, watchers chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case watchers <- struct{}{}:
			defer func() { <-watchers }()
		default:
			writeJSON(w, http.StatusTooManyRequests, api.ErrorResponse{Error: api.ErrTooManyWatchers.Error()})
			return
		}
		controller, encoder, hasWritten := http.NewResponseController(w), json.NewEncoder(w), false
		err := b.Watch(r.Context(), func(status api.Status) error {
			if !hasWritten {
				w.Header().Set("Content-Type", "application/x-ndjson")
				hasWritten = true
			}
			err := controller.SetWriteDeadline(time.Now().Add(watchWriteTimeout))
			if err == nil {
				err = encoder.Encode(status)
			}
			if err == nil {
				err = controller.Flush()
			}
			return err
		})
		if errors.Is(err, api.ErrEnding) && !hasWritten {
			writeError(w, err)
		}
	})
}

// handleUpgrade passes the hijacked connection to the function that accept returns for the request. A request that accept refuses gets the status
// refusal; a conflict is logged.
func handleUpgrade[Q any](accept func(Q) (func(context.Context, *net.UnixConn), error), refusal int, handOvers *sync.WaitGroup) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handOvers.Add(1)
		defer handOvers.Done()
		const limit = 64 << 10 // bytes
		var request Q
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit)) // to the end of the body: descriptors follow
		if err == nil {
			err = json.Unmarshal(data, &request)
		}
		if err != nil {
			writeJSON(w, http.StatusBadRequest, api.ErrorResponse{Error: "read the request: " + err.Error()})
			return
		}
		receive, err := accept(request)
		if err != nil {
			writeErrorAs(w, refusal, err)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			writeJSON(w, http.StatusInternalServerError, api.ErrorResponse{Error: err.Error()})
			return
		}
		received, ok := conn.(*rightsConn)
		if ok {
			_, err = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\n\r\n", http.StatusSwitchingProtocols,
				http.StatusText(http.StatusSwitchingProtocols))
		}
		if !ok || err != nil {
			conn.Close()
			return
		}
		receive(r.Context(), received.UnixConn)
	})
}

// writeError responds to a request that the backend refused: with 503 if the supervisor is ending, else with 409.
func writeError(w http.ResponseWriter, err error) { writeErrorAs(w, http.StatusConflict, err) }

// writeErrorAs is writeError with another status than 409.
func writeErrorAs(w http.ResponseWriter, status int, err error) {
	if errors.Is(err, api.ErrEnding) {
		status = http.StatusServiceUnavailable
	}
	response := api.ErrorResponse{Error: err.Error()}
	if !utf8.ValidString(response.Error) { // a path: JSON would replace the bytes
		response.Error = printable.EscapeText(response.Error)
	}
	response.LoginLoss, _ = errors.AsType[*api.LoginLossError](err)
	response.NotShared, _ = errors.AsType[*api.NotSharedError](err)
	writeJSON(w, status, response)
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	if refusal, failed := body.(api.ErrorResponse); failed && code == http.StatusConflict {
		if recorder, ok := w.(*refusalRecorder); ok {
			recorder.refusal = refusal.Error
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error means that the client has disconnected.
	_ = json.NewEncoder(w).Encode(body)
}
