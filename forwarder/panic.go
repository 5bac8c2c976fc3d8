package forwarder

import (
	"fmt"
	"runtime/debug"
)

// CatchPanic runs f. A panic in it is an error of ours that must cost one forward and not the others: broke is given it as a
// Failure, and the stack. The Failure is permanent, for what broke once is likely to break again.
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
