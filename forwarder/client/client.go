package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/localport-sh/localport/forwarder/api"
)

// Client calls the supervisor at a socket. Every call ends with its context, whatever the supervisor does. Its error is the context's, a
// *RefusedError, or an *UnreachableError if no supervisor answered or the one that did is ending.
type Client struct {
	Socket string
}

// UnreachableError is the error of a call that no supervisor answered. Err is ErrNoAnswer if one may still be there.
type UnreachableError struct {
	Socket string
	Err    error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("connect to the supervisor at %s: %v", e.Socket, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Join has the supervisor read the leases again, and returns what a client needs to set its environment.
func (c Client) Join(ctx context.Context, r api.JoinRequest) (api.ProjectView, error) {
	var view api.ProjectView
	return view, c.call(ctx, "join", r, &view)
}

// Leave has the supervisor release the lease that r names, if any, and read the leases again. It returns before that is done. The
// response of an older supervisor is empty.
func (c Client) Leave(ctx context.Context, r api.LeaveRequest) (api.LeaveResponse, error) {
	var response api.LeaveResponse
	return response, c.call(ctx, "leave", r, &response)
}

// Status returns the current status of the project.
func (c Client) Status(ctx context.Context) (api.Status, error) {
	var status api.Status
	return status, c.call(ctx, "status", nil, &status)
}

// Watch calls on with the current status, and again after each change, until on returns false. Changes within 100 ms are reported as
// one, and a slow reader gets only the newest status. The error is the context's, an *UnreachableError when the supervisor has ended, or
// api.ErrTooManyWatchers: then the caller can poll Status.
func (c Client) Watch(ctx context.Context, on func(api.Status) bool) error {
	return c.exchange(ctx, "watch", nil, func(body io.Reader) error {
		for decoder := json.NewDecoder(body); ; {
			var status api.Status
			if err := decoder.Decode(&status); err != nil {
				return &UnreachableError{c.Socket, callError(ctx, err)}
			}
			if !on(status) {
				return nil
			}
		}
	})
}

// Act starts, stops or restarts services, and those that this affects by their dependencies. It returns the names of
// all of them without waiting until they are ready.
func (c Client) Act(ctx context.Context, r api.ActionRequest) ([]string, error) {
	var affected []string
	return affected, c.call(ctx, "act", r, &affected)
}

// Reload has the supervisor read the project's files again and apply them. After an error it keeps the previous config.
func (c Client) Reload(ctx context.Context) (api.ReloadResult, error) {
	var reload api.ReloadResult
	return reload, c.call(ctx, "reload", struct{}{}, &reload)
}

// CompareEnvironment returns the names of the variables with which services would connect elsewhere, or as somebody else, than with those of the
// supervisor.
func (c Client) CompareEnvironment(ctx context.Context, env api.Environment) ([]string, error) {
	var response api.CompareEnvironmentResponse
	err := c.call(ctx, "environment", env, &response)
	return response.Differing, err
}

// Yield asks a supervisor to end if its project has no leases and listens on one of these addresses. It reports whether it did.
func (c Client) Yield(ctx context.Context, addresses []string) (bool, error) {
	var response api.YieldResponse
	return response.Yielded, c.call(ctx, "yield", api.YieldRequest{Addresses: addresses}, &response)
}

// Login passes on the credential of a login, and has its services reconnect.
func (c Client) Login(ctx context.Context, r api.LoginRequest) error {
	return c.call(ctx, "login", r, nil)
}

// Replace has a new supervisor, started from another program or from the same one, take over. When it returns nil, the new one is ready:
// every port stayed open, and established connections stay open in the previous supervisor.
func (c Client) Replace(ctx context.Context, r api.ReplaceRequest) error {
	return c.call(ctx, "replace", r, nil)
}

// HandOver asks the supervisor to take over listeners, and returns the connection to send them on, which the caller closes. The error is a
// *RefusedError if it declines; IsUnknownRequest reports whether that is because it is of an older release.
func (c Client) HandOver(ctx context.Context, r api.HandOverRequest) (*net.UnixConn, error) {
	return c.upgrade(ctx, "handover", r)
}

// upgrade sends a request after which the connection has another protocol.
func (c Client) upgrade(ctx context.Context, name string, r any) (*net.UnixConn, error) {
	response, err := c.send(ctx, name, r)
	if err != nil {
		return nil, err
	}
	if conn, ok := response.conn.(*net.UnixConn); ok && response.status == statusSwitchingProtocols {
		return conn, nil
	}
	defer response.conn.Close()
	return nil, response.failure(c.Socket)
}

// Borrow asks the supervisor to share a service, and returns the connection on which it sends an api.BorrowUpdate per line, which the caller
// closes. The error is an *api.NotSharedError if the service leads to another target, or a *RefusedError; IsUnknownRequest reports whether the
// supervisor is of an older release.
func (c Client) Borrow(ctx context.Context, r api.BorrowRequest) (*net.UnixConn, error) {
	conn, err := c.upgrade(ctx, "borrow", r)
	if err != nil {
		return nil, err
	}
	// It sends nothing before: the updates would be read with the response, and lost.
	if _, err := conn.Write([]byte("\n")); err != nil {
		conn.Close()
		return nil, &UnreachableError{c.Socket, callError(ctx, err)}
	}
	return conn, nil
}

// End has the supervisor end, whatever the leases. When it returns nil, the ports are free.
func (c Client) End(ctx context.Context) error { return c.call(ctx, "end", struct{}{}, nil) }

// call sends a request with the body in (a GET request if in is nil) and decodes the response into out, unless out is nil.
func (c Client) call(ctx context.Context, name string, in, out any) error {
	return c.exchange(ctx, name, in, func(body io.Reader) error {
		if out == nil {
			return nil
		}
		if err := json.NewDecoder(body).Decode(out); err != nil {
			return &UnreachableError{c.Socket, callError(ctx, err)}
		}
		return nil
	})
}

// exchange sends a request with the body in (a GET request if in is nil) and calls read with the body of a successful response.
func (c Client) exchange(ctx context.Context, name string, in any, read func(io.Reader) error) error {
	response, err := c.send(ctx, name, in)
	if err != nil {
		return err
	}
	defer response.conn.Close()
	defer context.AfterFunc(ctx, func() { response.conn.Close() })()
	if response.status != statusOK {
		return response.failure(c.Socket)
	}
	return read(response.body)
}

// response is the response to a request. Its body is read from conn.
type response struct {
	conn    net.Conn
	status  int
	body    io.Reader
	request string // the id of the request
}

// send sends a request with the body in (a GET request if in is nil). The caller closes the connection of the response.
func (c Client) send(ctx context.Context, name string, in any) (*response, error) {
	r := request{method: "GET", path: "/v1/" + name, id: strings.ToLower(rand.Text()[:8])}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		r.method, r.body = "POST", body
	}
	if sender, ok := in.(interface{ File() *os.File }); ok {
		r.file = sender.File()
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return nil, &UnreachableError{c.Socket, callError(ctx, err)}
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	status, body, err := r.exchange(conn)
	if err != nil {
		conn.Close()
		return nil, &UnreachableError{c.Socket, callError(ctx, err)}
	}
	return &response{conn, status, body, r.id}, nil
}

// failure is the error for a response whose status is not 200.
func (r *response) failure(socket string) error {
	switch r.status {
	case statusTooManyRequests:
		return api.ErrTooManyWatchers
	case statusUnavailable:
		return &UnreachableError{socket, api.ErrEnding}
	}
	return newRefusedError(r.status, r.body, r.request)
}

// RefusedError is the supervisor's response to a request that it does not carry out.
type RefusedError struct {
	Reason  string
	Request string // the id of the request, as in the supervisor's log
	Status  int    // of the HTTP response
	// LoginLoss is set if that is the reason.
	LoginLoss *api.LoginLossError
}

func (e *RefusedError) Error() string { return e.Reason }

// IsUnknownRequest reports whether an error means that the supervisor, of an older release, does not know the request.
func IsUnknownRequest(err error) bool {
	refused, ok := errors.AsType[*RefusedError](err)
	return ok && refused.Status == statusNotFound
}

func newRefusedError(status int, body io.Reader, id string) error {
	var f api.ErrorResponse
	if err := json.NewDecoder(body).Decode(&f); err != nil || f.Error == "" {
		f.Error = fmt.Sprintf("the supervisor answered with HTTP status %d", status)
	}
	if f.IsForeign {
		return &api.ForeignError{Kinds: f.Namespaces}
	}
	if f.NotShared != nil {
		return f.NotShared
	}
	return &RefusedError{f.Error, id, status, f.LoginLoss}
}

// ErrNoAnswer is the cause of an UnreachableError if the supervisor had not answered when the context ended.
var ErrNoAnswer = errors.New("no answer in time")

// callError is the cause of a failed call, without the addresses that the net package adds.
func callError(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil:
		return ErrNoAnswer
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
