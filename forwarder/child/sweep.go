package child

import "bytes"

// RunVariable is in the environment of everything that a supervisor's tunnels start. Its value is the supervisor's
// run id: what carries it after the supervisor has ended is an orphan.
const RunVariable = "LOCALPORT_RUN"

// carries reports whether a list of strings that end in NUL holds RunVariable=run.
func carries(list []byte, run string) bool {
	want := []byte(RunVariable + "=" + run)
	for entry := range bytes.SplitSeq(list, []byte{0}) {
		if bytes.Equal(entry, want) {
			return true
		}
	}
	return false
}
