package ssh

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
)

// configKeys are the keys of a service's connection table.
var configKeys = []project.Key{
	{Name: "host", Type: project.TypeWord, Aliases: []string{"hostname", "server", "ssh_host"}, Required: true, Validate: validateDestination},
	{Name: "user", Type: project.TypeWord, Aliases: []string{"username", "ssh_user", "login"}},
	{Name: "port", Type: project.TypePort, Aliases: []string{"ssh_port"}},
	{Name: "key_file", Type: project.TypeFile, Aliases: []string{"identity_file", "identity", "identityfile", "keyfile", "ssh_key", "private_key", "key"}},
	{Name: "config_file", Type: project.TypeFile},
	{Name: "jump", Type: project.TypeWord, Aliases: []string{"proxy_jump", "proxyjump", "jump_host", "bastion"}},
	{Name: "options", Type: project.TypeTable, Aliases: []string{"ssh_options", "extra_args", "args"}, ReadEntry: formatOption}, // ssh's own, as with -o
	{Name: "multiplex", Type: project.TypeBool, Default: true},                                                                  // share the master with other services
	{Name: "socks", Type: project.TypeBool, Aliases: []string{"dynamic", "dynamic_forward", "socks5"}},                          // the local port is a SOCKS proxy
	{Name: "reverse", Type: project.TypeBool, Aliases: []string{"remote_forward"}},                                              // the server listens and forwards to the local port
	{Name: "remote_host", Type: project.TypeWord, Aliases: []string{"target", "target_host", "destination", "dest_host"}, Validate: project.ValidateHost("remote_port")},
}

// validateDestination accepts what ssh(1) does: [user@]hostname, or a URI ssh://[user@]hostname[:port].
func validateDestination(value any) error {
	host := value.(string)
	if strings.HasPrefix(host, "ssh://") {
		return nil
	}
	at := strings.LastIndexByte(host, '@')
	if name, port, err := net.SplitHostPort(host[at+1:]); err == nil && name != "" && port != "" {
		advice := fmt.Sprintf("host = %q, port = %s", name, port)
		if at >= 0 {
			advice = fmt.Sprintf("host = %q, user = %q, port = %s", name, host[:at], port)
		}
		return fmt.Errorf("must be a host name or an IP address without a port; write %s", advice)
	}
	return project.ValidateHost("port")(host[at+1:])
}

var optionNamePattern = project.LazyRegexp(`^[A-Za-z][A-Za-z0-9]*$`)

// formatOption returns the value of an ssh option as ssh expects it.
func formatOption(name string, value any) (string, error) {
	if !optionNamePattern().MatchString(name) {
		return "", errors.New("invalid ssh option name")
	}
	switch value := value.(type) {
	case int64:
		return strconv.FormatInt(value, 10), nil
	case bool:
		if value {
			return "yes", nil
		}
		return "no", nil
	}
	text := value.(string)
	if strings.ContainsAny(text, "\r\n") {
		return "", errors.New("must be a single line")
	}
	return text, nil
}

// completeService sets the default of remote_host and rejects keys that socks and reverse exclude.
func completeService(svc *project.Service, keys project.GivenKeys) {
	settings := svc.Connection.Settings
	isSOCKS := settings.Bool("socks")
	svc.Reverse = settings.Bool("reverse")
	if settings.Text("remote_host") == "" && !isSOCKS {
		settings["remote_host"] = defaultRemoteHost
	}
	const notWithSOCKS = "cannot be used with socks: each client chooses its own destination"
	switch {
	case isSOCKS && svc.Reverse:
		keys.RejectKey("connection.reverse", "cannot be used with socks")
	case isSOCKS && keys.Has("remote_port"):
		keys.RejectKey("remote_port", notWithSOCKS)
	case isSOCKS && keys.Has("connection.remote_host"):
		keys.RejectKey("connection.remote_host", notWithSOCKS)
	case !isSOCKS && !keys.Has("remote_port") && keys.Has("connection.socks"):
		keys.ReportMissing(`missing "remote_port": the port on the remote side`)
	case svc.Reverse && svc.AutoPort:
		keys.RejectKey("local_port", `"auto" cannot be used with reverse: set the port of the local server to forward to`)
	case svc.Reverse && svc.OnDemand:
		keys.RejectKey("start", `"on-demand" cannot be used with reverse: no client connects to the local port`)
	}
}

// defaultRemoteHost is resolved by the server: the ssh host itself.
const defaultRemoteHost = "localhost"

// connectionConfig holds the values of a service's configKeys.
type connectionConfig struct {
	host, user          string
	port                int // 0: that of the user's ssh configuration
	keyFile, configFile string
	jumpHosts           string
	options             map[string]string
	isUnshared          bool // multiplex = false
	isSOCKS, isReverse  bool
	remoteHost          string
}

func newConnectionConfig(svc project.Service) connectionConfig {
	settings := svc.Connection.Settings
	c := connectionConfig{
		host: settings.Text("host"), user: settings.Text("user"), port: settings.Number("port"),
		keyFile: settings.Text("key_file"), configFile: settings.Text("config_file"), jumpHosts: settings.Text("jump"),
		options: settings.Table("options"), isUnshared: settings["multiplex"] == false,
		isSOCKS: settings.Bool("socks"), isReverse: svc.Reverse, remoteHost: settings.Text("remote_host"),
	}
	if c.remoteHost == "" {
		c.remoteHost = defaultRemoteHost
	}
	return c
}
