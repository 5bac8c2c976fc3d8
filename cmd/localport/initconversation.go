package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/testdata/examples"
)

// initChoice is something that init can start from.
type initChoice struct {
	label string
	make  func() (newConfig, error)
}

// Files that init offers to convert, if they are in the directory.
var (
	pythonFiles  = []string{"localport.yaml", "localport.yml", ".localport.yaml"}
	composeFiles = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}
)

// converse asks what to forward, shows the config, and asks whether to write it.
func (c initCmd) converse(ctx context.Context, a *app, d *dialog, target string) (newConfig, error) {
	d.printf("This writes %s.\nCtrl-C leaves without writing anything.\n\n", output.EscapeLine(target))
	choices := c.choices(ctx, a, d, target)
	labels := make([]string, len(choices))
	for i, choice := range choices {
		labels[i] = choice.label
	}
	index, err := d.choose(ctx, "What do you want to reach?", labels)
	if err != nil {
		return newConfig{}, err
	}
	config, err := choices[index].make()
	if err != nil || c.Print {
		return config, err
	}
	d.printf("\n%s\n", strings.TrimRight(config.text, "\n"))
	d.printf("\n")
	isAgreed, err := d.confirm(ctx, "Write this to "+output.EscapeLine(target)+"?", answerYes)
	if err == nil && !isAgreed {
		err = errors.New("nothing was written")
	}
	config.isReviewed = true
	return config, err
}

// choices returns what there is to start from, the likeliest first.
func (c initCmd) choices(ctx context.Context, a *app, d *dialog, target string) (choices []initChoice) {
	dir := filepath.Dir(target)
	for _, name := range append(append([]string{}, pythonFiles...), composeFiles...) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			choices = append(choices, initChoice{"what " + name + " in this directory has", func() (newConfig, error) { return convertFile(path) }})
		}
	}
	location := session.Location{}.Complete(session.KubeconfigFiles("", environ.Undo(environ.Parse(os.Environ())).List(), a.dir))
	kubernetes := initChoice{"services of a Kubernetes cluster", func() (newConfig, error) { return c.askCluster(ctx, a, d, location, target) }}
	others := []initChoice{
		{"a host behind an ssh server", func() (newConfig, error) { return askSSH(ctx, d) }},
		{"a host that this machine can reach", func() (newConfig, error) { return askTCP(ctx, d) }},
		{"an example to start from", func() (newConfig, error) { return askExample(ctx, d) }},
		{"nothing yet: a template with comments", func() (newConfig, error) { return newConfig{text: configTemplate}, nil }},
	}
	if location.Context != "" {
		kubernetes.label += " (context " + output.EscapeLine(location.Context) + ")"
		return append(append(choices, kubernetes), others...)
	}
	return append(append(choices, others[:2]...), append([]initChoice{kubernetes}, others[2:]...)...)
}

func (c initCmd) askCluster(ctx context.Context, a *app, d *dialog, location session.Location, target string) (newConfig, error) {
	var err error
	if c.Context, err = d.ask(ctx, "Context", location.Context); err != nil {
		return newConfig{}, err
	}
	suggestion := location.Namespace
	if c.Context != location.Context || suggestion == "" {
		suggestion = "default"
	}
	namespace, err := d.ask(ctx, "Namespace, or all", suggestion)
	if err != nil {
		return newConfig{}, err
	}
	if c.All = namespace == "all"; !c.All {
		c.Namespace = namespace
	}
	return c.kubectlConfig(ctx, a, d, target)
}

func askExample(ctx context.Context, d *dialog) (newConfig, error) {
	titles := make([]string, len(examples.All))
	for i, example := range examples.All {
		titles[i] = fmt.Sprintf("%-14s %s", example.Name, example.Title)
	}
	index, err := d.choose(ctx, "Which one?", titles)
	if err != nil {
		return newConfig{}, err
	}
	return exampleConfig(examples.All[index].Name)
}

// askSSH asks for a host behind an ssh server.
func askSSH(ctx context.Context, d *dialog) (newConfig, error) {
	suggestion := ""
	if hosts, err := ssh.ConfiguredHosts(""); err == nil && len(hosts) > 0 {
		suggestion = hosts[0]
	}
	server, sshPort, err := d.askHost(ctx, "ssh server, as you would name it to ssh", suggestion)
	if err != nil {
		return newConfig{}, err
	}
	remote, port, err := d.askHost(ctx, "Host behind it, as that server knows it", "localhost")
	if err != nil {
		return newConfig{}, err
	}
	connection := draft.Table{{Key: "host", Value: server}}
	if number, err := strconv.Atoi(sshPort); err == nil {
		connection.Set("port", number)
	}
	name := remote
	if remote == "localhost" {
		name = server[strings.LastIndexByte(server, '@')+1:]
	} else {
		connection.Set("remote_host", remote)
	}
	return askService(ctx, d, "ssh", name, port, connection)
}

// askTCP asks for a host that this machine can reach.
func askTCP(ctx context.Context, d *dialog) (newConfig, error) {
	host, port, err := d.askHost(ctx, "Host", "")
	if err != nil {
		return newConfig{}, err
	}
	return askService(ctx, d, "tcp", host, port, draft.Table{{Key: "remote_host", Value: host}})
}

// askHost asks for a host. An answer with a port gives that too.
func (d *dialog) askHost(ctx context.Context, question, suggestion string) (host, port string, err error) {
	_, err = d.askValid(ctx, question, suggestion, func(text string) error {
		host, port = text, ""
		if name, number, err := net.SplitHostPort(text); err == nil {
			if _, err := strconv.ParseUint(number, 10, 16); err == nil {
				host, port = name, number
			}
		}
		return checkHost(host)
	})
	return host, port, err
}

// askService asks for the ports and the name of a service. The port there may be known already.
func askService(ctx context.Context, d *dialog, technology, host, knownPort string, connection draft.Table) (newConfig, error) {
	port, err := d.askPort(ctx, "Port there", knownPort)
	if err != nil {
		return newConfig{}, err
	}
	protocol := convert.ProtocolOfPort(port)
	label, _, _ := strings.Cut(host, ".")
	if _, err := strconv.Atoi(label); err == nil || label == "" { // an address
		label = string(protocol)
	}
	name, err := d.ask(ctx, "Name of the service", draft.Names{}.Add(label))
	if err != nil {
		return newConfig{}, err
	}
	svc := draft.Service{Name: draft.Names{}.Add(name)}
	localPort, comment := localPorts().Choose(svc.Name, "", port)
	suggestion := fmt.Sprint(draft.LocalPortValue(localPort))
	if comment != "" {
		d.printf("  (%s)\n", comment)
	}
	answer, err := d.askValid(ctx, `Port on this machine, or "auto"`, suggestion, checkLocalPort)
	if err != nil {
		return newConfig{}, err
	}
	svc.Set("technology", technology)
	if number, err := strconv.Atoi(answer); err == nil {
		svc.Set("local_port", number)
	} else {
		svc.Set("local_port", "auto")
	}
	svc.Set("remote_port", port)
	svc.Set("connection", connection)
	convert.SuggestCheck(&svc, protocol, "")
	config := draft.Config{Comment: []string{"Written by localport init. Every key: localport help config. After each change: localport allow"}, Services: []draft.Service{svc}}
	return newConfig{text: config.Text()}, nil
}

func (d *dialog) askPort(ctx context.Context, question, suggestion string) (port int, err error) {
	_, err = d.askValid(ctx, question, suggestion, func(text string) error {
		port, err = strconv.Atoi(text)
		if err != nil || port < 1 || port > 65535 {
			return errors.New("answer a port from 1 to 65535")
		}
		return nil
	})
	return port, err
}

func checkLocalPort(text string) error {
	port, err := strconv.Atoi(text)
	if text != "auto" && (err != nil || port < 1 || port > 65535) {
		return errors.New(`answer a port from 1 to 65535, or "auto"`)
	}
	return nil
}

func checkHost(text string) error {
	if text == "" || strings.ContainsAny(text, " \t") || strings.HasPrefix(text, "-") {
		return errors.New("answer the name or the address of a host")
	}
	return project.ValidateHost("port")(text[strings.LastIndexByte(text, '@')+1:])
}
