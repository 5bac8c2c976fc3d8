package ssh

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
)

// explain says to whom ssh connects, as its configuration resolves the service's host.
func explain(ctx context.Context, svc project.Service, run forwarder.Run) []forwarder.Fact {
	resolved, err := resolveDestination(ctx, newTunnelSpec(svc), run)
	if err != nil {
		return nil // the attempt to connect meets the same error, and explains it
	}
	facts := []forwarder.Fact{{Label: "ssh", Text: resolved.String()}}
	socket := process.Getenv(run.Env, AgentVariable)
	if resolved.agent != "" && resolved.agent != AgentVariable {
		return facts // another agent, which ssh alone finds
	}
	switch keys, err := AgentKeys(socket); {
	case socket == "":
		facts = append(facts, forwarder.Fact{Label: "agent", Text: AgentVariable + " is not set: ssh uses key files only"})
	case err != nil:
		facts = append(facts, forwarder.Fact{Label: "agent", Text: fmt.Sprintf("%s does not answer: %v", AgentVariable, err)})
	case len(keys) == 1:
		facts = append(facts, forwarder.Fact{Label: "agent", Text: "has 1 key"})
	default:
		facts = append(facts, forwarder.Fact{Label: "agent", Text: fmt.Sprintf("has %d keys", len(keys))})
	}
	return facts
}

// resolvedDestination is what ssh's configuration makes of a service's host.
type resolvedDestination struct {
	user, host, port, jump, proxyCommand, agent string
	keyFiles                                    []string // that exist
}

// String is "deploy@10.0.0.7 port 22 through gateway, key ~/.ssh/id_ed25519".
func (d resolvedDestination) String() string {
	text := fmt.Sprintf("%s@%s", d.user, net.JoinHostPort(d.host, d.port))
	switch {
	case d.jump != "":
		text += " through " + d.jump
	case d.proxyCommand != "":
		program, _, _ := strings.Cut(d.proxyCommand, " ") // the arguments may hold a password
		text += " through the ProxyCommand " + filepath.Base(program)
	}
	switch len(d.keyFiles) {
	case 0:
		return text + ", no key file"
	case 1:
		return text + ", key " + d.keyFiles[0]
	}
	return text + ", keys " + strings.Join(d.keyFiles, ", ")
}

// resolveDestination asks ssh, which connects to nobody for that.
func resolveDestination(ctx context.Context, s *tunnelSpec, run forwarder.Run) (resolvedDestination, error) {
	path, err := process.LookPath("ssh", run.Env, run.Dir)
	if err != nil {
		return resolvedDestination{}, err
	}
	argv := s.baseArgv()
	cmd := exec.CommandContext(ctx, path, append([]string{"-G"}, argv[1:]...)...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = run.Dir, run.Env, time.Second
	out, err := cmd.Output()
	if err != nil {
		return resolvedDestination{}, err
	}
	return parseResolved(out, process.Getenv(run.Env, "HOME")), nil
}

// parseResolved parses the output of ssh -G: a line "name value" for each option, with names in lower case.
func parseResolved(out []byte, home string) (d resolvedDestination) {
	for line := range bytes.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if value == "none" && name != "identityagent" {
			continue
		}
		switch name {
		case "user":
			d.user = value
		case "hostname":
			d.host = value
		case "port":
			d.port = value
		case "proxyjump":
			d.jump = value
		case "proxycommand":
			d.proxyCommand = value
		case "identityagent":
			d.agent = value
		case "identityfile":
			path := value
			if rest, isHome := strings.CutPrefix(value, "~/"); isHome {
				path = filepath.Join(filepath.Dir(filepath.Dir(userConfigFile())), rest)
			}
			if _, err := os.Stat(path); err == nil {
				d.keyFiles = append(d.keyFiles, shortenHome(path, home))
			}
		}
	}
	return d
}

// shortenHome returns a path with ~ for the home directory.
func shortenHome(path, home string) string {
	if rest, isHome := strings.CutPrefix(path, home+"/"); isHome && home != "" {
		return "~/" + rest
	}
	return path
}
