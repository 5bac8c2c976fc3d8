package project

import (
	"regexp"
	"sync"
)

// LazyRegexp returns a function that compiles the expression at its first call: every start of the program pays for package
// initialization, even at a prompt, which uses few of the expressions.
func LazyRegexp(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
