package project

import (
	"regexp"
	"sync"
)

var regexps sync.Map // each *regexp.Regexp that was used, by its expression

// LazyRegexp returns a function that compiles the expression at its first call: every start of the program pays for package
// initialization, even at a prompt, which uses few of the expressions. (A sync.OnceValue for each would make three times as many allocations.)
func LazyRegexp(expression string) func() *regexp.Regexp {
	return func() *regexp.Regexp {
		if r, ok := regexps.Load(expression); ok {
			return r.(*regexp.Regexp)
		}
		r, _ := regexps.LoadOrStore(expression, regexp.MustCompile(expression))
		return r.(*regexp.Regexp)
	}
}
