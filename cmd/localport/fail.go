package main

// How output looks: results on stdout, everything else on stderr. An error is one line "localport: what was being
// done to what: why", then "hint: the next step" where there is one. Packages return facts; hints and exit codes
// are given here and nowhere else.

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/project"
)

// Exit codes.
const (
	exitFailed     = 1
	exitUsage      = 2
	exitInvalid    = 3
	exitNotAllowed = 4
	exitExec       = 125 // exec: a failure of ours, not the command's
	exitCannotRun  = 126
	exitNoCommand  = 127
)

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

// notAllowedError is a project whose files the user has not allowed as they stand.
type notAllowedError struct{ config string }

func (e *notAllowedError) Error() string { return e.config + " is not allowed as it stands" }

// hinted is an error with a next step of its own.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// codedError is an error with an exit code of its own.
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

// errReported ends a command whose failure was shown already.
var errReported = errors.New("reported")

// exit says what went wrong and returns the exit code.
func exit(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		say(w, err)
	}
	return code(err)
}

// say writes an error and its hint.
func say(w io.Writer, err error) {
	if invalid, ok := errors.AsType[*project.Invalid](err); ok {
		fmt.Fprintln(w, strings.TrimRight(invalid.Error(), "\n"))
	} else {
		fmt.Fprintln(w, "localport:", strings.TrimRight(err.Error(), "\n"))
	}
	if h := hint(err); h != "" {
		fmt.Fprintln(w, "hint:", h)
	}
}

func hint(err error) string {
	var (
		own      *hinted
		denied   *notAllowedError
		notFound *project.ErrNotFound
		start    *control.StartError
		lost     *control.UnreachableError
		refused  *control.RefusedError
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
	case errors.As(err, &start) && start.Outcome == control.Broken:
		return "the whole log: " + start.Log
	case errors.As(err, &refused):
		return "request " + refused.Request + " in: localport logs supervisor"
	case errors.As(err, &lost):
		return "if it is stuck, end its process: the next prompt starts another (localport logs supervisor)"
	}
	return ""
}

func code(err error) int {
	var (
		coded   *codedError
		usage   *usageError
		invalid *project.Invalid
		denied  *notAllowedError
		start   *control.StartError
	)
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &invalid):
		return exitInvalid
	case errors.As(err, &denied):
		return exitNotAllowed
	case errors.As(err, &start) && start.Outcome == control.Invalid:
		return exitInvalid
	case errors.As(err, &start) && start.Outcome == control.NotAllowed:
		return exitNotAllowed
	}
	return exitFailed
}
