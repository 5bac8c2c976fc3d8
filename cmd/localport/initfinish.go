package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
)

// finish says what comes next, and offers to allow what the user has just read. That is the same review as before localport allow, but only if
// everything that would be allowed was on the screen: not if the directory has a .env or a .localport.local.toml.
func (c initCmd) finish(ctx context.Context, a *app, d *dialog, target string, config newConfig) error {
	if above, _, err := project.Find(filepath.Dir(filepath.Dir(target))); err == nil {
		output.Info(a.err, "in this directory, it counts instead of %s", filepath.Join(above, project.ConfigName))
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
		if err := p.allowReviewed(config.text); err != nil {
			return err
		}
		if err := p.bumpLine(ctx); err != nil {
			return err
		}
		output.Info(a.err, "allowed %s", target)
	} else {
		output.Info(a.err, `next: review it, then run "%s"`, allowCommand(a, target))
	}
	if advice := hookAdvice(); advice != "" {
		output.Info(a.err, "%s", advice)
	}
	return nil
}

// allowCommand returns the command that allows a config from the current directory.
func allowCommand(a *app, target string) string {
	switch dir, err := os.Getwd(); {
	case a.config != "":
		return "localport -c " + displayPath(target) + " allow"
	case err != nil || dir != filepath.Dir(target):
		return "localport -C " + filepath.Dir(target) + " allow"
	}
	return "localport allow"
}

// hasOtherFiles reports whether a project has files besides its config, which are allowed with it.
func hasOtherFiles(target, text string) bool {
	files, err := project.ReadFilesAround(target, []byte(text))
	return err != nil || files.Local != nil || files.DotEnv != nil || files.DotEnvProblem != "" || len(files.ReferencedFiles) > 0
}

// allowReviewed allows a config if it still is what the user has read.
func (p commandProject) allowReviewed(text string) error {
	return p.recordDecision(func(files *project.Files) error {
		if string(files.Config) != text {
			return errors.New("the file has been changed meanwhile")
		}
		return p.Store.Allow(files)
	})
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

// hookAdvice says how to load the hook if no start-up file of the user's shell mentions it; empty if one does, or if the shell is not known. The
// shell itself cannot be asked: its hook leaves no trace in the environment of programs outside of projects.
func hookAdvice() string {
	home, shell := os.Getenv("HOME"), filepath.Base(os.Getenv("SHELL"))
	for _, hook := range hookLines {
		if hook.shell != shell || home == "" || os.Getenv("LOCALPORT_DIFF") != "" {
			continue
		}
		for _, file := range hook.files {
			paths, _ := filepath.Glob(filepath.Join(startupDir(shell, home), file))
			for _, path := range paths {
				if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), "localport hook") {
					return ""
				}
			}
		}
		return "no start-up file of " + shell + ` loads the hook; add this line to ~/` + hook.files[0] + " and open a new shell: " + hook.line +
			`; without it: localport exec -- COMMAND`
	}
	return ""
}

// startupDir returns the directory of a shell's start-up files: the home directory, unless ZDOTDIR names another for zsh.
func startupDir(shell, home string) string {
	if dir := os.Getenv("ZDOTDIR"); shell == "zsh" && dir != "" {
		return dir
	}
	return home
}
