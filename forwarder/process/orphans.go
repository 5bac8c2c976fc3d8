package process

import (
	"bytes"

	"github.com/localport-sh/localport/forwarder"
)

// KillOrphans kills what the tunnels of a supervisor's run left behind: every process of this user, except the caller, that was started
// with forwarder.RunVariable=runID in its environment, and whatever those start meanwhile. It returns how many it killed. It spares the
// ssh masters that the user's own ssh_config keeps alive (ControlPersist): other sessions of the user may depend on them. macOS hides the
// environment of the programs that come with the system, its own ssh among them, so those are not found. On Linux the processes that
// RecordDetached has recorded are killed too.
func KillOrphans(runID string) (killed int, err error) {
	recorded := killRecorded(runID)
	killed, err = killMarked(forwarder.RunVariable, runID)
	return recorded + killed, err
}

// KillTunnel kills what one tunnel left behind, as KillOrphans does: the processes with forwarder.TunnelVariable=id.
func KillTunnel(id string) (killed int, err error) {
	return killMarked(forwarder.TunnelVariable, id)
}

// hasEntry reports whether a list of NUL-terminated strings contains name=value.
func hasEntry(strs []byte, name, value string) bool {
	want := []byte(name + "=" + value)
	for entry := range bytes.SplitSeq(strs, []byte{0}) {
		if bytes.Equal(entry, want) {
			return true
		}
	}
	return false
}
