package project

import (
	"regexp"
	"sync"
)

// lazyRegexp returns an expression that is compiled at its first use. Most prompts parse no config: compiling all of them
// would be a good part of its time.
func lazyRegexp(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
