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

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/compose"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/localportyaml"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/sshforwards"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/testdata/examples"
)

// compose makes the text of the config, from the source that the flags name.
func (c initCmd) compose(ctx context.Context, a *app, d *dialog, target string) (newConfig, error) {
	switch {
	case c.Example.isGiven:
		return exampleConfig(c.Example.name)
	case c.From != "":
		return convertFile(c.From)
	case c.FromSSHConfig:
		return convertSSHConfig(ctx, c.SSHFile, c.Hosts)
	case c.FromKubectl:
		return c.kubectlConfig(ctx, a, d, target)
	case d != nil:
		return c.converse(ctx, a, d, target)
	}
	return newConfig{text: configTemplate}, nil
}

// listExamples prints the names of the examples.
func listExamples(a *app) error {
	for _, example := range examples.All {
		if _, err := fmt.Fprintf(a.out, "%-14s %s\n", example.Name, example.Title); err != nil {
			return err
		}
	}
	return nil
}

func exampleConfig(name string) (newConfig, error) {
	text, ok := examples.Config(name)
	if !ok {
		return newConfig{}, output.Usage(fmt.Errorf("unknown example %q (%s)%s", name, strings.Join(examples.Names(), ", "), project.SuggestNearest(name, examples.Names())))
	}
	return newConfig{text: text}, nil
}

// maxSourceFile bounds the files that are converted: a larger one is something else.
const maxSourceFile = 4 << 20

// convertFile converts a compose file, which has a mapping of services, or a localport.yaml, which has a list.
func convertFile(path string) (newConfig, error) {
	name := output.EscapeLine(displayPath(path))
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return newConfig{}, fmt.Errorf("read %s: %w", name, errors.Unwrap(err))
	case info.IsDir():
		return newConfig{}, fmt.Errorf("%s is a directory: name the file in it", output.EscapeLine(path))
	case info.Size() > maxSourceFile:
		return newConfig{}, fmt.Errorf("%s is larger than %d MB, the limit for a config", output.EscapeLine(path), maxSourceFile>>20)
	case strings.HasSuffix(path, ".toml"):
		return newConfig{}, output.WithHint(fmt.Errorf("%s is TOML: only YAML of other tools can be converted", output.EscapeLine(path)), "to use a config of LocalPort, copy it: cp "+output.ShellWord(displayPath(path))+" "+project.ConfigName)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return newConfig{}, err
	}
	result, err := localportyaml.Convert(name, data)
	if composed, composeErr := compose.Convert(name, data); composeErr == nil {
		result, err = composed, nil
		result.Findings = append(result.Findings, overrideFinding(path)...)
	} else if errors.Is(err, localportyaml.ErrNoServices) {
		err = composeErr
	}
	if err == nil && len(result.Config.Services) == 0 {
		errs := []error{fmt.Errorf("%s has no service that can be converted", name)}
		for _, finding := range result.Findings {
			errs = append(errs, errors.New(finding.String()))
		}
		err = errors.Join(errs...)
	}
	return newConfig{text: result.Text(), findings: result.Findings}, hintFormat(err)
}

// hintFormat adds to an error about the form of a file what to write.
func hintFormat(err error) error {
	if format, ok := errors.AsType[*yamlfile.FormatError](err); ok && format.Advice != "" {
		return output.WithHint(err, format.Advice)
	}
	return err
}

// overrideFinding says that compose merges another file into this one by itself, which has not been read.
func overrideFinding(path string) []convert.Finding {
	extension := filepath.Ext(path)
	override := strings.TrimSuffix(path, extension) + ".override" + extension
	if _, err := os.Stat(override); err != nil {
		return nil
	}
	return []convert.Finding{{Path: output.EscapeLine(displayPath(override)), Message: "was not read, but compose merges it into the other file: add what it changes by hand"}}
}

// displayPath returns a path relative to the current directory, if it is below.
func displayPath(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	relative, err := filepath.Rel(dir, path)
	if err != nil || strings.HasPrefix(relative, "..") {
		return path
	}
	return relative
}

// convertSSHConfig converts the forwards of these hosts of ssh or, if none is given, of all that the config names.
func convertSSHConfig(ctx context.Context, file string, names []string) (newConfig, error) {
	isGiven := len(names) > 0
	if !isGiven {
		var err error
		if names, err = ssh.ConfiguredHosts(file); err != nil {
			return newConfig{}, err
		}
	}
	var hosts []sshforwards.Host
	for _, name := range names {
		forwards, err := ssh.ConfiguredForwards(ctx, file, name)
		if err != nil {
			return newConfig{}, fmt.Errorf("read the forwards of %s: %w", output.EscapeLine(name), err)
		}
		hosts = append(hosts, sshforwards.Host{Name: name, Forwards: forwards})
	}
	result := sshforwards.Convert(hosts, file, localPorts())
	if len(result.Config.Services)+len(result.Findings) == 0 {
		return newConfig{}, noForwardsError(output.EscapeLine(ssh.ConfigFile(file)), names, isGiven)
	}
	result.Config.Comment = []string{"Made from " + ssh.ConfigFile(file) + ". ssh need not make these forwards any more. Review it, then run: localport allow"}
	return newConfig{text: result.Text(), findings: result.Findings}, nil
}

func noForwardsError(file string, names []string, isGiven bool) error {
	hint := `write a service by hand, starting with: localport init --example bastion`
	if isGiven {
		return output.WithHint(fmt.Errorf("%s has no LocalForward, RemoteForward or DynamicForward for %s", file, output.EscapeLine(strings.Join(names, ", "))),
			`"ssh -G `+output.ShellWord(names[0])+`" shows what it has; `+hint)
	}
	return output.WithHint(fmt.Errorf("%s has no LocalForward, RemoteForward or DynamicForward for any host", file), hint)
}

// localPorts chooses local ports that are free on this machine.
func localPorts() *draft.LocalPorts { return &draft.LocalPorts{Holder: programOnPort} }

// programOnPort names the program that listens on a port of an address or, if that is empty, of one of the two loopback addresses.
func programOnPort(address string, port int) string {
	hosts := []string{address}
	if address == "" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	for _, host := range hosts {
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			_ = ln.Close()
		} else if errors.Is(err, unix.EADDRINUSE) {
			return "another program of this machine"
		}
	}
	return ""
}

// parseNewConfig parses a config that has not been written. With a checkPath, it reports what "localport config validate" will.
func parseNewConfig(path, text string, checkPath func(project.PathUse) error) (*project.Project, error) {
	files, err := project.ReadFilesAround(path, []byte(text))
	if err != nil {
		return nil, err
	}
	return project.Parse(files, project.Options{
		Getenv: environ.Undo(environ.Parse(os.Environ())).Lookup, CheckPath: checkPath,
		Checks: builtin.Types(), Technologies: supervisor.Technologies(),
		PickAutoPort: func(service string) int {
			return project.PickAutoPort(filepath.Dir(path), service, func(int) bool { return false })
		},
	})
}
