package filelimit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/project"
)

// playLimit makes the test binary print its limit.
const playLimit = "LOCALPORT_TEST_LIMIT"

func TestMain(m *testing.M) {
	if os.Getenv(playLimit) != "" {
		fmt.Println(Current())
		return
	}
	goleak.VerifyTestMain(m)
}

func services(n int) []project.Service {
	all := make([]project.Service, n)
	for i := range all {
		all[i] = project.Service{Name: fmt.Sprint("s", i), LocalPort: 1000 + i}
	}
	return all
}

func TestReserve_GrowsWithTheConfigAndTheShells(t *testing.T) {
	for name, c := range map[string]struct {
		services []project.Service
		shells   int
		want     int
	}{
		"no service":               {nil, 0, 119},
		"one service":              {services(1), 0, 119 + 10 + 2},
		"a service that is remote": {[]project.Service{{Reverse: true}}, 0, 119 + 6 + 2},
		"ten services":             {services(10), 0, 119 + 10*10 + 8*2},
		"some shells":              {services(1), 16, 119 + 10 + 2},
		"many shells":              {services(1), 100, 119 + 10 + 2 + 84},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Reserve(c.services, c.shells); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestCheck_RefusesALimitBelowTheFloor(t *testing.T) {
	for _, c := range []struct {
		limit, services, needed, suggested int
	}{
		{64, 1, 133, 1024},
		{132, 1, 133, 1024},
		{133, 1, 0, 0},
		{250, 10, 255, 1024},
		{1024, 74, 0, 0},
		{1024, 100, 1335, 2048},
	} {
		err := Check(c.limit, services(c.services))
		var tooLow *TooLowError
		switch {
		case c.needed == 0 && err == nil:
		case c.needed == 0 || !errors.As(err, &tooLow):
			t.Errorf("%d files, %d services: got %v", c.limit, c.services, err)
		default:
			want := fmt.Sprintf(`too few file descriptors: limit is %d, at least %d are needed: raise it with "ulimit -n %d"`,
				c.limit, c.needed, c.suggested)
			if err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
		}
	}
}

// runUnder runs this binary with a limit; it prints what Current is.
func runUnder(t *testing.T, ulimit string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", ulimit+` && exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), playLimit+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestCurrent_IsTheHardLimit(t *testing.T) {
	if got := runUnder(t, "ulimit -Sn 200 && ulimit -Hn 512"); got != "511" { // Go leaves the last one out
		t.Errorf("got %s", got)
	}
	if got := runUnder(t, "ulimit -n 200"); got != "200" {
		t.Errorf("got %s", got)
	}
}
