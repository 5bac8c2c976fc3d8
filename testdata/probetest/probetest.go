// Package probetest runs health checks in tests, directly against an address.
package probetest

import (
	"context"
	"errors"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// Dialer is a probe.Dialer that connects directly to an address.
type Dialer struct {
	To   string
	From string // the local address to connect from; "": the system's choice
}

// Dial connects.
func (d Dialer) Dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{}
	if d.From != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(d.From)}
	}
	return dialer.DialContext(ctx, "tcp", d.To)
}

// Acknowledges returns true: an established connection has reached the server.
func (d Dialer) Acknowledges() bool { return true }

// Check runs a health check once and returns its error. Settings that are absent have the type's defaults. The timeout is 30 s.
func Check(t testing.TB, checkType probe.Type, addr string, settings project.Settings) error {
	t.Helper()
	return CheckThrough(t, checkType, Dialer{To: addr}, settings, 30*time.Second)
}

// CheckThrough is Check with another dialer and another timeout.
func CheckThrough(t testing.TB, checkType probe.Type, dialer probe.Dialer, settings project.Settings, timeout time.Duration) error {
	t.Helper()
	allSettings := project.Settings{}
	for _, key := range checkType.Keys {
		if key.Default != nil {
			allSettings[key.Name] = key.Default
		}
	}
	maps.Copy(allSettings, settings)
	check, err := checkType.New(allSettings)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return check(ctx, dialer)
}

// RequireFailure fails the test unless err is a *probe.Failure whose reason and hint contain all words.
func RequireFailure(t testing.TB, err error, words ...string) {
	t.Helper()
	failure, ok := errors.AsType[*probe.Failure](err)
	if !ok {
		t.Errorf("got %v; want a failure with %q", err, words)
		return
	}
	text := failure.Reason + "\n" + failure.Hint
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q does not contain %q", text, word)
		}
	}
}

// RequireHidden fails the test if an error contains a secret.
func RequireHidden(t testing.TB, err error, secret string) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the error contains the secret: %v", err)
	}
}

// StartSilentServer starts a server that accepts connections and sends nothing. It returns the address, and ends with the test.
func StartSilentServer(t testing.TB) string { return startServer(t, func(net.Conn) {}) }

// StartClosingServer starts a server that closes every connection at once. It returns the address, and ends with the test.
func StartClosingServer(t testing.TB) string { return startServer(t, func(c net.Conn) { c.Close() }) }

// StartGreetingServer starts a server that sends a text on every connection, and nothing more. It returns the address, and ends with the
// test.
func StartGreetingServer(t testing.TB, text string) string {
	return startServer(t, func(c net.Conn) { _, _ = c.Write([]byte(text)) })
}

// startServer starts a server that calls onConn for every connection, and closes all of them when the test ends.
func startServer(t testing.TB, onConn func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var conns []net.Conn
		defer func() {
			for _, conn := range conns {
				conn.Close()
			}
		}()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			onConn(conn)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}
