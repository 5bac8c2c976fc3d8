package forwarder

import (
	"fmt"
	"runtime/debug"
)

// CatchPanic runs f. If it panics, onPanic gets a permanent Failure and the stack: a bug in the code of one forward must not affect the
// others.
func CatchPanic(f func(), onPanic func(failure *Failure, stack []byte)) {
	defer func() {
		if value := recover(); value != nil {
			onPanic(&Failure{
				Class: Permanent, Reason: fmt.Sprintf("internal error: %v", value),
				Hint: `run "localport restart"; please report the bug with the stack trace from "localport logs"`,
			}, debug.Stack())
		}
	}()
	f()
}
