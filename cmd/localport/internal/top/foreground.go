package top

import "io"

// foreground is what runs while the terminal is not Bubble Tea's (tea.ExecCommand).
type foreground func() error

// Run implements tea.ExecCommand.
func (f foreground) Run() error { return f() }

// SetStdin implements tea.ExecCommand.
func (foreground) SetStdin(io.Reader) {}

// SetStdout implements tea.ExecCommand.
func (foreground) SetStdout(io.Writer) {}

// SetStderr implements tea.ExecCommand.
func (foreground) SetStderr(io.Writer) {}
