package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Each command and each flag of another tool is none of ours, and gets its hint.
func TestArguments_OfOtherToolsGetWhatToType(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	writeConfig(t, dir, "")
	for _, foreign := range foreignCommands {
		for _, name := range foreign.names {
			if code, text := runInProcess(t, dir, name, "x"); code != 2 && code != 0 || code == 2 && !strings.Contains(text, "hint: "+foreign.hint+"\n") {
				t.Errorf("%s: exit %d, %s", name, code, text)
			}
		}
	}
	for _, foreign := range foreignFlags {
		for _, command := range foreign.commands {
			for _, flag := range foreign.flags {
				if node := findCommand(t, command); slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return flag == "--"+f.Name || flag == "-"+string(f.Short) }) {
					continue // it is one of ours
				}
				code, text := runInProcess(t, dir, command, flag)
				if command == "exec" {
					if code != 125 || !strings.Contains(text, "hint: ") {
						t.Errorf("%s %s: exit %d, %s", command, flag, code, text)
					}
				} else if code != 2 || !strings.Contains(text, "unknown flag "+flag) || strings.Contains(text, "--help") {
					t.Errorf("%s %s: exit %d, %s", command, flag, code, text)
				}
			}
		}
	}
}

// Every command that a hint names exists.
func TestArguments_HintsNameCommandsThatExist(t *testing.T) {
	var hints []string
	for _, foreign := range foreignCommands {
		hints = append(hints, foreign.hint)
	}
	for _, foreign := range foreignFlags {
		hints = append(hints, foreign.hint)
	}
	for _, hint := range hints {
		for _, after := range strings.Split(hint, "localport ")[1:] {
			name, _, _ := strings.Cut(after, " ")
			findCommand(t, strings.Trim(name, `";:,`))
		}
	}
}

func findCommand(t *testing.T, name string) *kong.Node {
	t.Helper()
	var g grammar
	parser := newParser(context.Background(), &app{}, &g)
	for _, node := range parser.Model.Children {
		if node.Name == name || slices.Contains(node.Aliases, name) {
			return node
		}
	}
	t.Fatalf("there is no command %q", name)
	return nil
}

func TestArguments_SayWhatIsWrong(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	writeConfig(t, dir, "[services.db]\ntechnology = \"tcp\"\nlocal_port = 18080\nremote_port = 80\nconnection = { remote_host = \"h\" }\n")
	const unset = `a variable that is not set is empty: check each "$NAME" in the command`
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{""}, 2, "localport: argument 3 is empty\nhint: " + unset + "\n"},
		{[]string{"status", ""}, 2, "localport: argument 4 is empty\nhint: " + unset + "\n"},
		{[]string{"start", "--tag", ""}, 2, "localport: the argument after --tag is empty\nhint: " + unset + "\n"},
		{[]string{"start", "--tag="}, 2, "localport: the value of --tag is empty\nhint: " + unset + "\n"},
		{[]string{"-c", "", "status"}, 2, "localport: the argument after -c is empty\nhint: " + unset + "\n"},
		{[]string{"exec", "--tag", "", "true"}, 125, "localport: the argument after --tag is empty\nhint: " + unset + "\n"},
		{[]string{"sttus"}, 2, "localport: unknown command \"sttus\", did you mean \"status\"?\nhint: localport --help\n"},
		{[]string{"logs", "-y"}, 2, "localport: unknown flag -y\nhint: localport logs --help\n"},
		{[]string{"exec", "-it", "db", "sh"}, 125, "localport: unknown flag -i of localport exec\nhint: exec runs a program on this machine, with the project's ports and variables: localport exec -- COMMAND\n"},
		{[]string{"exec", "db", "sh"}, 127, "localport: run db: executable file not found in $PATH\nhint: db is a service of the project, and exec runs a program on this machine: localport exec -s db -- COMMAND\n"},
		{[]string{"logs", "--tail", "10"}, 0, ""},
		{[]string{"ps"}, 0, ""},
	} {
		code, text := runInProcess(t, dir, test.args...)
		if code != test.code || test.want != "" && text != test.want {
			t.Errorf("%q: exit %d, %s", test.args, code, text)
		}
	}
}

// Every command that takes names of services says the same of one that the project does not have, whether or not the project runs.
func TestCommands_AgreeAboutAnUnknownService(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("[services.db]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection = { remote_host = \"127.0.0.1\" }\n")
	checkUnknownServices(t, w, root, "dbb", "-")
	w.mustRun(root, "start", "--no-wait")
	checkUnknownServices(t, w, root, "dbb", "a b", "../db", "db\n", "\x1b[31mdb", "ÜNI", "-")
}

func checkUnknownServices(t *testing.T, w *testEnv, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		for _, command := range [][]string{
			{"status"}, {"why"}, {"start"}, {"stop"}, {"restart"}, {"logs"}, {"events"}, {"login"}, {"port"}, {"remove"}, {"exec", "--service"}, {"config", "show"},
		} {
			args := append(slices.Clone(command), name)
			want := 1
			if command[0] == "exec" {
				args, want = append(args, "--", "true"), 125
			}
			o := w.localport(root, args...)
			lines := strings.Split(o.stderr, "\n")
			if o.code != want || !strings.HasPrefix(lines[0], `localport: unknown service "`) || len(lines) < 2 || !strings.HasPrefix(lines[1], "hint: ") || o.stdout != "" || strings.Contains(o.stderr, "\x1b") {
				t.Errorf("%q: exit %d, %s%s", args, o.code, o.stdout, o.stderr)
			}
		}
	}
}
