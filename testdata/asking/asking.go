// Package asking runs health checks in tests, straight to an address.
package asking

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

// Path leads straight to an address, by way of From if that is not empty.
type Path struct {
	To   string
	From string // a local address
}

// Dial connects.
func (p Path) Dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{}
	if p.From != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(p.From)}
	}
	return dialer.DialContext(ctx, "tcp", p.To)
}

// Acknowledges is true: a connection that was made has arrived.
func (p Path) Acknowledges() bool { return true }

// Ask makes a check of a kind and asks once, with the kind's defaults under the settings, for half a minute at most.
func Ask(t testing.TB, kind probe.Type, addr string, given project.Settings) error {
	t.Helper()
	return AskBy(t, kind, Path{To: addr}, given, 30*time.Second)
}

// AskBy is Ask by any path, with a limit.
func AskBy(t testing.TB, kind probe.Type, path probe.Dialer, given project.Settings, limit time.Duration) error {
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
	return check(ctx, path)
}

// Failed fails the test unless err is a bad answer that holds the words, in its reason or its hint.
func Failed(t testing.TB, err error, words ...string) {
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

// Hides fails the test if an error tells a secret.
func Hides(t testing.TB, err error, secret string) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the secret is told: %v", err)
	}
}

// Silent is the address of a server that accepts and says nothing, until the test ends.
func Silent(t testing.TB) string { return serve(t, func(net.Conn) {}) }

// Rude is the address of a server that closes every connection at once.
func Rude(t testing.TB) string { return serve(t, func(c net.Conn) { c.Close() }) }

// Says is the address of a server that says a text to whoever comes, and nothing more.
func Says(t testing.TB, text string) string {
	return serve(t, func(c net.Conn) { _, _ = c.Write([]byte(text)) })
}

func serve(t testing.TB, greet func(net.Conn)) string {
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
