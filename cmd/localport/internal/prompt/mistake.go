package prompt

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
)

// MistakeArg is the command that prints the first mistake in a config as a Mistake in JSON; its argument is the config's path. A prompt runs it only if
// files wait for "localport allow": the technologies and health checks, which know what is a mistake, would be initialised by every prompt otherwise.
const MistakeArg = "__mistake"

// Mistake is the first mistake in the files of a project.
type Mistake struct {
	Text string `json:"text"` // ".localport.toml:7:3: …"; empty if there is none
	More int    `json:"more"` // the number of other mistakes
}

// findMistake returns the first mistake in the files of a project, which have changed. It is empty if it cannot be found in time.
func findMistake(ctx context.Context, p *client.Project) Mistake {
	exe, err := os.Executable()
	if err != nil {
		return Mistake{}
	}
	var m Mistake
	if out, err := exec.CommandContext(ctx, exe, MistakeArg, p.Config).Output(); err == nil {
		_ = json.Unmarshal(out, &m)
	}
	return m
}

// Describe returns the message about files with a mistake. isRunning: a supervisor uses the previous ones.
func (m Mistake) Describe(isRunning bool) string {
	object, more, inUse := "it", "", ""
	if m.More > 0 {
		object, more = "them", fmt.Sprintf("and %d more; ", m.More)
	}
	if isRunning {
		inUse = "still using the previous config; "
	}
	return fmt.Sprintf(`%s (%s%scorrect %s, then run "localport allow")`, output.JoinLines(m.Text), more, inUse, object)
}
