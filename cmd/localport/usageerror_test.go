package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// The flag of each command that has a value says so when the value is missing: at the end of the line, and before another flag.
func TestUsageError_EachFlagSaysThatItNeedsAValue(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	flags := 0
	for _, command := range newParser(context.Background(), &app{}, &grammar{}).Model.Leaves(false) {
		path := strings.Fields(nodePath(command))
		if slices.Contains([]string{"forward", "add", "help"}, path[0]) { // which read their arguments themselves
			continue
		}
		for _, group := range command.AllFlags(false) {
			for _, flag := range group {
				if flag.IsBool() || flag.Name == "example" { // without a value, it lists the examples
					continue
				}
				flags++
				names := []string{"--" + flag.Name}
				if flag.Short != 0 {
					names = append(names, "-"+string(flag.Short))
				}
				for _, name := range names {
					checkMissingValue(t, dir, flag, append(path, name), " needs a value\nhint: localport")
					checkMissingValue(t, dir, flag, append(path, name, "--verbose"), " needs a value, but --verbose follows; write --"+flag.Name+"=--verbose if that is the value\n")
				}
			}
		}
	}
	if flags < 200 {
		t.Errorf("only %d flags were tried", flags)
	}
}

func checkMissingValue(t *testing.T, dir string, flag *kong.Flag, args []string, want string) {
	t.Helper()
	code, text := runInProcess(t, dir, args...)
	wantCode := 2
	if args[0] == "exec" {
		wantCode = 125
	}
	if code != wantCode || !strings.HasPrefix(text, "localport: --"+flag.Name+want) {
		t.Errorf("%q: exit %d, %s", args, code, text)
	}
}

// Command lines with a wrong value or a missing argument.
func TestGolden_ErrorsOfUsage(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	writeConfig(t, dir, "[services.db]\ntechnology = \"tcp\"\nlocal_port = 18080\nremote_port = 80\nconnection = { remote_host = \"h\" }\n")
	var b strings.Builder
	for _, line := range []string{
		"start --tag", "start -g", "start --tag --all", "status -i", "status -i -w", "status -i soon", "status -o", "status -o csv", "logs -n", "logs -n ten", "logs -n -f", "logs --since",
		"init --from-kubectl --context", "init --from", "forward svc/db 5432 --context", "forward svc/db 5432 -n", "add --name", "add svc/db 5432 --name", "exec --wait", "exec --wait 5x -- true", "exec --wait -- true",
		"start --no-wait=maybe", "restart --wait=maybe", "env --format", "env --format csh", "lease --pid", "config export --format", "config export --format xml", "-c", "-C", "status --color", "status --color=blue",
		"status --log-level", "status --log-level=loud", "port", "why", "remove", "completion", "hook", "daemon", "config", "daemon strat", "start --wait --no-wait", "doctor --json --report", "edit --name",
	} {
		code, text := runInProcess(t, dir, strings.Fields(line)...)
		fmt.Fprintf(&b, "$ localport %s\n%s(exit code %d)\n\n", line, text, code)
	}
	for _, word := range []string{"EOL", "<arg>", "perhaps try", "bit int", "time: "} {
		if strings.Contains(b.String(), word) {
			t.Errorf("a message has %q", word)
		}
	}
	checkGolden(t, "errors-usage.txt", strings.ReplaceAll(b.String(), dir, "/home/you/shop"))
}
