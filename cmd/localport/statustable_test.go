package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

func TestPrintTable_FitsTheTerminal(t *testing.T) {
	const reason = "dial tcp 10.0.0.5:5432: connect: connection refused by the server; retrying in 4 s with another address of the name"
	status := api.Status{Services: []api.ServiceStatus{
		{Name: "web", State: forwarder.Healthy, Technology: "tcp", Address: "127.0.0.1:8080", Target: "tcp api.internal:80"},
		{
			Name: "postgres", State: forwarder.NeedsAttention, Technology: "kubectl", Address: "127.0.0.1:5432", LastError: reason,
			Target: "service/postgres:5432 in default at a-cluster-with-a-long-name", Hint: "localport login",
		},
		{
			Name: "mysql-replica", State: forwarder.NeedsAttention, Technology: "ssh", Address: "127.0.0.1:13306", Target: "ssh deploy@bastion.example.com -> 10.0.0.5:3306",
			Health: api.Health{Check: "postgres", Checked: new(time.Now()), Latency: 1.234},
		},
	}}
	for _, width := range []int{80, 100, 200, 300} {
		var b strings.Builder
		printTable(&b, status, width)
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		for _, line := range lines {
			if text.RuneWidthWithoutEscSequences(line) > width {
				t.Errorf("wider than %d columns: %s", width, line)
			}
		}
		if len(lines) < 4 || !strings.HasPrefix(lines[3], " mysql-replica") || !strings.HasPrefix(lines[1], " web") || !strings.HasPrefix(lines[2], " postgres") || !strings.Contains(lines[2], "127.0.0.1:5432") {
			t.Fatalf("%d columns: not a line for each service:\n%s", width, b.String())
		}
		below := strings.Join(lines[4:], " ")
		if isInTable := strings.Contains(lines[2], reason); isInTable == (below == "postgres: "+reason) {
			t.Errorf("%d columns: the error is not once in the table or below it:\n%s", width, b.String())
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
