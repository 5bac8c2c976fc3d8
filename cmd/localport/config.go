package main

import "fmt"

type configCmd struct {
	Validate validateCmd `cmd:"" help:"Check the config; needs no permission."`
}

type validateCmd struct{}

// Run prints every error of the config, or that there is none; and those of the user's own.
func (validateCmd) Run(a *app) error {
	p, err := a.place()
	if err != nil {
		return err
	}
	_, files, err := p.ask() // for a worktree: with the .env that it would run with
	if err != nil {
		return err
	}
	parsed, err := p.parse(files)
	if err != nil {
		return err
	}
	for _, warning := range parsed.Warnings {
		fmt.Fprintln(a.err, "warning:", warning)
	}
	_, err = fmt.Fprintf(a.out, "%s: valid, %d %s\n", p.config, len(parsed.Services), plural("service", len(parsed.Services)))
	if err != nil {
		return err
	}
	if _, err := readUser(); err != nil {
		return &codedError{err, exitInvalid}
	}
	return nil
}
