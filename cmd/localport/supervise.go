package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"

	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/supervisor"
)

type superviseCmd struct{}

// Run is the project's supervisor, from its election to its end.
func (superviseCmd) Run(a *app) error {
	control.CloseInherited()
	if a.config == "" {
		return &usageError{errors.New("supervise needs --config")}
	}
	// A terminal's hang-up has nothing to do with us, and whoever writes to a pipe that closed gets an error for it.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	level := new(slog.LevelVar)
	if a.level != "" {
		if err := level.UnmarshalText([]byte(a.level)); err != nil {
			return &usageError{err}
		}
	}
	return supervisor.Run(ctx, supervisor.Options{
		Config: a.config, Version: version(), Run: strings.ToLower(rand.Text()[:8]), Level: level, Say: control.Say,
	})
}
