package command

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
)

// newLogin returns a login that runs the service's login program; a zero Login if none is configured.
func newLogin(svc project.Service, dir string, env []string) forwarder.Login {
	argv := svc.Connection.Settings.TextList("login")
	if len(argv) == 0 {
		return forwarder.Login{}
	}
	return forwarder.Login{
		Key: fmt.Sprintf("%q", argv), Name: filepath.Base(argv[0]),
		Run: func(_ context.Context, terminal forwarder.Terminal) ([]byte, bool, error) {
			return nil, true, runLogin(argv, dir, env, terminal)
		},
	}
}

// runLogin runs the program on the user's terminal, where Ctrl-C reaches it.
func runLogin(argv []string, dir string, env []string, terminal forwarder.Terminal) error {
	classify := func(err error) error {
		return process.ClassifyStartError(err, process.Command{Argv: argv, Dir: dir, Env: env}, fmt.Sprintf("install %s, or set its full path in login", argv[0]))
	}
	path, err := process.LookPath(argv[0], env, dir)
	if err != nil {
		return classify(err)
	}
	cmd := &exec.Cmd{Path: path, Args: argv, Dir: dir, Env: env, Stdin: terminal.In, Stdout: terminal.Out, Stderr: terminal.Err}
	if err := cmd.Start(); err != nil {
		return classify(err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	return nil
}
