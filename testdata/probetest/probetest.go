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

// Dialer is a probe.Dialer that connects directly to an address, from a local address if From is not empty.
type Dialer struct {
	To   string
	From string // a local address
}

// Dial connects.
func (d Dialer) Dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{}
	if d.From != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(d.From)}
	}
	return dialer.DialContext(ctx, "tcp", d.To)
}

// Acknowledges is true: an established connection has reached the server.
func (d Dialer) Acknowledges() bool { return true }

// Check runs a health check of a type once, with the type's defaults for absent settings and a limit of 30 s.
func Check(t testing.TB, kind probe.Type, addr string, given project.Settings) error {
	t.Helper()
	return CheckThrough(t, kind, Dialer{To: addr}, given, 30*time.Second)
}

// CheckThrough is Check through any dialer, with a limit.
func CheckThrough(t testing.TB, kind probe.Type, through probe.Dialer, given project.Settings, limit time.Duration) error {
	t.Helper()
	settings := project.Settings{}
	for _, key := range kind.Keys {
		if key.Default != nil {
			settings[key.Name] = key.Default
		}
	}
	maps.Copy(settings, given)
	check, err := kind.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return check(ctx, through)
}

// RequireFailure fails the test unless err is a *probe.Failure with all the words in its reason or hint.
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
			t.Errorf("%q does not say %q", text, word)
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

// StartSilentServer starts a server that accepts and sends nothing, until the test ends. It returns the address.
func StartSilentServer(t testing.TB) string { return startServer(t, func(net.Conn) {}) }

// StartClosingServer starts a server that closes every connection at once. It returns the address.
func StartClosingServer(t testing.TB) string { return startServer(t, func(c net.Conn) { c.Close() }) }

// StartGreetingServer starts a server that sends a text on every connection, and nothing more. It returns the address.
func StartGreetingServer(t testing.TB, text string) string {
	return startServer(t, func(c net.Conn) { _, _ = c.Write([]byte(text)) })
}

func startServer(t testing.TB, greet func(net.Conn)) string {
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
			greet(conn)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}
