package process

import (
	"bytes"

	"github.com/localport-sh/localport/forwarder"
)

// hasRunID reports whether a list of NUL-terminated strings contains forwarder.RunVariable=runID.
func hasRunID(strs []byte, runID string) bool {
	want := []byte(forwarder.RunVariable + "=" + runID)
	for entry := range bytes.SplitSeq(strs, []byte{0}) {
		if bytes.Equal(entry, want) {
			return true
		}
	}
	return false
}
