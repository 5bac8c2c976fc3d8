package forwarder

import (
	"fmt"
	"runtime/debug"
)

// Contain runs f. A panic in it is an error of ours that must cost one forward and not the others: broke is given it as a
// Failure, and the stack. The Failure is permanent, for what broke once is likely to break again.
func Contain(f func(), broke func(failure *Failure, stack []byte)) {
	defer func() {
		if what := recover(); what != nil {
			broke(&Failure{
				Class: Permanent, Reason: fmt.Sprintf("an error of localport's own: %v", what),
				Hint: "please report it with what the log says; localport restart goes on",
			}, debug.Stack())
		}
	}()
	f()
}
