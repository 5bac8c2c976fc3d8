// Package output is how the command fails. Results go to stdout, everything else to stderr. An error is one line
// "localport: what was being done to what: why", then "hint: the next step" where there is one. Packages return facts;
// hints and exit codes are given here and nowhere else.
package output

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
)

// Exit codes.
const (
	ExitFailed     = 1
	ExitUsage      = 2
	ExitInvalid    = 3
	ExitNotAllowed = 4
	ExitExec       = 125 // exec: a failure of ours, not the command's
	ExitCannotRun  = 126
	ExitNoCommand  = 127
)

// Usage is a command line that cannot be understood.
func Usage(err error) error { return &usageError{err} }

type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

// Hinted gives an error a next step of its own. An empty one says that there is none.
func Hinted(err error, hint string) error { return &hinted{err, hint} }

type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// Coded gives an error an exit code of its own.
func Coded(err error, code int) error { return &coded{err, code} }

type coded struct {
	error
	code int
}

func (e *coded) Unwrap() error { return e.error }

// ErrReported ends a command whose failure was shown already.
var ErrReported = errors.New("reported")

// Exit says what went wrong and returns the exit code.
func Exit(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, ErrReported) {
		say(w, err)
	}
	return Code(err)
}

// say writes an error and its hint.
func say(w io.Writer, err error) {
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		fmt.Fprintln(w, strings.TrimRight(invalid.Error(), "\n"))
	} else {
		fmt.Fprintln(w, "localport:", strings.TrimRight(err.Error(), "\n"))
	}
	if h := Hint(err); h != "" {
		fmt.Fprintln(w, "hint:", h)
	}
}

// Hint is the next step after an error; empty where none is known.
func Hint(err error) string {
	var (
		own      *hinted
		denied   *client.NotAllowedError
		notFound *project.NotFoundError
		start    *client.StartError
		noAnswer *client.NoAnswerError
		lost     *client.UnreachableError
		refused  *client.RefusedError
		usage    *usageError
	)
	switch {
	case errors.As(err, &own):
		return own.hint
	case errors.As(err, &usage):
		return "localport --help, or localport COMMAND --help"
	case errors.As(err, &denied):
		return "read it, then run: localport allow"
	case errors.As(err, &notFound):
		return "cd into a project, name one with -C DIR or -c FILE, or write a " + project.ConfigName
	case errors.As(err, &start) && start.Outcome == client.Broken:
		return "the whole log: " + start.Log
	case errors.As(err, &refused):
		return "request " + refused.Request + " in: localport logs supervisor"
	case errors.As(err, &noAnswer):
		return "localport daemon restart"
	case errors.As(err, &lost):
		return "localport logs supervisor"
	}
	return ""
}

// Code is the exit code of an error.
func Code(err error) int {
	var (
		own     *coded
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
	case errors.As(err, &start) && start.Outcome == client.Invalid:
		return ExitInvalid
	case errors.As(err, &start) && start.Outcome == client.NotAllowed:
		return ExitNotAllowed
	}
	return ExitFailed
}
