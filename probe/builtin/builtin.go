// Package builtin lists every type of health check.
package builtin

import (
	"fmt"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/command"
	"github.com/localport-sh/localport/probe/grpc"
	"github.com/localport-sh/localport/probe/kafka"
	"github.com/localport-sh/localport/probe/mqtt"
	"github.com/localport-sh/localport/probe/mysql"
	"github.com/localport-sh/localport/probe/postgres"
	"github.com/localport-sh/localport/probe/redis"
	"github.com/localport-sh/localport/probe/tcp"
	"github.com/localport-sh/localport/probe/web"
	"github.com/localport-sh/localport/project"
)

// types are the types of health check. A new one is a package and a line here.
var types = []probe.Type{
	tcp.Type,
	web.HTTP,
	web.HTTPS,
	postgres.Type,
	redis.Type,
	mysql.Type,
	mqtt.Type,
	grpc.Type,
	command.Type,
	kafka.Type,
}

// NewCheck returns the check for a configuration; nil if its type is "none".
func NewCheck(c project.HealthCheck) (probe.Check, error) {
	if c.Type == project.CheckNone {
		return nil, nil
	}
	for _, kind := range types {
		if kind.Name == c.Type {
			return newCheck(kind, c.Settings)
		}
	}
	return nil, fmt.Errorf("unknown health check type %q", c.Type)
}

// Types returns the types that a config may use.
func Types() []project.CheckType {
	all := make([]project.CheckType, len(types))
	for i, kind := range types {
		all[i] = kind.CheckType
	}
	return all
}
