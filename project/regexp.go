package project

import (
	"regexp"
	"sync"
)

// LazyRegexp returns an expression that is compiled at its first use: every start of the program pays for package initialization,
// also at a prompt, which uses few of them.
func LazyRegexp(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
