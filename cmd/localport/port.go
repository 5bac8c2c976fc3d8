package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/process/holder"
)

type portCmd struct {
	Service string `arg:"" help:"The service."`
	outputFormat
}

// Help is the text below the usage.
func (portCmd) Help() string {
	return `Of a stopped project, it is the port that the service would use.

Example: localport port db

Exit codes: 0 printed; 1 the service is unknown, or does not have its port; 2 wrong usage; 3 the config of the stopped project is invalid.`
}

// Run prints the local port of a service, also if it is stopped. A port that another program has is an error.
func (c portCmd) Run(ctx context.Context, a *app, p commandProject) error {
	status, err := p.queryOrReadStatus(ctx)
	if err == nil && status.State == api.StateRunning {
		err = p.CheckNetwork()
	}
	if err != nil {
		return err
	}
	if _, err := selectServices(status.Services, []string{c.Service}, nil); err != nil {
		return err
	}
	svc := status.Services[slices.IndexFunc(status.Services, func(svc api.ServiceStatus) bool { return svc.Name == c.Service })]
	if svc.State == forwarder.Failed && !svc.Held {
		return output.WithHint(fmt.Errorf("service %q does not have its port %d: %s", svc.Name, svc.Port, output.JoinLines(svc.LastError)), svc.Hint)
	}
	if svc.State == unknownState && !svc.Held {
		return fmt.Errorf("service %q does not have its port %d, according to the state file of %s ago", svc.Name, svc.Port, formatAge(*status.RecordedAt))
	}
	if err := checkPortIsFree(svc); err != nil {
		return err
	}
	if c.isJSON() {
		return output.JSON(a.out, struct {
			Name      string   `json:"name"`
			Port      int      `json:"port"`
			Addresses []string `json:"addresses"`
		}{svc.Name, svc.Port, svc.Addresses})
	}
	_, err = fmt.Fprintln(a.out, svc.Port)
	return err
}

// checkPortIsFree returns an error if another program has the port of a service that is stopped.
func checkPortIsFree(svc api.ServiceStatus) error {
	if svc.State != forwarder.Stopped || svc.Held || svc.Reverse {
		return nil
	}
	for _, text := range svc.Addresses {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			continue
		}
		if owner, isTaken := findPortOwner(addr); isTaken {
			return output.WithHint(fmt.Errorf("service %q is stopped, and %s", svc.Name, owner), freePortHint)
		}
	}
	return nil
}

const freePortHint = "end that program, or give the service another local_port"

// findPortOwner says which program listens on a port that no service of a project has now.
func findPortOwner(addr netip.AddrPort) (text string, isTaken bool) {
	found, isTaken := holder.Find(addr)
	return fmt.Sprintf("port %d belongs to another program: %s", addr.Port(), found), isTaken
}
