// Package mysql checks a MySQL or MariaDB server by logging in.
package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"

	mysql "github.com/go-sql-driver/mysql"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/secure"
	"github.com/localport-sh/localport/project"
)

// Type is the check of type "mysql": healthy if the login and a ping, or the query, succeed. Without a user, a refused login
// is healthy too: the server answers. (A greeting that is read but not answered would count against
// max_connect_errors, until the server blocks the host that the tunnel comes from.)
var Type = probe.Type{
	CheckType: project.CheckType{Name: "mysql", Keys: append([]project.Key{
		{Name: "user", Aliases: []string{"username"}},
		{Name: "password", Secret: true},
		{Name: "database", Aliases: []string{"db", "dbname"}},
		{Name: "query"},
	}, secure.Keys...)},
	New: func(s project.Settings) (probe.Check, error) {
		secured, err := secure.Config(s)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, dialer probe.Dialer) error {
			config := mysql.NewConfig()
			config.User, config.Passwd, config.DBName = s.Text("user"), s.Text("password"), s.Text("database")
			config.TLS = secured
			config.Logger = log.New(io.Discard, "", 0)
			config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return probe.LimitAnswer(dialer.Dial(ctx)) }
			err := check(ctx, config, s.Text("query"))
			if config.User == "" && isLoginError(err) {
				return nil
			}
			return explainError(ctx, err)
		}, nil
	},
}

func check(ctx context.Context, config *mysql.Config, query string) error {
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	conn, err := connector.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if query == "" {
		return conn.(driver.Pinger).Ping(ctx)
	}
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, query, nil)
	if err != nil {
		return err
	}
	return rows.Close()
}

// Error numbers (https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html).
const (
	errAccessDenied      = 1045
	errDBAccessDenied    = 1044
	errNoAuthPlugin      = 1251
	errAccessDeniedOther = 1698
	errUnknownDatabase   = 1049
	errTooManyConns      = 1040
	errHostBlocked       = 1129
	errHostNotAllowed    = 1130
)

func isLoginError(err error) bool {
	serverErr, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && slices.Contains([]uint16{errAccessDenied, errDBAccessDenied, errNoAuthPlugin, errAccessDeniedOther}, serverErr.Number)
}

// hints are the next steps of the user, by the number of the error.
var hints = map[uint16]string{
	errAccessDenied:      "check health_check.user and health_check.password",
	errAccessDeniedOther: "check health_check.user and health_check.password",
	errDBAccessDenied:    "check health_check.database",
	errUnknownDatabase:   "set health_check.database",
	errTooManyConns:      "close connections, or raise max_connections",
	errHostBlocked:       "run mysqladmin flush-hosts on the server",
	errHostNotAllowed:    "on the server, allow the user to connect from the host where the tunnel ends",
}

func explainError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var serverErr *mysql.MySQLError
	switch {
	case errors.As(err, &serverErr):
		return &probe.Failure{Reason: fmt.Sprintf("%s (error %d)", serverErr.Message, serverErr.Number), Hint: hints[serverErr.Number]}
	case ctx.Err() != nil:
		return fmt.Errorf("log in: %w", ctx.Err())
	case errors.Is(err, mysql.ErrNoTLS):
		return &probe.Failure{Reason: "the server does not support TLS", Hint: "set health_check.tls = false"}
	case errors.Is(err, mysql.ErrMalformPkt), errors.Is(err, mysql.ErrPktSync):
		return &probe.Failure{Reason: "the answer is not a MySQL packet: " + err.Error()}
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, io.EOF):
		return errors.New("the server closed the connection before its greeting")
	}
	return secure.ExplainError(err)
}
