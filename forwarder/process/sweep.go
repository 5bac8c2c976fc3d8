package process

import (
	"bytes"

	"github.com/localport-sh/localport/forwarder"
)

// carries reports whether a list of strings that end in NUL holds forwarder.RunVariable=run.
func carries(list []byte, run string) bool {
	want := []byte(forwarder.RunVariable + "=" + run)
	for entry := range bytes.SplitSeq(list, []byte{0}) {
		if bytes.Equal(entry, want) {
			return true
		}
	}
	return false
}
