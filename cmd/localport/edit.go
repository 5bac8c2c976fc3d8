package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/edit"
	"github.com/localport-sh/localport/project/trust"
)

type editCmd struct {
	Local bool `env:"-" help:"Edit .localport.local.toml, which is yours alone, instead of .localport.toml."`
}

// Help says what happens to the text.
func (editCmd) Help() string {
	return "Opens a copy of the config in $VISUAL or $EDITOR, and writes it back if it is valid. At a terminal, mistakes are shown and can be corrected " +
		"at once; the text is never lost. A text without any key is written only if you agree at the terminal. The change is shown and, if the files were allowed before and you agree at the terminal, allowed.\n\n" +
		"  localport edit\n" +
		"  EDITOR=\"code --wait\" localport edit\n\n" +
		"Exit codes: 0 written, or unchanged; 1 not written; 3 the text has mistakes: it is kept in a file that is named."
}

// editSession is one run of the editor on a copy of a file.
type editSession struct {
	*app
	project  commandProject
	dialog   *dialog
	path     string // of the file
	before   []byte // its text; nil: it is new
	copyPath string
}

// Run edits a copy, checks it, and writes it back. ctx is not used: a person takes longer.
func (c editCmd) Run(a *app, p commandProject) error {
	e := editSession{app: a, project: p, path: p.Config, dialog: openDialog()}
	defer e.dialog.close()
	files, err := project.ReadFiles(p.Config)
	if err != nil {
		return err
	}
	e.before = files.Config
	if c.Local {
		if files.LocalPath == "" {
			return output.Usage(errors.New("--local needs a project whose config is " + project.ConfigName))
		}
		e.path, e.before = files.LocalPath, files.Local
	}
	if err := e.createCopy(); err != nil {
		return err
	}
	return e.run()
}

// createCopy writes the text to a file of the same name in a directory of its own.
func (e *editSession) createCopy() error {
	dir, err := os.MkdirTemp("", "localport-edit-")
	if err != nil {
		return err
	}
	e.copyPath = filepath.Join(dir, filepath.Base(e.path))
	return os.WriteFile(e.copyPath, e.before, 0o600)
}

func (e *editSession) removeCopy() { _ = os.RemoveAll(filepath.Dir(e.copyPath)) }

func (e *editSession) run() error {
	for {
		editorErr := runEditor(e.copyPath)
		text, err := os.ReadFile(e.copyPath)
		if err != nil {
			return err
		}
		switch {
		case bytes.Equal(text, e.before) && editorErr != nil:
			e.removeCopy()
			return editorErr
		case editorErr != nil:
			return e.keepCopy(editorErr)
		case bytes.Equal(text, e.before):
			e.removeCopy()
			output.Info(e.err, "%s is unchanged", e.path)
			return nil
		}
		change, err := e.check(text)
		if err == nil && edit.IsEmpty(text) && !edit.IsEmpty(e.before) {
			if err := e.confirmEmpty(); err != nil {
				return err
			}
		}
		if err == nil {
			return e.finish(change)
		}
		again, err := e.askAgain(err)
		if !again {
			return err
		}
	}
}

// check returns the change, valid.
func (e *editSession) check(text []byte) (*configChange, error) {
	change, err := newConfigChange(e.project)
	if err != nil {
		return nil, err
	}
	if err := change.set(e.path, e.before, text); err != nil {
		return nil, err
	}
	change.review, err = e.project.reviewFiles(change.after, change.verdict)
	return change, err
}

// confirmEmpty asks whether a file without any key is meant. Without a terminal, it is not written.
func (e *editSession) confirmEmpty() error {
	emptied := errors.New("the edited config has no keys")
	if e.dialog == nil {
		return e.keepCopy(fmt.Errorf("%w; not written", emptied), "to remove services: localport remove NAME…; to remove the file: rm "+output.ShellWord(displayPath(e.path)))
	}
	output.Warn(e.err, emptied.Error())
	isAgreed, err := e.dialog.confirm(context.Background(), "Write it all the same?", answerNo)
	if err == nil && !isAgreed {
		err = errors.New("not written")
	}
	if err != nil {
		return e.keepCopy(err)
	}
	return nil
}

// The answers about a text with mistakes.
const (
	answerAgain = iota
	answerDiscard
	answerKeep
)

// askAgain shows mistakes, and asks what to do about them. Without a terminal, the text is kept.
func (e *editSession) askAgain(mistakes error) (again bool, err error) {
	if e.dialog == nil {
		return false, e.keepCopy(mistakes)
	}
	output.PrintError(e.err, output.WithHint(mistakes))
	answer, err := e.dialog.choose(context.Background(), "What now?", []string{"edit again", "discard the changes", "keep the text in a file, and leave the config as it is"})
	switch {
	case err != nil:
		return false, e.keepCopy(err)
	case answer == answerAgain:
		return true, nil
	case answer == answerDiscard:
		e.removeCopy()
		return false, output.WithHint(fmt.Errorf("discarded; %s is as it was", output.EscapeLine(e.path)))
	}
	return false, e.keepCopy(errors.New("not written"))
}

// keepCopy returns an error that says where the text is, and what else can be done.
func (e *editSession) keepCopy(err error, hints ...string) error {
	code := output.ExitCode(err)
	return output.WithExitCode(output.WithHint(err, append(hints, fmt.Sprintf("%s is unchanged; your text is in %s", output.EscapeLine(e.path), output.EscapeLine(e.copyPath)))...), code)
}

// finish shows and writes the change. It is allowed if the files before were, and if the user, who has seen it, agrees: an agent may be able to run an
// editor.
func (e *editSession) finish(change *configChange) error {
	change.print(e.app)
	if err := change.write(e.app); err != nil {
		return e.keepCopy(err)
	}
	e.removeCopy()
	isAllowed := false
	if change.verdict == trust.Allowed && e.dialog != nil {
		isAllowed, _ = e.dialog.confirm(context.Background(), "Allow this change now?", answerYes) // unanswered, it is written and not allowed
	}
	if !isAllowed {
		return change.sayNext(e.app)
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	return change.allow(ctx, e.app)
}

// runEditor runs the user's editor on a file, as git does: the shell splits the variable into words.
func runEditor(path string) error {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"))
	if editor == "" {
		editor = findEditor()
	}
	if editor == "" {
		return output.WithHint(errors.New("no editor was found"), "set EDITOR to the command of your editor, such as: export EDITOR=nano")
	}
	signals := make(chan os.Signal, 1) // these are the editor's; it would inherit it if they were ignored
	signal.Notify(signals, os.Interrupt, syscall.SIGQUIT)
	defer signal.Stop(signals)
	cmd := exec.Command("sh", "-c", editor+` "$@"`, editor, path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return output.WithHint(fmt.Errorf("the editor %q ended with an error: %w", editor, err), "check the variables VISUAL and EDITOR")
	}
	return nil
}

// findEditor returns the first of the usual editors that is installed.
func findEditor() string {
	for _, name := range []string{"editor", "nano", "vim", "vi"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}
