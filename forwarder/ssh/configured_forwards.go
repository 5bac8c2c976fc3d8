package ssh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ForwardKind is the option of ssh_config(5) that a forward comes from.
type ForwardKind string

// The kinds of forwards.
const (
	LocalForward   ForwardKind = "LocalForward"
	RemoteForward  ForwardKind = "RemoteForward"
	DynamicForward ForwardKind = "DynamicForward"
)

// ConfiguredForward is a forward that the user's ssh_config sets for a host.
type ConfiguredForward struct {
	Kind       ForwardKind
	ListenHost string // empty: ssh's default, the loopback
	ListenPort int    // 0: a path, or chosen by the server
	Host       string // where it leads; empty in a DynamicForward, or if it is a path
	Port       int
	Text       string // the values as "ssh -G" prints them
}

// ConfigFile returns the path of the ssh_config whose hosts ConfiguredHosts lists: the given one or, if that is empty, the user's.
func ConfigFile(configFile string) string {
	if configFile != "" {
		return configFile
	}
	return userConfigFile()
}

// ConfiguredHosts returns the names without wildcards that the Host lines of an ssh_config and of the files that it includes have, each once, in
// their order. The error is that of reading the file; one that is missing has no hosts, unless it was given.
func ConfiguredHosts(configFile string) ([]string, error) {
	files := []string{ConfigFile(configFile)}
	if _, err := os.ReadFile(files[0]); err != nil && (configFile != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	for i := 0; i < len(files) && i < maxConfigFiles; i++ {
		for _, included := range includedFiles(files[i]) {
			if !slices.Contains(files, included) {
				files = append(files, included)
			}
		}
	}
	var hosts []string
	for _, host := range hostAliases(files) {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts, nil
}

// configDumpTimeout limits a run of "ssh -G", which connects to nothing but may run the commands of Match exec.
const configDumpTimeout = 10 * time.Second

// ConfiguredForwards asks ssh which forwards it would make for a host. An error has what ssh said.
func ConfiguredForwards(ctx context.Context, configFile, host string) ([]ConfiguredForward, error) {
	ctx, cancel := context.WithTimeout(ctx, configDumpTimeout)
	defer cancel()
	argv := []string{"-G"}
	if configFile != "" {
		argv = append(argv, "-F", configFile)
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, "ssh", append(argv, "--", host)...)
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	output, err := cmd.Output()
	if err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return nil, errors.New(text)
		}
		return nil, fmt.Errorf("ssh -G %s: %w", host, err)
	}
	return parseConfigDump(string(output)), nil
}

// parseConfigDump returns the forwards in the output of "ssh -G". ssh prints a forward from or to a socket file as a DynamicForward too, before the
// others (dump_cfg_forwards in its readconf.c): that is none.
func parseConfigDump(text string) []ConfiguredForward {
	var forwards, dynamic []ConfiguredForward
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "localforward":
			forwards = append(forwards, newConfiguredForward(LocalForward, words[1:]))
		case "remoteforward":
			forwards = append(forwards, newConfiguredForward(RemoteForward, words[1:]))
		case "dynamicforward":
			dynamic = append(dynamic, newConfiguredForward(DynamicForward, words[1:]))
		}
	}
	for _, forward := range dynamic {
		if !slices.ContainsFunc(forwards, func(other ConfiguredForward) bool { return isSameListener(other, forward) }) {
			forwards = append(forwards, forward)
		}
	}
	return forwards
}

func isSameListener(a, b ConfiguredForward) bool {
	listener, _, _ := strings.Cut(a.Text, " ")
	return a.Kind == LocalForward && listener == b.Text
}

func newConfiguredForward(kind ForwardKind, words []string) ConfiguredForward {
	f := ConfiguredForward{Kind: kind, Text: strings.Join(words, " ")}
	f.ListenHost, f.ListenPort = splitListener(words[0])
	if len(words) > 1 {
		f.Host, f.Port = splitListener(words[1])
	}
	return f
}

// splitListener splits "PORT" and "[HOST]:PORT"; a path has neither.
func splitListener(word string) (host string, port int) {
	if strings.HasPrefix(word, "/") {
		return "", 0
	}
	if host, portText, err := net.SplitHostPort(word); err == nil {
		port, _ = strconv.Atoi(portText)
		return host, port
	}
	port, _ = strconv.Atoi(word)
	return "", port
}
