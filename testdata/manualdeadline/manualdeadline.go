// Package manualdeadline provides a context whose deadline a test lets pass.
package manualdeadline

import "context"

// Context is a context whose deadline passes when DoneCh is closed. Its values are those of Context.
type Context struct {
	context.Context
	DoneCh chan struct{}
}

// New returns a context whose deadline has not passed.
func New(parent context.Context) Context { return Context{parent, make(chan struct{})} }

// Done returns DoneCh.
func (c Context) Done() <-chan struct{} { return c.DoneCh }

// Err returns context.DeadlineExceeded after DoneCh was closed, and nil before.
func (c Context) Err() error {
	select {
	case <-c.DoneCh:
		return context.DeadlineExceeded
	default:
		return nil
	}
}
