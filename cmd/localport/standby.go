package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
)

// standbyCmd runs beside a process that uses a supervisor in another container: when that one ends, it starts a supervisor here.
type standbyCmd struct {
	PID  int                 `required:"" env:"-" help:"The process."`
	Kind lockstate.LeaseKind `required:"" env:"-" help:"The kind of its lease."`
}

// Run returns when the process has ended, or uses a supervisor that does not end before it.
func (c standbyCmd) Run(a *app) error {
	client.CloseInherited()
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	p, err := a.findProject()
	if err != nil {
		return err
	}
	process, isAlive := lockstate.FindProcess(c.PID)
	if !isAlive {
		return fmt.Errorf("no process has the pid %d", c.PID)
	}
	client.ReportReadiness(client.Readiness{Outcome: client.OutcomeReady})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	exitCh := make(chan struct{})
	go func() {
		defer close(exitCh)
		if lockstate.WaitExit(ctx, process) == nil {
			cancel()
		}
	}()
	defer func() { cancel(); <-exitCh }()
	return p.StandBy(ctx, lockstate.Lease{Kind: c.Kind, Process: process, Dir: p.Root, Since: time.Now().UTC()})
}

// startStandby starts a standby for the process of a lease, if the supervisor may end before it.
func (p commandProject) startStandby(a *app, lease lockstate.Lease) {
	if !p.MayEndWithNamespace() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	if err := p.StartStandby(ctx, "standby", "--pid", fmt.Sprint(lease.PID), "--kind", string(lease.Kind)); err != nil {
		output.Info(a.err, "the forwards end with the container in which the supervisor runs: %v", err)
	}
}
