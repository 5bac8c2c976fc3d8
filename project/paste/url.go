package paste

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project/draft"
)

// urlScheme is what is known of the servers of a URL's scheme.
type urlScheme struct {
	port  int // the default; 0: none
	name  string
	check func(*urlTarget) draft.Table // nil: the default check, of TCP
}

// urlSchemes returns the known schemes. It is no variable: few runs of the program need it.
func urlSchemes() map[string]urlScheme {
	return map[string]urlScheme{
		"postgres": {5432, "postgres", postgresCheck}, "postgresql": {5432, "postgres", postgresCheck},
		"mysql": {3306, "mysql", mysqlCheck}, "mariadb": {3306, "mysql", mysqlCheck},
		"redis": {6379, "redis", redisCheck}, "rediss": {6379, "redis", redisCheck}, "valkey": {6379, "redis", redisCheck}, "valkeys": {6379, "redis", redisCheck},
		"http": {80, "http", webCheck}, "https": {443, "https", webCheck}, "ws": {80, "http", nil}, "wss": {443, "https", nil},
		"kafka": {9092, "kafka", kafkaCheck}, "mqtt": {1883, "mqtt", mqttCheck}, "mqtts": {8883, "mqtt", mqttCheck}, "grpc": {0, "grpc", grpcCheck},
		"mongodb": {port: 27017, name: "mongodb"}, "amqp": {port: 5672, name: "rabbitmq"}, "amqps": {port: 5671, name: "rabbitmq"},
		"nats": {port: 4222, name: "nats"}, "memcached": {port: 11211, name: "memcached"}, "sqlserver": {port: 1433, name: "sqlserver"}, "ldap": {port: 389, name: "ldap"},
		"ldaps": {port: 636, name: "ldap"}, "clickhouse": {port: 9000, name: "clickhouse"}, "cassandra": {port: 9042, name: "cassandra"}, "tcp": {},
	}
}

// urlTarget is a URL whose server a service leads to.
type urlTarget struct {
	url      *url.URL
	scheme   string         // without a driver, such as the "+asyncpg" of SQLAlchemy
	password draft.Template // empty, or a variable
	check    func(*urlTarget) draft.Table
}

// isNamedURL reports whether the words are NAME URL.
func isNamedURL(words []string) bool {
	return len(words) > 1 && strings.Contains(words[1], "://") && !strings.HasPrefix(words[1], "ssh://") && !strings.HasPrefix(words[0], "-") &&
		!strings.Contains(words[0], "://") && !assignmentPattern().MatchString(words[0])
}

// readNamedURL adds the service of NAME URL [LOCAL].
func (r *reader) readNamedURL(name string, words []string) error {
	if err := checkName(name); err != nil {
		return err
	}
	r.result.WrittenNames = append(r.result.WrittenNames, strings.ToLower(name))
	return r.addURL(name, words)
}

// readURL adds the service of URL [LOCAL].
func (r *reader) readURL(words []string) error { return r.addURL("", words) }

func (r *reader) addURL(name string, words []string) error {
	const form = "write NAME URL [LOCAL], for example: db postgres://app@db.internal/shop"
	target, err := parseTarget(words[0])
	if err != nil {
		return err
	}
	scheme, isKnown := urlSchemes()[target.scheme]
	port := scheme.port
	if text := target.url.Port(); text != "" {
		if port, err = parsePort(text); err != nil {
			return &Error{Word: target.url.Host, Reason: "the port is not 1-65535"}
		}
	}
	host := target.url.Hostname()
	switch {
	case port == 0:
		return &Error{Word: target.shown(), Reason: "the port is missing", Advice: "write it after the host: " + target.scheme + "://" + target.url.Host + ":PORT"}
	case len(words) > 2:
		return &Error{Word: words[2], Reason: "one URL and one local port are expected", Advice: form}
	case !isKnown:
		r.note("%s:// is forwarded as TCP: its health check only connects", target.scheme)
	}
	if err := checkHost(host); err != nil {
		return err
	}
	if name == "" {
		name = nameOfHost(host, port, host)
	}
	d := newTCPService(name, host, port)
	if len(words) == 2 {
		if d.localPort, err = parsePort(words[1]); err != nil && words[1] != "auto" {
			return &Error{Word: words[1], Reason: "the local port is not 1-65535", Advice: form}
		}
	}
	target.check = scheme.check
	d.target = target
	r.pending = append(r.pending, d)
	return nil
}

// parseTarget parses a URL, which is a text of a config.
func parseTarget(word string) (*urlTarget, error) {
	text := strings.TrimPrefix(strings.ReplaceAll(word, "$$", "$"), "jdbc:")
	before, after, _ := strings.Cut(text, "://")
	scheme, _, _ := strings.Cut(strings.ToLower(before), "+")
	authority, _, _ := strings.Cut(after, "/")
	hosts := authority[strings.LastIndexByte(authority, '@')+1:]
	switch {
	case strings.HasSuffix(strings.ToLower(before), "+srv"):
		return nil, &Error{Word: before, Reason: "such a URL names several servers by their DNS records", Advice: "write the address of one of them, for example mongodb://HOST:27017"}
	case strings.Contains(hosts, ","):
		return nil, &Error{Word: hosts, Reason: "a service leads to one server", Advice: "write one URL for each of them"}
	case strings.Contains(word, "${"):
		return nil, &Error{Word: before + "://…", Reason: "a variable cannot be part of a URL here", Advice: "write its value, or the host and the port in the config"}
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return nil, &Error{Word: before + "://…", Reason: "not a URL", Advice: "write SCHEME://HOST:PORT, with special characters of a password percent-encoded"}
	}
	return &urlTarget{url: u, scheme: scheme}, nil
}

// shown returns the URL without its password.
func (t *urlTarget) shown() string { return t.url.Redacted() }

// finishTarget adds the health check of a URL's server, and to [env] the URL through the service.
func (r *reader) finishTarget(svc *draft.Service, t *urlTarget) {
	password, _ := t.url.User.Password()
	isEncoded := url.UserPassword("", password).String() != ":"+password
	if password != "" {
		name := draft.SecretVariable(svc.Name, "password")
		t.password = draft.Template("${" + name + "}")
		r.result.Secrets = append(r.result.Secrets, Variable{Name: name, Value: password})
	}
	if t.check != nil {
		svc.Set("health_check", t.check(t))
	}
	switch {
	case t.isTLS(): // the certificate is not that of the local address
	case isEncoded:
		r.note("no variable with the URL is added: the password has characters that are written differently in a URL")
	default:
		r.result.Env.Set(draft.VariableName(svc.Name)+"_URL", t.throughService(svc.Name))
	}
}

// throughService returns the URL with the service's address.
func (t *urlTarget) throughService(service string) draft.Template {
	u := *t.url
	const addressMark = "address.invalid"
	u.Host = addressMark
	prefix := ""
	if u.User != nil {
		prefix = draft.EscapeTemplate(url.User(u.User.Username()).String())
		if t.password != "" {
			prefix += ":" + string(t.password)
		}
		prefix += "@"
		u.User = nil
	}
	before, after, _ := strings.Cut(u.String(), addressMark)
	return draft.Template(draft.EscapeTemplate(before) + prefix + "${" + service + ".addr}" + draft.EscapeTemplate(after))
}

func (t *urlTarget) user() string     { return t.url.User.Username() }
func (t *urlTarget) database() string { return strings.Trim(t.url.Path, "/") }

// isTLS reports whether the scheme is that of TLS.
func (t *urlTarget) isTLS() bool {
	switch t.scheme {
	case "rediss", "valkeys", "mqtts", "https", "wss", "amqps", "ldaps":
		return true
	}
	return false
}

// setTLS has a check use TLS, and verify the certificate of the server's own name.
func (t *urlTarget) setTLS(check *draft.Table) {
	if t.isTLS() {
		check.Set("tls", true)
		check.Set("server_name", t.url.Hostname())
	}
}

// postgresCheck needs a user: without one the server's answer says nothing.
func postgresCheck(t *urlTarget) (check draft.Table) {
	if t.user() == "" {
		return nil
	}
	check.Set("type", "postgres")
	check.Set("user", t.user())
	check.Set("password", t.password)
	check.Set("database", t.database())
	if mode := t.url.Query().Get("sslmode"); mode == "disable" || mode == "allow" || mode == "require" {
		check.Set("sslmode", mode)
	}
	return check
}

func mysqlCheck(t *urlTarget) (check draft.Table) {
	check.Set("type", "mysql")
	if t.password != "" { // without a user it is enough that the server refuses the login
		check.Set("user", t.user())
		check.Set("password", t.password)
		check.Set("database", t.database())
	}
	return check
}

func redisCheck(t *urlTarget) (check draft.Table) {
	check.Set("type", "redis")
	if t.password != "" {
		check.Set("user", t.user())
		check.Set("password", t.password)
	}
	if number, err := strconv.Atoi(t.database()); err == nil && number > 0 && number <= 1<<16 {
		check.Set("database", number)
	}
	t.setTLS(&check)
	return check
}

// webCheck asks for the path of the URL, under the server's own name.
func webCheck(t *urlTarget) (check draft.Table) {
	check.Set("type", t.scheme)
	if path := t.url.EscapedPath(); path != "" && path != "/" {
		check.Set("path", path)
	}
	host := t.url.Hostname()
	if port := t.url.Port(); port != "" {
		host = net.JoinHostPort(host, port)
	}
	check.Set("host", host)
	if t.scheme == "https" {
		check.Set("server_name", t.url.Hostname())
	}
	return check
}

func kafkaCheck(*urlTarget) draft.Table { return draft.Table{{Key: "type", Value: "kafka"}} }

func mqttCheck(t *urlTarget) (check draft.Table) {
	check.Set("type", "mqtt")
	if t.password != "" {
		check.Set("user", t.user())
		check.Set("password", t.password)
	}
	t.setTLS(&check)
	return check
}

func grpcCheck(*urlTarget) draft.Table { return draft.Table{{Key: "type", Value: "grpc"}} }
