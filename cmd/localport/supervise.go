package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/coredump"
	"github.com/localport-sh/localport/forwarder/ephemeral"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/forwarder/wait"
)

type superviseCmd struct {
	Kept bool `env:"-" help:"Take over the listeners of the keeper that started this supervisor."`
}

// Run prepares the supervisor; see app.superviseProject.
func (c superviseCmd) Run(a *app) error {
	config, logLevel := a.config, a.logLevel
	a.superviseProject = func() error { return c.supervise(config, logLevel) }
	return nil
}

// supervise runs the project's supervisor, from its election to its end.
func (c superviseCmd) supervise(config, logLevel string) error {
	var inherit func() (*handoff.KeeperLink, *handoff.Inheritance, error)
	if c.Kept {
		client.CloseInherited(client.ExtraFD)
		inherit = handoff.Inherit
	} else {
		client.CloseInherited()
	}
	if config == "" {
		return output.Usage(errors.New("supervise needs --config"))
	}
	if err := coredump.Disable(); err != nil {
		slog.Warn("a core dump of this process would hold secrets", "error", err)
	}
	// The supervisor outlives its terminal, and a write to a closed pipe returns an error.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGXFSZ)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	level := new(slog.LevelVar)
	if logLevel != "" {
		if err := level.UnmarshalText([]byte(logLevel)); err != nil {
			return output.Usage(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	// Until the process ends: the orphans of a service's program are looked for among this process's children.
	adoptCtx, endAdoption := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer endAdoption()
	wg.Go(func() {
		if err := process.AdoptOrphans(adoptCtx); err != nil {
			slog.Warn("orphans of services are found by their environment only", "error", err)
		}
	})
	wait.SetPhase(time.Now())
	wait.UseSystemTimer()
	err = supervisor.Run(ctx, supervisor.Options{
		Config: config, Version: version.Own(), Exe: exe, RunID: strings.ToLower(rand.Text()[:8]), LogLevel: level,
		OnStartResult: client.ReportReadiness, Inherit: inherit, AcceptPrompt: prompt.NewEvaluator(config, func(text string) { slog.Error(text) }).Accept,
	})
	cleanupCtx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	return errors.Join(err, ephemeral.RemoveAfterSupervisor(cleanupCtx, config))
}
