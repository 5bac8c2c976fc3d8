// Package postgres checks a PostgreSQL server with a login and a query.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/secure"
	"github.com/localport-sh/localport/project"
)

// Type is the check of type "postgres": healthy if the query is answered. Without keys it logs in as user postgres to
// the database of that name, with TLS if the server supports it.
var Type = probe.Type{
	CheckType: project.CheckType{Name: "postgres", Keys: []project.Key{
		{Name: "user", Aliases: []string{"username"}, Default: "postgres"},
		{Name: "password", Secret: true},
		{Name: "database", Aliases: []string{"db", "dbname"}},
		{Name: "sslmode", Aliases: []string{"ssl", "tls"}, Default: "prefer", Values: []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}},
		{Name: "ca_file", Type: project.TypeFile},
		{Name: "server_name"},
		{Name: "query", Default: "SELECT 1"},
	}},
	New: func(s project.Settings) (probe.Check, error) {
		unsetLibpqVariables()
		config, err := newConfig(s)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, dialer probe.Dialer) error {
			return check(ctx, dialer, config, s.Text("query"))
		}, nil
	},
}

// unsetLibpqVariables removes libpq's variables from this process: pgconn takes what a config does not set from them, and it
// has no option against that. Children get their environment from elsewhere.
func unsetLibpqVariables() {
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name)
		}
	}
}

// localName is the server's name if it is not known. It is never looked up.
const localName = "localhost"

func newConfig(s project.Settings) (*pgconn.Config, error) {
	name := s.Text("server_name")
	if name == "" {
		name = localName
		if s.Text("sslmode") == "verify-full" {
			return nil, errors.New(`sslmode "verify-full" requires server_name, a name in the certificate`)
		}
	}
	keywords := []string{
		"host=" + quoteValue(name), "port=5432", "user=" + quoteValue(s.Text("user")), "sslmode=" + quoteValue(s.Text("sslmode")),
		"passfile=/dev/null", "application_name=localport",
	}
	if database := s.Text("database"); database != "" {
		keywords = append(keywords, "dbname="+quoteValue(database))
	}
	if file := s.Text("ca_file"); file != "" {
		keywords = append(keywords, "sslrootcert="+quoteValue(file))
	}
	config, err := pgconn.ParseConfig(strings.Join(keywords, " "))
	if err != nil {
		return nil, err
	}
	config.Password = s.Text("password")
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		frontend := pgproto3.NewFrontend(r, w)
		frontend.SetMaxBodyLen(probe.MaxAnswer) // it allocates the length that the server announces
		return frontend
	}
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	return config, nil
}

// quoteValue quotes a value of libpq's keyword=value form.
func quoteValue(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

func check(ctx context.Context, dialer probe.Dialer, template *pgconn.Config, query string) error {
	var conns dialedConns
	defer conns.close() // ends what pgconn still does in the background
	config := template.Copy()
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return probe.LimitAnswer(conns.add(dialer.Dial(ctx)))
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if dialErr := conns.dialError(); dialErr != nil {
		return dialErr // the tunnel's own error; pgconn repeats it for each attempt
	}
	if err != nil {
		return explainError(ctx, err, conns.serverAddress(dialer), template.Password == "")
	}
	_, err = conn.Exec(ctx, query).ReadAll()
	if ctx.Err() != nil {
		conns.close() // Close would wait for an answer
	}
	_ = conn.Close(ctx) // sends Terminate, so that the server logs no error
	<-conn.CleanupDone()
	if err != nil {
		return explainError(ctx, err, conns.serverAddress(dialer), false)
	}
	return nil
}

// dialedConns holds the connections of one check.
type dialedConns struct {
	mu   sync.Mutex
	open []net.Conn
	err  error // of the last dial
}

func (c *dialedConns) add(conn net.Conn, err error) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err = err; err != nil {
		return nil, err
	}
	c.open = append(c.open, conn)
	return conn, nil
}

func (c *dialedConns) dialError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// serverAddress is the address of the service, for messages: the one that clients connect to, which pgconn does not know.
func (c *dialedConns) serverAddress(dialer probe.Dialer) string {
	if service, ok := dialer.(probe.LocalAddress); ok {
		return service.LocalAddr().String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) == 0 {
		return "the server"
	}
	return c.open[len(c.open)-1].RemoteAddr().String()
}

func (c *dialedConns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		conn.Close()
	}
}

// Error codes (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	invalidPassword      = "28P01"
	invalidAuthorization = "28000"
	noDatabase           = "3D000"
	tooManyConnections   = "53300"
	cannotConnectNow     = "57P03"
)

// explainError returns a Failure with the server's own message if it sent one. Any other error names the server by its address.
func explainError(ctx context.Context, err error, address string, hasNoPassword bool) error {
	if serverErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return &probe.Failure{Reason: fmt.Sprintf("%s (SQLSTATE %s)", serverErr.Message, serverErr.Code), Hint: hintFor(serverErr.Code, hasNoPassword)}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("log in: %w", ctx.Err())
	}
	err = lastAttempt(err)
	if isTLSRefusal(err) {
		return &probe.Failure{Reason: "the server does not support TLS", Hint: `set health_check.sslmode = "prefer" or "disable"`}
	}
	err = secure.ExplainResponseError(ctx, err)
	if errors.As(err, new(*probe.Failure)) {
		return err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op // pgconn puts the step of the login before it
	}
	return fmt.Errorf("%s: %w", address, err)
}

// lastAttempt returns the error of the last attempt to log in, of which sslmode allows two: with TLS and without. An attempt with TLS
// that the server refused counts only if there was no other. pgconn returns the errors of all attempts, one on each line, with the
// placeholder address that it was given; this one has neither.
func lastAttempt(err error) error {
	connectErr, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok {
		return err
	}
	attempts, ok := connectErr.Unwrap().(interface{ Unwrap() []error })
	if !ok {
		return connectErr.Unwrap()
	}
	var last error
	for _, attempt := range attempts.Unwrap() {
		if cause := errors.Unwrap(attempt); cause != nil {
			attempt = cause // without the address
		}
		if last == nil || !isTLSRefusal(attempt) {
			last = attempt
		}
	}
	return last
}

func isTLSRefusal(err error) bool {
	return strings.Contains(err.Error(), "server refused TLS connection")
}

func hintFor(code string, hasNoPassword bool) string {
	switch code {
	case invalidPassword, invalidAuthorization:
		if hasNoPassword {
			return "set health_check.password"
		}
		return "check health_check.user and health_check.password"
	case noDatabase:
		return "set health_check.database"
	case cannotConnectNow:
		return "the server is starting; wait until it accepts connections"
	case tooManyConnections:
		return "close connections, or raise max_connections"
	}
	return ""
}
