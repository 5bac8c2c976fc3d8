package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/localport-sh/localport/testdata/ports"
)

// otherScripts are those for what is no command of kong's model.
var otherScripts = []string{"complete", "export"}

// Each command has a script, which runs it as a user does: with arguments, files and an environment. It checks exit codes, both outputs and
// the files written. In a script, beside the commands of testscript:
//
//	localport ARGS              runs localport, which must exit with 0; with "!", with another code
//	exits CODE localport ARGS   runs localport, which must exit with CODE
//	await REGEXP localport ARGS runs localport until its stdout matches
//	ask PORT LINE               prints what the server behind a port answers
//	! ask PORT                  checks that nobody listens on the port
//
// In arguments and files, the ports 8080 and 8081 stand for free ports, and 18099 for a server that greets. In the output of
// localport, the real ports and directories are replaced by these ports and by directories below /home/you. Files whose name ends in .want are compared
// with that output; with -update they are rewritten.
func TestScript(t *testing.T) {
	t.Parallel()
	for _, name := range scriptNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("testdata/script", name+".txtar")
			if _, err := os.Stat(path); err != nil {
				t.Fatal(err)
			}
			newScriptRun(t).run(path)
		})
	}
}

// scriptNames returns the names of the scripts that there must be.
func scriptNames() []string {
	names := slices.Clone(otherScripts)
	for _, command := range newParser(context.Background(), &app{}, &grammar{}).Model.Leaves(false) {
		names = append(names, strings.ReplaceAll(nodePath(command), " ", "-"))
	}
	return names
}

// A script whose command was renamed would not be run.
func TestScript_EachFileIsOfACommand(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/script/*")
	if err != nil {
		t.Fatal(err)
	}
	names := scriptNames()
	for _, path := range paths {
		if !slices.Contains(names, strings.TrimSuffix(filepath.Base(path), ".txtar")) {
			t.Errorf("%s is of no command", path)
		}
	}
}

// scriptRun runs one script, in an environment of its own.
type scriptRun struct {
	*testEnv
	t                   *testing.T
	bin                 string            // the directory that has localport
	realPorts, shown    *strings.Replacer // of what a script says, and of what localport prints
	port, port2, server string
}

func newScriptRun(t *testing.T) *scriptRun {
	w := newTestEnv(t)
	s := &scriptRun{
		testEnv: w, t: t, bin: filepath.Join(w.home, "bin"),
		port: fmt.Sprint(ports.FreePort(t)), port2: fmt.Sprint(ports.FreePort(t)), server: fmt.Sprint(serve(t, "127.0.0.1:0").port),
	}
	if err := os.Mkdir(s.bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(w.exe, filepath.Join(s.bin, "localport")); err != nil {
		t.Fatal(err)
	}
	s.realPorts = strings.NewReplacer("8080", s.port, "8081", s.port2, "18099", s.server)
	return s
}

func (s *scriptRun) run(path string) {
	s.t.Helper()
	testscript.RunT(scriptT{s.t}, testscript.Params{
		Files: []string{path}, Setup: s.setup, UpdateScripts: *update, RequireUniqueNames: true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"localport": s.localportCommand, "exits": s.exitsCommand, "await": s.awaitCommand, "ask": s.askCommand,
		},
	})
}

// setup puts the script's ports into its files, and ends all supervisors before its directory is removed.
func (s *scriptRun) setup(env *testscript.Env) error {
	env.Vars = append(env.Vars, s.env...)
	env.Setenv("PATH", s.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	for name, port := range map[string]string{"PORT": s.port, "PORT2": s.port2, "SERVER": s.server} {
		env.Setenv(name, port)
	}
	env.Setenv("TEST_PID", fmt.Sprint(os.Getpid()))
	s.shown = strings.NewReplacer(
		listAncestors(env.WorkDir), "/", filepath.Join(env.WorkDir, ".tmp"), "/tmp", env.WorkDir, "/home/you", s.home, "/home/you",
		s.exe, "/usr/bin/localport", s.port, "8080", s.port2, "8081", s.server, "18099",
	)
	env.Defer(s.stopAll)
	return filepath.WalkDir(env.WorkDir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(path, ".want") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text = []byte(strings.ReplaceAll(s.realPorts.Replace(string(text)), "SERVER_PROGRAM", s.exe))
		return os.WriteFile(path, text, 0o600)
	})
}

// scriptDurations are of an output how long something took, and when it was.
var scriptDurations = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\b(tcp|in) \d+(\.\d+)?(µs|ms|s)\b`), "$1 1ms"},
	{regexp.MustCompile(`\b\d+s ago\b`), "1s ago"},
	{regexp.MustCompile(`\bago( +)\d+[sm]\b`), "ago${1}4s"},
	{regexp.MustCompile(`\bfor \d+[sm]\b`), "for 4s"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "15:04:05"},
}

// normalize turns what localport prints into what a script says.
func (s *scriptRun) normalize(text string) string {
	text = normalize(text, s.shown)
	for _, d := range scriptDurations {
		text = d.pattern.ReplaceAllString(text, d.with)
	}
	return text
}

// localport runs localport and returns its exit code.
func (s *scriptRun) localport(ts *testscript.TestScript, args []string) int {
	args = slices.Clone(args)
	for i, arg := range args {
		args[i] = s.realPorts.Replace(arg)
	}
	err := ts.Exec("localport", args...)
	failed, isExit := errors.AsType[*exec.ExitError](err)
	if err != nil && !isExit {
		ts.Fatalf("%v", err)
	}
	stdout, stderr := s.normalize(ts.ReadFile("stdout")), s.normalize(ts.ReadFile("stderr"))
	fmt.Fprint(ts.Stdout(), stdout)
	fmt.Fprint(ts.Stderr(), stderr)
	if isExit {
		return failed.ExitCode()
	}
	return 0
}

func (s *scriptRun) localportCommand(ts *testscript.TestScript, neg bool, args []string) {
	if code := s.localport(ts, args); (code != 0) != neg {
		ts.Fatalf("exit code %d", code)
	}
}

func (s *scriptRun) exitsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "localport" {
		ts.Fatalf("usage: exits CODE localport ARGS")
	}
	if code := s.localport(ts, args[2:]); fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func (s *scriptRun) awaitCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "localport" {
		ts.Fatalf("usage: await REGEXP localport ARGS")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	eventually(s.t, fmt.Sprintf("localport %v prints %s", args[2:], args[0]), func() bool {
		_ = ts.Exec("localport", args[2:]...)
		return re.MatchString(s.normalize(ts.ReadFile("stdout")))
	})
}

func (s *scriptRun) askCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 && (!neg || len(args) != 1) {
		ts.Fatalf("usage: ask PORT LINE, or: ! ask PORT")
	}
	addr := "127.0.0.1:" + s.realPorts.Replace(args[0])
	if neg {
		if answer, err := ask(addr, ""); err == nil {
			ts.Fatalf("%s answers %q", addr, answer)
		}
		return
	}
	answer := ""
	eventually(s.t, addr+" answers", func() (ok bool) {
		var err error
		answer, err = ask(addr, args[1])
		return err == nil
	})
	fmt.Fprint(ts.Stdout(), answer)
}

// scriptT makes a script a part of the test that runs it.
type scriptT struct{ *testing.T }

func (t scriptT) Parallel()                            {}
func (t scriptT) Run(_ string, run func(testscript.T)) { run(t) }
func (t scriptT) Verbose() bool                        { return testing.Verbose() }
