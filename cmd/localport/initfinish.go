package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/shellhook"
)

// finish says what comes next, and offers to allow what the user has just read. That is the same review as before localport allow, but only if
// everything that would be allowed was on the screen: not if the directory has a .env or a .localport.local.toml.
func (c initCmd) finish(ctx context.Context, a *app, d *dialog, target string, config newConfig) error {
	if above, _, err := project.Find(filepath.Dir(filepath.Dir(target))); err == nil {
		output.Info(a.err, "in this directory, it counts instead of %s", filepath.Join(above, project.ConfigName))
	}
	if dir := filepath.Dir(target); dir == os.Getenv("HOME") {
		output.Warn(a.err, "every directory below "+dir+" belongs to this project now; a project usually has a directory of its own")
	}
	isAllowed := false
	if d != nil && config.isReviewed && !hasOtherFiles(target, config.text) {
		var err error
		if isAllowed, err = d.confirm(ctx, "Allow it now, as localport allow does?"); err != nil {
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
	if hook, isMissing := missingHook(); isMissing {
		output.Info(a.err, "no start-up file of %s loads the hook; add this line to ~/%s and open a new shell:", hook.shell, hook.files[0])
		fmt.Fprintln(a.err, "    "+hook.line)
		output.Info(a.err, "or run a command without the hook: localport exec -- COMMAND")
	}
	return nil
}

// allowCommand returns the command that allows a config from the current directory.
func allowCommand(a *app, target string) string {
	switch dir, err := os.Getwd(); {
	case a.config != "":
		return "localport -c " + shellhook.Quote(displayPath(target)) + " allow"
	case err != nil || dir != filepath.Dir(target):
		return "localport -C " + shellhook.Quote(filepath.Dir(target)) + " allow"
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

// hookLine is how a shell loads the hook.
type hookLine struct {
	shell string
	files []string // start-up files, relative to the home directory; the first is where the line belongs
	line  string
}

var hookLines = []hookLine{
	{"bash", []string{".bashrc", ".bash_profile", ".profile"}, `eval "$(localport hook bash)"`},
	{"zsh", []string{".zshrc", ".zprofile", ".zshenv"}, `eval "$(localport hook zsh)"`},
	{"fish", []string{".config/fish/config.fish", ".config/fish/conf.d/*.fish"}, "localport hook fish | source"},
	{"tcsh", []string{".tcshrc", ".cshrc"}, "eval \"`localport hook tcsh`\""},
	{"elvish", []string{".config/elvish/rc.elv"}, "eval (localport hook elvish | slurp)"},
}

// missingHook returns how to load the hook if no start-up file of the user's shell mentions it; false if one does, or if the shell is not known. The
// shell itself cannot be asked: its hook leaves no trace in the environment of programs outside of projects.
func missingHook() (hookLine, bool) {
	home, shell := os.Getenv("HOME"), filepath.Base(os.Getenv("SHELL"))
	for _, hook := range hookLines {
		if hook.shell != shell || home == "" || os.Getenv("LOCALPORT_DIFF") != "" {
			continue
		}
		for _, file := range hook.files {
			paths, _ := filepath.Glob(filepath.Join(startupDir(shell, home), file))
			for _, path := range paths {
				if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), "localport hook") {
					return hookLine{}, false
				}
			}
		}
		return hook, true
	}
	return hookLine{}, false
}

// startupDir returns the directory of a shell's start-up files: the home directory, unless ZDOTDIR names another for zsh.
func startupDir(shell, home string) string {
	if dir := os.Getenv("ZDOTDIR"); shell == "zsh" && dir != "" {
		return dir
	}
	return home
}
