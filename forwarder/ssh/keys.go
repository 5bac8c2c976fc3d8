package ssh

import (
	"errors"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
)

// keys are what a service says in connection.
var keys = []project.Key{
	{Name: "host", Type: project.TypeWord, Required: true},
	{Name: "user", Type: project.TypeWord},
	{Name: "port", Type: project.TypePort},
	{Name: "key_file", Type: project.TypeFile},
	{Name: "config_file", Type: project.TypeFile},
	{Name: "jump", Type: project.TypeWord},
	{Name: "options", Type: project.TypeTable, ReadEntry: optionValue}, // those of -o
	{Name: "multiplex", Type: project.TypeBool, Default: true},         // other services may share its ssh
	{Name: "socks", Type: project.TypeBool},                            // the local port speaks SOCKS, and leads wherever a client asks
	{Name: "reverse", Type: project.TypeBool},                          // the far side listens, and leads to the local port
	{Name: "remote_host", Type: project.TypeWord},
}

var optionName = lazily(`^[A-Za-z][A-Za-z0-9]*$`)

// optionValue is the value of one of ssh's own options, as ssh wants it.
func optionValue(name string, value any) (string, error) {
	if !optionName().MatchString(name) {
		return "", errors.New("is no name of an ssh option")
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
		return "", errors.New("must be one line")
	}
	return text, nil
}

// finish fills in the host of the far end, and rejects keys that make no sense with where connections come from and go to.
func finish(s *project.Service, keys project.GivenKeys) {
	given := s.Connection.Settings
	socks := given.Bool("socks")
	s.Reverse = given.Bool("reverse")
	if given.Text("remote_host") == "" && !socks {
		given["remote_host"] = localhost
	}
	const eachClient = "means nothing to a SOCKS port: each client says where it wants to go"
	switch {
	case socks && s.Reverse:
		keys.RejectKey("connection.reverse", "a forward is either a SOCKS port here or a port of the far side")
	case socks && keys.Has("remote_port"):
		keys.RejectKey("remote_port", eachClient)
	case socks && keys.Has("connection.remote_host"):
		keys.RejectKey("connection.remote_host", eachClient)
	case !socks && !keys.Has("remote_port") && keys.Has("connection.socks"):
		keys.ReportMissing(`missing "remote_port": the port on the remote side`)
	case s.Reverse && s.AutoPort:
		keys.RejectKey("local_port", `"auto" means nothing here: it is the port of a server of your own, which the far side is led to`)
	case s.Reverse && s.OnDemand:
		keys.RejectKey("start", "nobody connects to a reverse forward here: it cannot wait for that")
	}
}

// localhost is the ssh host as it itself understands it.
const localhost = "localhost"

// connection is the keys of a service.
type connection struct {
	host, user          string
	port                int // 0: as the user's configuration says
	keyFile, configFile string
	jump                string
	options             map[string]string
	alone               bool // no other service shares its ssh
	socks, reverse      bool
	remoteHost          string
}

func connectionOf(svc project.Service) connection {
	given := svc.Connection.Settings
	c := connection{
		host: given.Text("host"), user: given.Text("user"), port: given.Number("port"),
		keyFile: given.Text("key_file"), configFile: given.Text("config_file"), jump: given.Text("jump"),
		options: given.Table("options"), alone: given["multiplex"] == false,
		socks: given.Bool("socks"), reverse: svc.Reverse, remoteHost: given.Text("remote_host"),
	}
	if c.remoteHost == "" {
		c.remoteHost = localhost
	}
	return c
}
