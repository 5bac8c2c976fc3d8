package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// variedServices returns n services: each state, long and wide names, long errors, a reverse forward, a shared service.
func variedServices(n int) []api.ServiceStatus {
	states := []forwarder.State{
		forwarder.Healthy, forwarder.NeedsAttention, forwarder.Failed, forwarder.Starting, forwarder.Unhealthy, forwarder.Restarting,
		forwarder.Idle, forwarder.Stopped, forwarder.Shared,
	}
	names := []string{"web", "postgres", "mysql-replica", "注文データベース", "a-service-with-a-very-long-name-that-somebody-has-generated-from-a-template", "kafka", "emoji-🚀", "redis"}
	targets := []string{"tcp api.internal:80", "kubectl service/postgres:5432 in default at a-cluster-with-a-long-name", "ssh deploy@bastion.example.com -> 10.0.0.5:3306", "command cloud-sql-proxy"}
	longError := strings.TrimSpace(strings.Repeat("dial tcp 10.0.0.5:5432: connect: connection refused by the server; ", 6))
	services := make([]api.ServiceStatus, n)
	for i := range services {
		svc := api.ServiceStatus{
			Name: names[i%len(names)], State: states[i%len(states)], Target: targets[i%len(targets)], Restarts: i, Enabled: true,
			Technology: strings.Fields(targets[i%len(targets)])[0], Address: fmt.Sprintf("127.0.0.1:%d", 5400+i), Log: "/home/you/log/x.log",
			Health: api.Health{Check: "postgres"}, Since: time.Now().Add(-time.Hour),
		}
		if i >= len(names) {
			svc.Name = fmt.Sprintf("%s-%d", svc.Name, i)
		}
		switch svc.State {
		case forwarder.Healthy:
			svc.UpSince, svc.Health.Checked, svc.Health.Latency = new(time.Now().Add(-90*time.Minute)), new(time.Now().Add(-5*time.Minute)), 1.2345
			svc.Connections.Open = 12
		case forwarder.NeedsAttention:
			svc.LastError, svc.Hint = "the key needs a passphrase", "localport login"
		case forwarder.Failed:
			svc.LastError, svc.Hint = longError, "start the server, then run \"localport restart\""
		case forwarder.Unhealthy, forwarder.Restarting:
			svc.LastError, svc.Connections.Waiting, svc.Connections.Open = "the server closed\nthe connection\tearly \x1b[31m", 3, 4
		case forwarder.Shared:
			svc.Shared = &api.SharedService{Project: "/home/you/shop-2", Service: svc.Name, State: forwarder.Starting}
		}
		services[i] = svc
	}
	return services
}

func variedStatus(n int) api.Status {
	return api.Status{
		Project: "/home/you/shop", State: api.StateRunning, Services: variedServices(n),
		Supervisor: &api.SupervisorStatus{Since: time.Now().Add(-3 * time.Hour)},
		Leases:     []api.Lease{{Kind: api.ShellLease}, {Kind: api.ShellLease}, {Kind: api.ExecLease}},
		Warnings:   []string{"this shell's KUBECONFIG differs; \"localport restart\" uses it"},
	}
}

func linesText(lines []output.Line) string {
	var b strings.Builder
	writer := output.NewWriter(&b)
	_ = writer.PrintLines(lines)
	return b.String()
}

func TestStatusLines_FitEachWidth(t *testing.T) {
	for _, n := range []int{0, 1, 10, 40} {
		status := variedStatus(n)
		for width := 1; width <= 300; width++ {
			text := linesText(statusLines(status, width))
			table := linesText(tableLines(status.Services, width))
			if lines := strings.Count(table, "\n"); lines != n+1 {
				t.Fatalf("%d services in %d columns: %d lines of the table:\n%s", n, width, lines, table)
			}
			for line := range strings.Lines(text) {
				if got := layout.Width(strings.TrimSuffix(line, "\n")); got > max(width, 2) { // a wide character takes two
					t.Fatalf("%d services in %d columns: a line takes %d: %q", n, width, got, line)
				}
			}
			if width >= 40 && n > 0 && !strings.Contains(table, "127.0.0.1:5400") {
				t.Fatalf("%d columns: the address is missing:\n%s", width, table)
			}
		}
	}
}

func TestStatusLines_NameEachErrorOnce(t *testing.T) {
	status := variedStatus(40)
	for _, width := range []int{0, 60, 200} {
		text := strings.Join(strings.Fields(linesText(statusLines(status, width))), " ")
		for _, reason := range []string{"postgres", "the key needs a passphrase"} {
			if !strings.Contains(text, reason) {
				t.Errorf("%d columns: %q is missing:\n%s", width, reason, text)
			}
		}
		if n := strings.Count(text, "the key needs a passphrase"); width > 0 && n != 1 {
			t.Errorf("%d columns: the error of several services is there %d times:\n%s", width, n, text)
		}
	}
}

func TestGolden_StatusAtEachWidth(t *testing.T) {
	for _, width := range []int{0, 40, 60, 80, 100, 120, 200} {
		svc := variedServices(2)[1]
		svc.Since = time.Time{} // which would differ from day to day
		text := linesText(statusLines(variedStatus(10), width)) + "\n" + linesText(newServiceDetails(svc, nil).lines(width))
		checkGolden(t, fmt.Sprintf("status-%d.txt", width), text)
	}
}

// What other programs read does not depend on how wide a terminal is, and nothing in it is shortened.
func TestStatusLines_ArePipedInFull(t *testing.T) {
	services := variedServices(10)
	table := linesText(tableLines(services, 0))
	lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	if len(lines) != len(services)+1 || strings.Contains(table, "…") {
		t.Errorf("not one whole line for each service:\n%s", table)
	}
	for i, svc := range services {
		for _, want := range []string{svc.Name, string(svc.State), svc.Target, svc.Address, output.JoinLines(svc.LastError)} {
			if want = strings.ReplaceAll(want, "\t", " "); !strings.Contains(lines[i+1], want) {
				t.Errorf("%q lacks %q", lines[i+1], want)
			}
		}
	}
}

func TestHintList_NamesTheServicesOfAHint(t *testing.T) {
	var hints hintList
	hints.add("one", "localport login")
	hints.add("two", "install kubectl")
	hints.add("three", "localport login")
	hints.add("four", "")
	if got, want := hints.lines(4), []string{"one, three: localport login", "two: install kubectl"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	var same hintList
	same.add("one", "localport login")
	same.add("two", "localport login")
	if got, want := same.lines(2), []string{"localport login"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
