package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/localport-sh/localport/cmd/localport/internal/doctor"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// finish says what comes next, and offers to allow what the user has just read. That is the same review as before localport allow, but only if
// everything that would be allowed was on the screen: not if the directory has a .env or a .localport.local.toml.
func (c initCmd) finish(ctx context.Context, a *app, d *dialog, target string, config newConfig) error {
	if above, _, err := project.Find(filepath.Dir(filepath.Dir(target))); err == nil {
		output.Info(a.err, "in this directory, it is used instead of %s", filepath.Join(above, project.ConfigName))
	}
	if dir := filepath.Dir(target); dir == os.Getenv("HOME") {
		output.Warn(a.err, "every directory below "+output.EscapeLine(dir)+" belongs to this project now; a project usually has a directory of its own")
	}
	isAllowed := false
	if d != nil && config.isReviewed && !hasOtherFiles(target, config.text) {
		var err error
		if isAllowed, err = d.confirm(ctx, "Allow it now, as localport allow does?", answerYes); err != nil {
			isAllowed = false // the file is written; the next step says how to go on
		}
	}
	if isAllowed {
		p, err := a.openConfig(target)
		if err != nil {
			return err
		}
		if err := p.allowReviewed(ctx, config.text); err != nil {
			return err
		}
		output.Info(a.err, "allowed %s", target)
	} else {
		output.Info(a.err, `next: review it, then run "%s"`, allowCommand(a, target))
	}
	if shell, path, line, isMissing := doctor.MissingHook(environ.Parse(os.Environ())); isMissing {
		output.Info(a.err, "%s does not load the hook yet; add this line to %s, and open a new shell:", shell, path)
		fmt.Fprintln(a.err, "    "+line)
		output.Info(a.err, "or run a command without the hook: localport exec -- COMMAND")
	}
	return nil
}

// allowCommand returns the command that allows a config from the current directory.
func allowCommand(a *app, target string) string {
	switch dir, err := os.Getwd(); {
	case a.config != "":
		return "localport -c " + output.ShellWord(displayPath(target)) + " allow"
	case err != nil || dir != filepath.Dir(target):
		return "localport -C " + output.ShellWord(filepath.Dir(target)) + " allow"
	}
	return "localport allow"
}

// hasOtherFiles reports whether a project has files besides its config, which are allowed with it.
func hasOtherFiles(target, text string) bool {
	files, err := project.ReadFilesAround(target, []byte(text))
	return err != nil || files.Local != nil || files.DotEnv != nil || files.DotEnvProblem != "" || len(files.ReferencedFiles) > 0
}

// allowReviewed allows a config if it still is what the user has read.
func (p commandProject) allowReviewed(ctx context.Context, text string) error {
	verdict, files, err := p.AskTrust()
	if err != nil {
		return err
	}
	if string(files.Config) != text {
		return errors.New("the file has been changed meanwhile")
	}
	r, err := p.reviewFiles(files, verdict)
	if err != nil {
		return withAllowHint(err)
	}
	return p.allow(ctx, r)
}
