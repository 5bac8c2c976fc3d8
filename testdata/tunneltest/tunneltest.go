// Package tunneltest has what the tests of several technologies do with a tunnel.
package tunneltest

import (
	"errors"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// WaitFailure waits until a tunnel ends, for up to 15 s, and returns its failure. It fails the test if the tunnel ended with another
// error.
func WaitFailure(t *testing.T, tunnel forwarder.Tunnel) *forwarder.Failure {
	t.Helper()
	select {
	case <-tunnel.Done():
	case <-time.After(15 * time.Second):
		t.Fatal("the tunnel did not end within 15 s")
	}
	failure, ok := errors.AsType[*forwarder.Failure](tunnel.Err())
	if !ok {
		t.Fatalf("ended with %v, want a failure", tunnel.Err())
	}
	return failure
}
