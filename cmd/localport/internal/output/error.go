// Package output prints what commands print: messages, errors with their hints and exit codes, JSON. Results go to stdout, everything
// else to stderr. An error is one line "localport: what was being done to what: why", followed by "hint: the next step" if there is one.
// Other packages return only the facts; hints and exit codes are added here.
//
// Text of other programs, upstreams, files and directories is escaped, so that it cannot control the terminal (see Writer).
package output

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

// Usage marks an error as an invalid command line.
func Usage(err error) error { return &usageError{err} }

// WithHelp adds to a Usage error the hint to read a command's help; other errors are returned as they are. command is empty for the
// program itself.
func WithHelp(err error, command string) error {
	if _, ok := errors.AsType[*usageError](err); !ok {
		return err
	}
	return WithHint(err, strings.Join(strings.Fields("localport "+command+" --help"), " "))
}

type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

// WithHint returns an error with its own hints instead of those of Hints; without hints, none is printed.
func WithHint(err error, hints ...string) error { return &hintedError{err, hints} }

// DescribeWriteError returns the error of a write to the standard output in the words that all commands use.
func DescribeWriteError(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return WithHint(fmt.Errorf("write to the standard output: %w", err))
}

type hintedError struct {
	error
	hints []string
}

func (e *hintedError) Unwrap() error { return e.error }

// WithExitCode returns an error with its own exit code instead of that of ExitCode.
func WithExitCode(err error, code int) error { return &exitCodeError{err, code} }

type exitCodeError struct {
	error
	code int
}

func (e *exitCodeError) Unwrap() error { return e.error }

// ErrReported is the error of a command that has printed what went wrong. PrintError prints nothing for it.
var ErrReported = errors.New("reported")

// PrintError prints an error with its hints and returns the exit code; 0 if err is nil.
func PrintError(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, ErrReported) {
		printError(w, err)
	}
	return ExitCode(err)
}

// ReportOnOneLine prints an error and its hints on one line, for a prompt, and returns ErrReported with the exit code. An invalid config,
// which needs a line for each mistake, is returned for PrintError.
func ReportOnOneLine(w io.Writer, err error) error {
	if _, isInvalid := errors.AsType[*project.InvalidError](err); err == nil || isInvalid || errors.Is(err, ErrReported) {
		return err
	}
	parts := []string{JoinLines(errorText(err))}
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

// errorLines returns a line for each of the errors that err joins. Only the mistakes in a config and a report of the supervisor may take
// several lines.
func errorLines(err error) []string {
	if joined, ok := errors.AsType[multiError](err); ok && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		var lines []string
		for _, single := range joined.Unwrap() {
			lines = append(lines, errorLines(single)...)
		}
		return lines
	}
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		return diagnosticLines(invalid)
	}
	if !isReport(err) {
		return []string{"localport: " + JoinLines(errorText(err))}
	}
	lines := strings.Split(EscapeText(strings.TrimRight(err.Error(), "\n")), "\n")
	lines[0] = "localport: " + lines[0]
	for i := range lines[1:] {
		lines[i+1] = "  " + lines[i+1] // so that no line of the report looks like a message of ours
	}
	return lines
}

// errorText returns the text of an error. Line breaks in the paths that it names are escaped: the others separate sentences.
func errorText(err error) string {
	text := err.Error()
	var paths []string
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		paths = append(paths, pathErr.Path)
	}
	if linkErr, ok := errors.AsType[*os.LinkError](err); ok {
		paths = append(paths, linkErr.Old, linkErr.New)
	}
	if notFound, ok := errors.AsType[*project.NotFoundError](err); ok {
		paths = append(paths, notFound.Tried...)
	}
	for _, path := range paths {
		if strings.Contains(path, "\n") {
			text = strings.ReplaceAll(text, path, EscapeLine(path))
		}
	}
	return text
}

// multiError is what errors.Join and fmt.Errorf return for several errors.
type multiError interface {
	error
	Unwrap() []error
}

// isReport reports whether the text is the supervisor's, which may be a list of mistakes or the end of its log.
func isReport(err error) bool {
	_, isStartError := errors.AsType[*client.StartError](err)
	_, isRefused := errors.AsType[*client.RefusedError](err)
	return isStartError || isRefused
}

// diagnosticLines returns the mistakes in a config, each followed by its line of the file.
func diagnosticLines(invalid *project.InvalidError) []string {
	lines := make([]string, 0, len(invalid.Diagnostics))
	for _, d := range invalid.Diagnostics {
		lines = append(lines, Diagnostic(d))
	}
	return lines
}

// Diagnostic returns a mistake in a config, followed by its line of the file.
func Diagnostic(d project.Diagnostic) string {
	d.Path, d.Message, d.Source = EscapeLine(d.Path), EscapeLine(d.Message), EscapeLine(d.Source)
	return d.String()
}

const reviewHint = `review it, then run "localport allow"`

// Hints returns the next steps after an error; none if none is known.
func Hints(err error) []string {
	var (
		hinted      *hintedError
		notAllowed  *client.NotAllowedError
		notFound    *project.NotFoundError
		start       *client.StartError
		noAnswer    *client.NoAnswerError
		unreachable *client.UnreachableError
		refused     *client.RefusedError
		usage       *usageError
		locked      *lockstate.LockedError
		unwritable  *lockstate.WriteError
		foreign     *api.ForeignError
		network     *client.OtherNetworkError
		sandbox     *client.SandboxError
	)
	switch {
	case errors.As(err, &hinted):
		return hinted.hints
	case errors.As(err, &usage):
		return []string{"localport --help"}
	case errors.As(err, &notAllowed):
		return []string{reviewHint}
	case errors.As(err, &notFound):
		return []string{"cd into a project, select one with -C DIR or -c FILE, or create " + project.ConfigName + " with \"localport init\""}
	case errors.As(err, &start) && start.Outcome == client.OutcomeNotAllowed:
		return []string{reviewHint}
	case errors.As(err, &start) && start.Outcome == client.OutcomeFailed:
		return []string{"read the log: " + start.Log}
	case errors.As(err, &locked):
		if locked.PID == 0 {
			return []string{"try again; if this repeats, find the process: fuser " + ShellQuote(locked.Path)}
		}
		return []string{fmt.Sprint("try again; if this repeats: kill ", locked.PID)}
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return []string{"free disk space, then try again"}
	case errors.As(err, &unwritable):
		return []string{"make the directory writable, or set XDG_STATE_HOME to one that is"}
	case errors.Is(err, project.ErrDirectoryDeleted):
		return []string{"cd into a directory that exists, or use -C DIR"}
	case errors.Is(err, client.ErrDown):
		return []string{"localport start"}
	case errors.Is(err, api.ErrEnding):
		return []string{"try again"}
	case errors.As(err, &refused) && refused.LoginLoss != nil:
		return []string{refused.LoginLoss.Remedy()}
	case errors.As(err, &refused):
		return []string{"localport logs supervisor --grep " + refused.Request}
	case errors.As(err, &foreign):
		return []string{foreignHint(foreign)}
	case errors.As(err, &network) && network.IsMovable:
		return []string{`"localport daemon restart" moves the supervisor here`}
	case errors.As(err, &network):
		return []string{"run it outside of this container or sandbox, or give that the supervisor's network (docker run --network=host)"}
	case errors.As(err, &sandbox) && sandbox.Err != nil:
		return []string{"allow unix sockets in this sandbox, or run the command outside of it"}
	case errors.As(err, &sandbox):
		return []string{"make " + filepath.Dir(sandbox.Socket) + " visible in this container or sandbox, or run the command outside of it"}
	case errors.As(err, &noAnswer) && noAnswer.ForeignSocket != "":
		return []string{`run "localport daemon restart" outside of this container or sandbox`}
	case errors.As(err, &noAnswer):
		return []string{"localport daemon restart"}
	case errors.As(err, &unreachable):
		return []string{"localport logs supervisor"}
	}
	return nil
}

// foreignHint says where the supervisor can be controlled.
func foreignHint(e *api.ForeignError) string {
	if e.PID == 0 {
		return "run the command outside of this container or sandbox"
	}
	return fmt.Sprintf("run the command in a shell of the supervisor's namespaces, or as root: nsenter --target %d --%s localport -C %s COMMAND",
		e.PID, strings.ToLower(strings.Join(e.Kinds, " --")), ShellQuote(e.Root))
}

// ExitCode returns the exit code of an error, which must not be nil.
func ExitCode(err error) int {
	var (
		withCode   *exitCodeError
		usage      *usageError
		invalid    *project.InvalidError
		notAllowed *client.NotAllowedError
		start      *client.StartError
	)
	switch {
	case errors.As(err, &withCode):
		return withCode.code
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &invalid):
		return ExitInvalid
	case errors.As(err, &notAllowed):
		return ExitNotAllowed
	case errors.As(err, &start) && start.Outcome == client.OutcomeInvalid:
		return ExitInvalid
	case errors.As(err, &start) && start.Outcome == client.OutcomeNotAllowed:
		return ExitNotAllowed
	}
	return ExitFailed
}
