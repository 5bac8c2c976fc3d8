package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// This file has the hints for commands and flags of docker, kubectl and direnv.

// foreignCommands are commands that other tools have, and what to type instead.
var foreignCommands = []struct {
	names []string
	hint  string
}{
	{[]string{"get", "services", "svc", "info", "state", "show", "images", "containers"}, "localport status"},
	{[]string{"describe", "inspect", "explain", "debug", "diagnose"}, "localport why SERVICE"},
	{[]string{"port-forward", "portforward", "proxy", "tunnel", "connect", "open", "ssh", "kubectl", "autossh", "socat", "expose"}, `"localport forward svc/NAME PORT" forwards a port now, "localport add" writes it into the config`},
	{[]string{"create", "new", "apply", "generate"}, `"localport init" writes a first config, "localport add" adds a service to it`},
	{[]string{"run", "shell", "with", "x", "dotenv"}, "localport exec -- COMMAND"},
	{[]string{"delete", "kill", "destroy", "quit", "disable", "pause"}, `"localport stop" stops services, "localport remove" removes them from the config`},
	{[]string{"reload", "refresh", "sync"}, `a changed config is applied by "localport allow"; "localport daemon reload" reads it again`},
	{[]string{"permit", "grant", "approve", "trust", "accept"}, "localport allow"},
	{[]string{"revoke", "block", "untrust", "disallow"}, "localport deny"},
	{[]string{"validate", "check", "lint", "verify", "test"}, "localport config validate"},
	{[]string{"view", "cat", "dump"}, "localport config show"},
	{[]string{"attach", "tail", "log", "journal"}, "localport logs -f SERVICE"},
	{[]string{"watch", "monitor", "stats", "dashboard"}, `"localport top", or "localport status -w"`},
	{[]string{"wait"}, `"localport exec -- COMMAND" waits until the services are healthy, and so does "localport start"`},
	{[]string{"enable", "install", "setup", "activate"}, "\"localport hook SHELL\" prints the shell's hook, and \"localport doctor\" says where it belongs"},
	{[]string{"update", "upgrade", "pull", "build"}, "LocalPort starts no containers and updates nothing; its version is in: localport version"},
	{[]string{"vars", "variables", "environment", "printenv"}, "localport env"},
	{[]string{"ports"}, `"localport status" lists them, "localport port SERVICE" prints one`},
	{[]string{"projects"}, "localport ls"},
}

// foreignFlags are flags that other tools' commands of the same name have, and those of the Python LocalPort, and what to do instead.
var foreignFlags = []struct {
	commands, flags []string
	hint            string
}{
	{[]string{"logs"}, []string{"-t", "--timestamps", "--all-containers", "--prefix"}, "each line has its time and its service already: leave the flag out"},
	{[]string{"logs"}, []string{"-p", "--previous"}, "the log continues when a tunnel is replaced: leave the flag out"},
	{[]string{"logs"}, []string{"--no-color", "--no-log-prefix"}, "localport logs --color=never"},
	{[]string{"logs"}, []string{"-l", "--selector", "--container"}, "localport logs SERVICE"},
	{[]string{"status"}, []string{"-a"}, "status shows stopped services too: leave the flag out; all projects: localport ls"},
	{[]string{"status"}, []string{"-A", "--all-namespaces"}, "localport ls"},
	{[]string{"status"}, []string{"-q", "--quiet", "--services", "--format", "--no-trunc", "--no-headers"}, "localport status -o text, or --json"},
	{[]string{"status", "start", "stop", "restart", "logs", "exec"}, []string{"-n", "--namespace", "--context", "--kubeconfig", "-A", "--all-namespaces"}, "the namespace, the context and the kubeconfig of a service are in the config: connection = { namespace = \"…\" }"},
	{[]string{"start"}, []string{"--build", "--force-recreate", "--pull", "--no-deps", "--remove-orphans", "--scale", "--renew-anon-volumes", "-V"}, "LocalPort starts no containers: leave the flag out"},
	{[]string{"start"}, []string{"-t"}, "localport start --tag TAG"},
	{[]string{"start"}, []string{"-f", "--force"}, "localport restart"},
	{[]string{"stop"}, []string{"--volumes", "--remove-orphans", "--rmi"}, "LocalPort starts no containers: leave the flag out"},
	{[]string{"stop", "restart"}, []string{"-t", "--time", "--timeout", "-s", "--signal", "--force", "-f"}, "services have no stop signal or timeout: leave the flag out"},
	{[]string{"start", "stop", "restart", "status"}, []string{"--profile", "-l", "--selector"}, "localport start --tag TAG"},
	{[]string{"start", "stop", "restart", "status", "logs", "exec"}, []string{"--file", "--project-directory", "--project-name", "-p"}, `the project is that of the current directory; "-C DIR" and "-c FILE" name another`},
	{[]string{"ls"}, []string{"-a", "-A", "--all", "--all-namespaces", "-q"}, "ls lists every project that runs: leave the flag out"},
}

// kongMistake is what kong says of an argument that it does not know, in parts.
func kongMistake(text string) (kind, word, suggestion string) {
	for _, kind := range []string{"unexpected argument ", "unknown flag "} {
		if rest, ok := strings.CutPrefix(text, kind); ok {
			word, suggestion, _ = strings.Cut(rest, ", did you mean ")
			return kind, word, strings.TrimPrefix(suggestion, "one of ")
		}
	}
	return "", "", ""
}

// explainArguments returns the error of a command line that kong does not understand, with what to type instead if that is known. command is the
// path of the command as far as it was recognized.
func explainArguments(err error, command string) error {
	kind, word, suggestion := kongMistake(err.Error())
	isCommand := kind == "unexpected argument " && command == ""
	switch {
	case isCommand:
		text := fmt.Sprintf("unknown command %q", word)
		for _, foreign := range foreignCommands {
			if slices.Contains(foreign.names, word) {
				return output.WithHint(output.Usage(errors.New(text)), foreign.hint)
			}
		}
		if suggestion != "" && strings.Count(suggestion, ",") < 3 {
			text += ", did you mean " + suggestion
		}
		return output.WithHelp(output.Usage(errors.New(text)), command)
	case kind == "unknown flag ":
		for _, foreign := range foreignFlags {
			if slices.Contains(foreign.commands, command) && slices.Contains(foreign.flags, word) {
				return output.WithHint(output.Usage(fmt.Errorf("unknown flag %s of localport %s", word, command)), foreign.hint)
			}
		}
		if len(word) == 2 && suggestion != "" { // kong takes every flag of one letter for similar
			err = errors.New(kind + word)
		}
	default:
		err = errors.New(explainUsage(err.Error()))
	}
	return output.WithHelp(output.Usage(err), command)
}

// passthroughCommands take another program's arguments, which may be empty.
var passthroughCommands = []string{"exec", "forward", "add"}

// flagsWithValue are the flags that may stand before a command and have a value.
var flagsWithValue = []string{"-c", "--config", "-C", "--dir", "--log-level", "--color"}

// checkEmpty returns an error about an argument that is empty, or a flag with an empty value: the shell has probably expanded an unset variable.
func checkEmpty(args []string) error {
	command := ""
	for i, arg := range args {
		flag, value, hasValue := strings.Cut(arg, "=")
		before := args[max(0, i-1)]
		what := ""
		switch {
		case arg == "--", arg == "" && before == "exec": // exec says more about an empty program
			return nil
		case arg == "" && strings.HasPrefix(before, "-"):
			what = "the argument after " + before
		case arg == "":
			what = fmt.Sprintf("argument %d", i+1)
		case strings.HasPrefix(flag, "--") && hasValue && value == "":
			what = "the value of " + flag
		case strings.HasPrefix(arg, "-"), slices.Contains(flagsWithValue, before):
		case command == "":
			command = arg
		case slices.Contains(passthroughCommands, command):
			return nil
		}
		if what != "" {
			err := output.WithHint(output.Usage(fmt.Errorf("%s is empty", what)), `a variable that is not set is empty: check each "$NAME" in the command`)
			return withExecExitCode(err, command)
		}
	}
	return nil
}

// checkExecFlags returns an error about a flag of docker's and kubectl's exec, which would be taken for the program.
func checkExecFlags(command []string) error {
	if len(command) == 0 || command[0] == "--" || !strings.HasPrefix(command[0], "-") {
		return nil
	}
	return output.WithHint(output.Usage(fmt.Errorf("unknown flag %s of localport exec", command[0])),
		"exec runs a program on this machine, with the project's ports and variables: localport exec -- COMMAND")
}

// explainServiceProgram adds a hint to the error about a program that is not found, if it is the name of a service, as it would be for docker's and
// kubectl's exec.
func (a *app) explainServiceProgram(err error, name string) error {
	p, findErr := a.findProject()
	if findErr != nil {
		return err
	}
	_, files, readErr := p.AskTrust()
	if readErr != nil {
		return err
	}
	if services, _ := files.Names(); !slices.Contains(services, name) {
		return err
	}
	return output.WithHint(err, fmt.Sprintf("%s is a service of the project, and exec runs a program on this machine: localport exec -s %s -- COMMAND", name, name))
}
