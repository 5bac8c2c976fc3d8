// Package output is what the commands print: messages, errors with their hints and exit codes, JSON. Results go to stdout, everything
// else to stderr. An error is one line "localport: what was being done to what: why", then "hint: the next step" where there is one.
// Packages return facts; hints and exit codes are added here.
//
// What other programs, far ends, files and directories are called or say is data: nothing of it acts on a terminal (see Writer).
package output

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// Exit codes.
const (
	ExitFailed          = 1
	ExitUsage           = 2
	ExitInvalid         = 3
	ExitNotAllowed      = 4
	ExitExecFailed      = 125 // exec: a failure of ours, not the command's
	ExitCannotRun       = 126
	ExitCommandNotFound = 127
)

// Usage is a command line that cannot be understood.
func Usage(err error) error { return &usageError{err} }

// WithHelp gives a Usage error, if it is one, the hint to a command's help. The command is empty for the program itself.
func WithHelp(err error, command string) error {
	if _, ok := errors.AsType[*usageError](err); !ok {
		return err
	}
	return WithHint(err, strings.Join(strings.Fields("localport "+command+" --help"), " "))
}

type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

// WithHint gives an error next steps of its own. No hints say that there is none.
func WithHint(err error, hints ...string) error { return &hintedError{err, hints} }

type hintedError struct {
	error
	hints []string
}

func (e *hintedError) Unwrap() error { return e.error }

// WithExitCode gives an error an exit code of its own.
func WithExitCode(err error, code int) error { return &codedError{err, code} }

type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

// ErrReported ends a command whose failure was shown already.
var ErrReported = errors.New("reported")

// PrintError prints what went wrong and returns the exit code.
func PrintError(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, ErrReported) {
		printError(w, err)
	}
	return ExitCode(err)
}

// ReportOnOneLine prints an error and its hints on one line, for a prompt, and returns what is left for Exit: the exit code, or an
// invalid config, which has a line for each mistake.
func ReportOnOneLine(w io.Writer, err error) error {
	_, invalid := errors.AsType[*project.InvalidError](err)
	if err == nil || invalid {
		return err
	}
	if errors.Is(err, ErrReported) {
		return err
	}
	parts := []string{JoinLines(err.Error())}
	for _, hint := range Hints(err) {
		if strings.HasPrefix(hint, "localport ") {
			hint = `run "` + hint + `"`
		}
		parts = append(parts, JoinLines(hint))
	}
	Info(w, "%s", strings.Join(parts, "; "))
	return WithExitCode(ErrReported, ExitCode(err))
}

// printError prints an error and its hints.
func printError(w io.Writer, err error) {
	for _, line := range errorLines(err) {
		fmt.Fprintln(w, line)
	}
	for _, hint := range Hints(err) {
		fmt.Fprintln(w, "hint:", JoinLines(hint))
	}
}

// errorLines is one line for each of the errors that are joined in err. Only what is wrong with a config, and what the supervisor
// reports, may have several.
func errorLines(err error) []string {
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		return diagnosticLines(invalid)
	}
	if joined, ok := errors.AsType[multiError](err); ok && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		var lines []string
		for _, one := range joined.Unwrap() {
			lines = append(lines, errorLines(one)...)
		}
		return lines
	}
	if !isReport(err) {
		return []string{"localport: " + JoinLines(err.Error())}
	}
	lines := strings.Split(Text(strings.TrimRight(err.Error(), "\n")), "\n")
	lines[0] = "localport: " + lines[0]
	for i := range lines[1:] {
		lines[i+1] = "  " + lines[i+1] // or a name with a line break in it could pass for a message of ours
	}
	return lines
}

// multiError is what errors.Join and fmt.Errorf return for several errors.
type multiError interface {
	error
	Unwrap() []error
}

// isReport reports whether the text is the supervisor's, which may be a list of what is wrong or the end of its log.
func isReport(err error) bool {
	_, started := errors.AsType[*client.StartError](err)
	_, refused := errors.AsType[*client.RefusedError](err)
	return started || refused
}

// diagnosticLines is what is wrong with a config, each with the line of the file below it.
func diagnosticLines(invalid *project.InvalidError) []string {
	lines := make([]string, 0, len(invalid.Diagnostics))
	for _, d := range invalid.Diagnostics {
		lines = append(lines, Diagnostic(d))
	}
	return lines
}

// Diagnostic is one thing that is wrong with a config, with the line of the file below it.
func Diagnostic(d project.Diagnostic) string {
	d.Path, d.Message, d.Source = EscapeLine(d.Path), EscapeLine(d.Message), EscapeLine(d.Source)
	return d.String()
}

const reviewHint = `review it, then run "localport allow"`

// Hints are the next steps after an error; none where none is known.
func Hints(err error) []string {
	var (
		own      *hintedError
		denied   *client.NotAllowedError
		notFound *project.NotFoundError
		start    *client.StartError
		noAnswer *client.NoAnswerError
		lost     *client.UnreachableError
		refused  *client.RefusedError
		usage    *usageError
		locked   *lockstate.LockedError
	)
	switch {
	case errors.As(err, &own):
		return own.hints
	case errors.As(err, &usage):
		return []string{"localport --help"}
	case errors.As(err, &denied):
		return []string{reviewHint}
	case errors.As(err, &notFound):
		return []string{"cd into a project, select one with -C DIR or -c FILE, or create " + project.ConfigName}
	case errors.As(err, &start) && start.Outcome == client.OutcomeNotAllowed:
		return []string{reviewHint}
	case errors.As(err, &start) && start.Outcome == client.OutcomeFailed:
		return []string{"read the log: " + start.Log}
	case errors.As(err, &locked):
		return []string{"try again; if this repeats, end that process"}
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return []string{"free disk space, then try again"}
	case errors.Is(err, project.ErrDirectoryDeleted):
		return []string{"cd into a directory that exists, or use -C DIR"}
	case errors.Is(err, client.ErrDown):
		return []string{"localport start"}
	case errors.Is(err, api.ErrEnding):
		return []string{"try again"}
	case errors.As(err, &refused):
		return []string{"localport logs supervisor --grep " + refused.Request}
	case errors.As(err, &noAnswer):
		return []string{"localport daemon restart"}
	case errors.As(err, &lost):
		return []string{"localport logs supervisor"}
	}
	return nil
}

// ExitCode is the exit code of an error.
func ExitCode(err error) int {
	var (
		own     *codedError
		usage   *usageError
		invalid *project.InvalidError
		denied  *client.NotAllowedError
		start   *client.StartError
	)
	switch {
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &invalid):
		return ExitInvalid
	case errors.As(err, &denied):
		return ExitNotAllowed
	case errors.As(err, &start) && start.Outcome == client.OutcomeInvalid:
		return ExitInvalid
	case errors.As(err, &start) && start.Outcome == client.OutcomeNotAllowed:
		return ExitNotAllowed
	}
	return ExitFailed
}
