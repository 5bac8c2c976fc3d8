package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// initialization is a line of GODEBUG=inittrace=1: "init PACKAGE @1.2 ms, 0.1 ms clock, 64 bytes, 2 allocs".
type initialization struct {
	path          string
	bytes, allocs int
}

// parseInitializations returns the packages that a program has initialised, with the allocations of each.
func parseInitializations(t *testing.T, trace string) (list []initialization) {
	t.Helper()
	for line := range strings.Lines(trace) {
		var i initialization
		var start, clock float64
		if n, _ := fmt.Sscanf(line, "init %s @%g ms, %g ms clock, %d bytes, %d allocs", &i.path, &start, &clock, &i.bytes, &i.allocs); n == 5 {
			list = append(list, i)
		}
	}
	if !slices.ContainsFunc(list, func(i initialization) bool { return i.path == "github.com/localport-sh/localport/project" }) {
		t.Fatalf("inittrace printed no initialisation:\n%s", trace)
	}
	return list
}

// frequentCommands are what prompts, scripts and new shells run often.
func frequentCommands() [][]string {
	return [][]string{{"export", "bash", "--pid", strconv.Itoa(os.Getpid())}, {"hook", "bash"}, {"env"}, {"port", "web"}, {"status"}, {"exec", "true"}}
}

// initializedLibraries are the libraries that have something to initialise at every start of the program. yaml.v3 costs 0.1 ms of CPU, pgx with
// golang.org/x/text 0.2, the MySQL driver with edwards25519 0.05, all others 0.1 together.
var initializedLibraries = []string{
	"filippo.io/edwards25519", "github.com/alecthomas/kong", "github.com/fsnotify/fsnotify", "github.com/go-sql-driver/mysql",
	"github.com/gorilla/websocket", "github.com/jackc/pgpassfile", "github.com/jackc/pgx/v5", "github.com/jedib0t/go-pretty/v6", "github.com/mattn/go-runewidth",
	"github.com/pelletier/go-toml/v2", "github.com/tinylib/msgp", "github.com/twmb/franz-go", "go.yaml.in/yaml/v3",
	"golang.org/x/net", "golang.org/x/sys", "golang.org/x/text",
}

// TestCounts_Initialization limits what every start of the program pays for: the packages that are initialised, and their allocations.
func TestCounts_Initialization(t *testing.T) {
	t.Parallel()
	const (
		maxPackages, maxAllocs, maxBytes = 175, 1300, 200_000
		maxOwnAllocs                     = 40 // of a package of this module
	)
	// project has 75 regular expressions, each of which is compiled when it is used.
	ownLimits := map[string]int{"project": 150}
	w := newReleaseEnv(t).testEnv
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	for _, args := range frequentCommands() {
		cmd := w.command(root, args...)
		cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
		list := parseInitializations(t, w.run(cmd).stderr)
		allocs, bytes := 0, 0
		for _, i := range list {
			allocs, bytes = allocs+i.allocs, bytes+i.bytes
			own, isOwn := strings.CutPrefix(i.path, "github.com/localport-sh/localport/")
			domain, _, _ := strings.Cut(i.path, "/")
			switch {
			case isOwn:
				if limit := max(maxOwnAllocs, ownLimits[own]); i.allocs > limit {
					t.Errorf("%v: the initialisation of %s makes %d allocations, limit %d", args, own, i.allocs, limit)
				}
			case strings.Contains(domain, ".") && !slices.ContainsFunc(initializedLibraries, func(path string) bool { return i.path == path || strings.HasPrefix(i.path, path+"/") }):
				t.Errorf("%v: %s is initialised at every start of the program, and is not in the list: %d bytes, %d allocations", args, i.path, i.bytes, i.allocs)
			}
		}
		t.Logf("%v: %d packages, %d allocations, %d bytes", args, len(list), allocs, bytes)
		if len(list) > maxPackages || allocs > maxAllocs || bytes > maxBytes {
			t.Errorf("%v: %d packages are initialised, with %d allocations of %d bytes; the limits are %d, %d and %d", args, len(list), allocs, bytes, maxPackages, maxAllocs, maxBytes)
		}
	}
}

// Every cd pays for the packages that are initialised before the prompt's command runs.
func TestPrompt_InitialisesOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	w := newReleaseEnv(t).testEnv
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	cmd := w.command(root, "export", "bash", "--pid", strconv.Itoa(os.Getpid()))
	cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
	o := w.run(cmd)
	if o.code != 0 || !strings.Contains(o.stdout, "WEB_PORT") {
		t.Fatalf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	for _, i := range parseInitializations(t, o.stderr) {
		for _, unused := range []string{
			"github.com/localport-sh/localport/forwarder/kubectl/", "github.com/localport-sh/localport/forwarder/supervisor",
			"google.golang.org/", "k8s.io/", "sigs.k8s.io/", "net/http",
		} {
			if strings.HasPrefix(i.path, unused) {
				t.Errorf("%s was initialised", i.path)
			}
		}
	}
}

// The libraries of full-screen programs build tables when they are initialised. Every start of the program would pay for them, and top must not.
func TestTop_CostsOtherCommandsNoInitialisation(t *testing.T) {
	t.Parallel()
	w := newReleaseEnv(t).testEnv
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	for _, args := range frequentCommands() {
		cmd := w.command(root, args...)
		cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
		for _, i := range parseInitializations(t, w.run(cmd).stderr) {
			isTop := strings.HasSuffix(i.path, "/cmd/localport/internal/top")
			isScreenLibrary := strings.HasPrefix(i.path, "charm.land/") || strings.HasPrefix(i.path, "github.com/charmbracelet/")
			if isTop && i.allocs > 8 || isScreenLibrary {
				t.Errorf("%v: %+v", args, i)
			}
		}
	}
}
