//go:build !linux

package process

import "github.com/localport-sh/localport/lockstate"

// exitObserver is empty: only the parent learns how a process ended.
type exitObserver struct{}

// ObserveExit observes a process until Close.
func ObserveExit(lockstate.Process) *ExitObserver { return &ExitObserver{} }

// Reason returns "": how the process ended is not known.
func (o *ExitObserver) Reason() string { return "" }

// Close releases the observer.
func (o *ExitObserver) Close() {}
