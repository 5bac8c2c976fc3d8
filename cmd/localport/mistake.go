package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
)

// printMistake prints, for a prompt, the first mistake in a config that waits for "localport allow".
func printMistake(a *app, config string) int {
	p, err := a.openConfig(config)
	if err != nil {
		return output.ExitFailed
	}
	return output.PrintError(a.err, output.JSONLine(a.out, p.firstMistake()))
}

// firstMistake returns the first mistake in the project's files.
func (p commandProject) firstMistake() prompt.Mistake {
	verdict, files, err := p.AskTrust()
	if err != nil {
		return prompt.Mistake{}
	}
	_, err = p.reviewFiles(files, verdict)
	invalid, isInvalid := errors.AsType[*project.InvalidError](err)
	switch {
	case err == nil:
		return prompt.Mistake{}
	case !isInvalid:
		return prompt.Mistake{Text: output.JSONText(filepath.Base(p.Config) + ": " + err.Error())}
	}
	mistakes := slices.DeleteFunc(slices.Clone(invalid.Diagnostics), func(d project.Diagnostic) bool { return d.IsUnset })
	d := mistakes[0]
	d.Path, d.Source = strings.TrimPrefix(d.Path, p.Root+string(filepath.Separator)), ""
	return prompt.Mistake{Text: output.JSONText(output.Diagnostic(d)), More: len(mistakes) - 1}
}

// explainNotAllowed returns the mistakes in the files of a project that are not allowed instead of err, if they have any: to be told only to allow them
// would cost another round.
func (p commandProject) explainNotAllowed(err error) error {
	if _, isNotAllowed := errors.AsType[*client.NotAllowedError](err); !isNotAllowed {
		return err
	}
	verdict, files, readErr := p.AskTrust()
	if readErr != nil {
		return err
	}
	_, reviewErr := p.reviewFiles(files, verdict)
	if _, isInvalid := errors.AsType[*project.InvalidError](reviewErr); !isInvalid {
		return err
	}
	return output.WithHint(reviewErr, `correct the file, then run "localport allow"`)
}
