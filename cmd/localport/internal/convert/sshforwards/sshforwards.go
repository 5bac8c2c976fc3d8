// Package sshforwards writes the LocalForward, RemoteForward and DynamicForward entries of an ssh_config as services of a config.
package sshforwards

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/project/draft"
)

// Host is a host of ssh and the forwards that ssh_config sets for it.
type Host struct {
	Name     string
	Forwards []ssh.ConfiguredForward
}

// Convert makes a service of each forward. configFile is the ssh_config, if it is not the user's.
func Convert(hosts []Host, configFile string, ports *draft.LocalPorts) convert.Result {
	c := &converter{names: draft.Names{}, ports: ports, configFile: configFile}
	for _, host := range hosts {
		for _, forward := range host.Forwards {
			c.add(host.Name, forward)
		}
	}
	return convert.Result{Config: draft.Config{Services: c.services}, Findings: c.findings}
}

type converter struct {
	names      draft.Names
	ports      *draft.LocalPorts
	configFile string
	services   []draft.Service
	findings   []convert.Finding
}

func (c *converter) report(host string, forward ssh.ConfiguredForward, format string, args ...any) {
	c.findings = append(c.findings, convert.Finding{
		Path: "ssh -G " + host, Key: fmt.Sprintf("%s %s", forward.Kind, forward.Text), Message: fmt.Sprintf(format, args...),
	})
}

func (c *converter) add(host string, forward ssh.ConfiguredForward) {
	isPath := strings.Contains(forward.Text, "/")
	switch {
	case isPath:
		c.report(host, forward, "left out: LocalPort forwards TCP ports, not socket files")
	case forward.Kind == ssh.RemoteForward && forward.Host == "socks":
		c.report(host, forward, "left out: LocalPort has no SOCKS proxy on the server's side; use a reverse service with the one port that the server needs")
	case forward.ListenPort == 0:
		c.report(host, forward, "left out: the server would choose the port")
	default:
		c.services = append(c.services, c.newService(host, forward))
	}
}

func (c *converter) newService(host string, forward ssh.ConfiguredForward) draft.Service {
	name := serviceName(host, forward)
	if c.names.Contains(name) && !strings.HasPrefix(name, host) {
		name = host + "-" + name
	}
	name = c.names.Add(name)
	svc := draft.Service{Name: name, Comment: []string{fmt.Sprintf("%s of %s: %s", forward.Kind, host, forward.Text)}}
	connection := draft.Table{{Key: "host", Value: host}}
	connection.Set("config_file", c.configFile)
	svc.Set("technology", "ssh")
	switch forward.Kind {
	case ssh.LocalForward:
		c.setListener(&svc, host, forward)
		svc.Set("remote_port", forward.Port)
		connection.Set("remote_host", remoteHost(forward.Host))
	case ssh.DynamicForward:
		c.setListener(&svc, host, forward)
		connection.Set("socks", true)
	case ssh.RemoteForward:
		svc.Set("local_port", forward.Port)
		svc.Set("remote_port", forward.ListenPort)
		connection.Set("remote_host", forward.ListenHost)
		connection.Set("reverse", true)
		if !isLoopbackName(forward.Host) {
			c.report(host, forward, "a reverse service leads to this machine's %d, not to %s: run a tcp service for that first, and use its port", forward.Port, forward.Host)
		}
	}
	svc.Set("connection", connection)
	return svc
}

// setListener sets local_port and, for a loopback address other than the usual ones, local_address.
func (c *converter) setListener(svc *draft.Service, host string, forward ssh.ConfiguredForward) {
	address, err := netip.ParseAddr(forward.ListenHost)
	localAddress := ""
	if err == nil && address.IsLoopback() && address.Is4() && address.String() != "127.0.0.1" {
		localAddress = forward.ListenHost
	}
	if !isLoopbackName(forward.ListenHost) && forward.ListenHost != "" {
		c.report(host, forward, "other machines cannot connect to it any more: LocalPort listens on this machine's loopback only; see bridge for containers")
	}
	port, comment := c.ports.Choose(svc.Name, localAddress, forward.ListenPort)
	svc.Entries = append(svc.Entries, draft.Entry{Key: "local_port", Value: draft.LocalPortValue(port), Comment: comment})
	svc.Set("local_address", localAddress)
}

func isLoopbackName(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// remoteHost returns the host that a server connects to; empty for the server itself.
func remoteHost(host string) string {
	if host == "localhost" {
		return ""
	}
	return host
}

// serviceName returns what a forward is known by: the host that it leads to, or what the port is usually for.
func serviceName(host string, forward ssh.ConfiguredForward) string {
	label, _, _ := strings.Cut(forward.Host, ".")
	_, err := netip.ParseAddr(forward.Host)
	isName := err != nil && !isLoopbackName(forward.Host) && label != ""
	switch protocol := convert.ProtocolOfPort(forward.Port); {
	case forward.Kind == ssh.DynamicForward:
		return host + "-socks"
	case forward.Kind == ssh.RemoteForward:
		return fmt.Sprintf("%s-reverse-%d", host, forward.ListenPort)
	case isName:
		return label
	case protocol != convert.Unknown && protocol != convert.HTTP && protocol != convert.HTTPS:
		return host + "-" + string(protocol)
	}
	return fmt.Sprintf("%s-%d", host, forward.Port)
}
