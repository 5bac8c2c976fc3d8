package draft_test

import (
	"testing"

	"github.com/localport-sh/localport/project/draft"
)

func TestLocalPorts_ChooseAnotherPortOnlyWhereItHasTo(t *testing.T) {
	ports := draft.LocalPorts{
		Holder:     func(_ string, port int) string { return map[int]string{9000: "another program of this machine"}[port] },
		Substitute: func(port int) int { return map[int]int{80: 8080, 443: 5432}[port] },
	}
	ports.Add("db", "", 5432)
	for _, c := range []struct {
		address      string
		port, chosen int
		reason       string
	}{
		{"", 5433, 5433, ""},
		{"", 5433, draft.Auto, `service "web" has port 5433`},
		{"", 5432, draft.Auto, `service "db" has port 5432`},
		{"127.0.0.2", 5432, 5432, ""},
		{"127.0.0.2", 5432, draft.Auto, `service "web" has port 5432`},
		{"::1", 5432, draft.Auto, `service "db" has port 5432`},
		{"", 9000, draft.Auto, "another program of this machine has port 9000"},
		{"", 80, 8080, "only root may open ports below 1024"},
		{"", 80, draft.Auto, "only root may open ports below 1024"},  // 8080 is in use now
		{"", 443, draft.Auto, "only root may open ports below 1024"}, // and so is 5432
		{"", draft.Auto, draft.Auto, ""},
		{"", 70000, draft.Auto, ""},
	} {
		if chosen, reason := ports.Choose("web", c.address, c.port); chosen != c.chosen || reason != c.reason {
			t.Errorf("%s:%d: %d, %q; want %d, %q", c.address, c.port, chosen, reason, c.chosen, c.reason)
		}
	}
}
