package project

import (
	"regexp"
	"sync"
)

// lazyRegexp is an expression that is compiled when it is first used. A prompt's look parses no config: compiling them all
// would be a good part of its time.
func lazyRegexp(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
