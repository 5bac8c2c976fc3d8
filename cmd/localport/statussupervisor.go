package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
)

// describeDeathOnce says how the previous supervisor died; empty if it did not, or if status has said that before.
func (p commandProject) describeDeathOnce(running *api.SupervisorStatus) string {
	if running == nil || running.PredecessorDeath == nil {
		return ""
	}
	death := running.PredecessorDeath
	path := filepath.Join(p.Dir.Path, "reported-death")
	if reported, _ := os.ReadFile(path); string(reported) == death.Run {
		return ""
	}
	when := ""
	if death.At != nil {
		when = " " + formatAge(*death.At) + " ago"
	}
	_ = os.WriteFile(path, []byte(death.Run), 0o600) // else it is printed again
	return fmt.Sprintf("the previous supervisor (pid %d) ended%s: %s", death.PID, when, output.JoinLines(death.Reason))
}

// describeSkew says how a supervisor's program differs from this one: in its version or, if that does not name one build, in the time at
// which it was built. Empty if nothing is known to differ.
func describeSkew(running api.SupervisorStatus, ownVersion string, ownBuilt time.Time) string {
	switch {
	case client.Supersedes(running.Version, ownVersion):
		return fmt.Sprintf("the supervisor is version %s, which is newer than this one, %s", running.Version, ownVersion)
	case running.Version != ownVersion:
		return fmt.Sprintf("the supervisor is version %s, this command is %s; %s", running.Version, ownVersion, replaceHint(running))
	case client.IsRelease(ownVersion) || running.Built == nil || ownBuilt.IsZero() || running.Built.Equal(ownBuilt):
		return ""
	}
	return fmt.Sprintf("the supervisor is the %s build of %s, this command is that of %s; %s", ownVersion,
		running.Built.Local().Format(time.DateTime), ownBuilt.Local().Format(time.DateTime), replaceHint(running))
}

// replaceHint says how a supervisor is replaced by this program, and what that costs.
func replaceHint(running api.SupervisorStatus) string {
	switch {
	case running.LoginLoss != nil:
		return fmt.Sprintf("it was not replaced, because %s; to replace it all the same: %s", running.LoginLoss, running.LoginLoss.Remedy())
	case len(running.LoggedIn) > 0:
		return fmt.Sprintf(`"localport daemon restart" replaces it with this one, unless %s would need another login`, strings.Join(running.LoggedIn, ", "))
	}
	return `"localport daemon restart" replaces it with this one`
}
