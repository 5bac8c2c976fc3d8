package ssh

import (
	"errors"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
)

// keys are what a service says in connection.
var keys = []project.Key{
	{Name: "host", Is: project.Word, Required: true},
	{Name: "user", Is: project.Word},
	{Name: "port", Is: project.Port},
	{Name: "key_file", Is: project.File},
	{Name: "config_file", Is: project.File},
	{Name: "jump", Is: project.Word},
	{Name: "options", Is: project.Table, Entry: optionValue}, // those of -o
	{Name: "multiplex", Is: project.Flag, Default: true},     // other services may share its ssh
	{Name: "socks", Is: project.Flag},                        // the local port speaks SOCKS, and leads wherever a client asks
	{Name: "reverse", Is: project.Flag},                      // the far side listens, and leads to the local port
	{Name: "remote_host", Is: project.Word},
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
func finish(s *project.Service, keys project.Given) {
	given := s.Connection.Settings
	socks := given.Flag("socks")
	s.Reverse = given.Flag("reverse")
	if given.Text("remote_host") == "" && !socks {
		given["remote_host"] = localhost
	}
	const eachClient = "means nothing to a SOCKS port: each client says where it wants to go"
	switch {
	case socks && s.Reverse:
		keys.Reject("connection.reverse", "a forward is either a SOCKS port here or a port of the far side")
	case socks && keys.Has("remote_port"):
		keys.Reject("remote_port", eachClient)
	case socks && keys.Has("connection.remote_host"):
		keys.Reject("connection.remote_host", eachClient)
	case !socks && !keys.Has("remote_port") && keys.Has("connection.socks"):
		keys.Miss(`missing "remote_port": the port on the remote side`)
	case s.Reverse && s.AutoPort:
		keys.Reject("local_port", `"auto" means nothing here: it is the port of a server of your own, which the far side is led to`)
	case s.Reverse && s.OnDemand:
		keys.Reject("start", "nobody connects to a reverse forward here: it cannot wait for that")
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
		socks: given.Flag("socks"), reverse: svc.Reverse, remoteHost: given.Text("remote_host"),
	}
	if c.remoteHost == "" {
		c.remoteHost = localhost
	}
	return c
}
