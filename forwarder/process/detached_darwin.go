package process

import (
	"context"
	"os"

	"github.com/localport-sh/localport/lockstate"
)

// AdoptOrphans returns at once: on macOS orphans become children of launchd.
func AdoptOrphans(context.Context) error { return nil }

// FindDetached returns nil: macOS does not tell which process has started an orphan. Only KillOrphans and KillTunnel find those, by their
// environment.
func (c *Child) FindDetached(uint16) []Detached { return nil }

// KillDetached returns nil, as FindDetached does.
func (c *Child) KillDetached(uint16, []Detached) []Detached { return nil }

func killRecorded(string) int { return 0 }

func pipeNames(...*os.File) []string { return nil }

func startTime(pid int) uint64 {
	p, _ := lockstate.FindProcess(pid)
	return p.Start
}
