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
				Class: Permanent, Reason: fmt.Sprintf("an error of localport's own: %v", value),
				Hint: "please report it with what the log says; localport restart goes on",
			}, debug.Stack())
		}
	}()
	f()
}
