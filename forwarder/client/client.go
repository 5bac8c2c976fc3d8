package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/localport-sh/localport/forwarder/api"
)

// Client calls the supervisor at a socket. Every call ends with its context, whatever the supervisor does.
type Client struct {
	Socket string
}

// UnreachableError says that no supervisor answered at the socket.
type UnreachableError struct {
	Socket string
	Err    error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("connect to the supervisor at %s: %v", e.Socket, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Join has the supervisor re-read the leases and returns what a client's environment needs.
func (c Client) Join(ctx context.Context, r api.JoinRequest) (api.ProjectView, error) {
	var view api.ProjectView
	return view, c.call(ctx, "join", r, &view)
}

// Leave has the supervisor re-read the leases. It does not wait until it has.
func (c Client) Leave(ctx context.Context, r api.LeaveRequest) error {
	return c.call(ctx, "leave", r, nil)
}

// Status returns the project as it stands.
func (c Client) Status(ctx context.Context) (api.Status, error) {
	var status api.Status
	return status, c.call(ctx, "status", nil, &status)
}

// Watch passes the project to on as it stands, and again after each change, until on returns false. Changes that follow each
// other within 100 ms come as one, and a slow reader gets only the newest. The error is the context's, or an
// *UnreachableError when the supervisor has ended, or ErrTooManyWatchers: then the status can be asked for again and again.
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
// all of them at once, without waiting until they are ready.
func (c Client) Act(ctx context.Context, r api.ActionRequest) ([]string, error) {
	var affected []string
	return affected, c.call(ctx, "act", r, &affected)
}

// Wait returns when each of the services is settled: ready, or in a state that only a person can change.
func (c Client) Wait(ctx context.Context, names []string) (api.Status, error) {
	var status api.Status
	return status, c.call(ctx, "wait", names, &status)
}

// Reload makes the supervisor read its files again, and returns what came of it.
func (c Client) Reload(ctx context.Context) (api.ReloadResult, error) {
	var reload api.ReloadResult
	return reload, c.call(ctx, "reload", struct{}{}, &reload)
}

// Yield asks a supervisor whose project nobody is in to give its ports up, if it has one of these addresses.
func (c Client) Yield(ctx context.Context, addresses []string) (bool, error) {
	var response api.YieldResponse
	return response.Yielded, c.call(ctx, "yield", api.YieldRequest{Addresses: addresses}, &response)
}

// Login hands a login over and has its services tried again.
func (c Client) Login(ctx context.Context, r api.LoginRequest) error {
	return c.call(ctx, "login", r, nil)
}

// Replace has another program, or the same one restarted, take over from the supervisor. When it returns, it has: every port
// stayed open, and established connections end with the old one.
func (c Client) Replace(ctx context.Context, r api.ReplaceRequest) error {
	return c.call(ctx, "replace", r, nil)
}

// HandOver asks the supervisor to take listeners over, and returns the connection to send them on, which the caller closes. The
// error is a *RefusedError where it will not, which IsUnknownRequest tells from one of an older release that cannot.
func (c Client) HandOver(ctx context.Context, r api.HandOverRequest) (*net.UnixConn, error) {
	response, err := c.send(ctx, "handover", r)
	if err != nil {
		return nil, err
	}
	if conn, ok := response.conn.(*net.UnixConn); ok && response.status == statusSwitchingProtocols {
		return conn, nil
	}
	defer response.conn.Close()
	return nil, response.failure(c.Socket)
}

// End makes the supervisor end now. When it returns, the ports are free.
func (c Client) End(ctx context.Context) error { return c.call(ctx, "end", struct{}{}, nil) }

// call posts in (or gets, where in is nil) and decodes the answer into out, unless that is nil.
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

// exchange posts in (or gets, where in is nil) and has the body of a successful answer read.
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

// response is what came for a request.
type response struct {
	conn    net.Conn
	status  int
	body    io.Reader
	request string // its id
}

// send posts in (or gets, where in is nil). The caller closes the connection.
func (c Client) send(ctx context.Context, name string, in any) (*response, error) {
	r := request{method: "GET", path: "/v1/" + name, id: strings.ToLower(rand.Text()[:8])}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		r.method, r.body = "POST", body
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

// failure is the error that an answer stands for.
func (r *response) failure(socket string) error {
	switch r.status {
	case statusTooManyRequests:
		return api.ErrTooManyWatchers
	case statusUnavailable:
		return &UnreachableError{socket, api.ErrEnding}
	}
	return newRefusedError(r.status, r.body, r.request)
}

// RefusedError is what the supervisor answered instead of doing what it was asked.
type RefusedError struct {
	Reason  string
	Request string // the id of the request, which stands in the supervisor's log
	Status  int    // of the HTTP response
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
	return &RefusedError{f.Error, id, status}
}

// ErrNoAnswer is why a supervisor is unreachable that has not answered when the context ends.
var ErrNoAnswer = errors.New("no answer in time")

// callError is the cause of a failed call without what the net package adds.
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
