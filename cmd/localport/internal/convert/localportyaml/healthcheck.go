package localportyaml

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// checkType returns our name for a type of health check; empty if it is unknown.
func checkType(text string) string {
	switch text {
	case "tcp", "http", "https", "kafka", "postgres", "none":
		return text
	case "postgresql":
		return "postgres"
	}
	return ""
}

// healthCheck converts a health check of a service or, if svc is nil, that of the defaults.
func (c *converter) healthCheck(f field, svc *draft.Service) (table draft.Table) {
	if !f.value.Exists() {
		return nil
	}
	m := c.mapping(f)
	name := m.take("type")
	text, _ := c.plain(name)
	kind := checkType(text)
	if kind == "" && text != "" {
		c.report(name, "%q became \"tcp\": must be tcp, http, https, kafka or postgres", text)
	}
	if kind == "" {
		kind = "tcp"
	}
	config := c.mapping(m.take("config"))
	keys := c.checkConfig(config, &kind, svc)
	table = append(draft.Table{{Key: "type", Value: kind}}, keys...)
	timeout := m.take("timeout")
	if own := config.take("timeout"); own.value.Exists() { // which the Python tool prefers
		timeout = own
	}
	table.Set("interval", c.seconds(m.take("interval")))
	table.Set("timeout", c.seconds(timeout))
	table.Set("failure_threshold", c.integer(m.take("failure_threshold"), 1, 1_000_000))
	table.Set("success_threshold", c.integer(m.take("success_threshold"), 1, 1_000_000))
	if aware := m.take("cluster_aware"); aware.value.Exists() && c.isTrue(aware) {
		c.report(aware, "left out: nothing to set; a tunnel is only replaced if it is dead, and \"localport status\" says when the cluster cannot be reached")
	}
	c.reportUnknown(config)
	c.reportUnknown(m)
	return table
}

// checkConfig converts the keys of one type of health check. It may change the type.
func (c *converter) checkConfig(m *mapping, kind *string, svc *draft.Service) (table draft.Table) {
	service := "health_check"
	if svc != nil {
		service = svc.Name
	}
	switch *kind {
	case "http", "https":
		return c.httpConfig(m, kind, svc, service)
	case "postgres":
		return c.postgresConfig(m, svc, service)
	case "kafka":
		servers := m.take("bootstrap_servers")
		values := append(servers.value.Items(), servers.value)
		for _, value := range values {
			for server := range strings.SplitSeq(value.Text(), ",") {
				c.checkAddress(servers, server, svc)
			}
		}
	default:
		c.takeAddress(m, svc)
	}
	return table
}

// takeAddress takes host and port, which lead to the forward itself and need no counterpart.
func (c *converter) takeAddress(m *mapping, svc *draft.Service) {
	host, port := m.take("host"), m.take("port")
	if host.value.Exists() {
		c.checkAddress(host, host.value.Text(), svc)
	}
	if port.value.Exists() {
		c.checkAddress(port, ":"+port.value.Text(), svc)
	}
}

// checkAddress reports an address that is not the service's own.
func (c *converter) checkAddress(f field, address string, svc *draft.Service) {
	address, _ = c.refs.plain(strings.TrimSpace(address))
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	isLocal := slices.Contains([]string{"", "localhost", "127.0.0.1", "::1", "0.0.0.0"}, host)
	if isLocal && (port == "" || svc == nil || port == localPortOf(svc)) {
		return
	}
	c.report(f, "%s is not used: the check goes through the tunnel to the service itself", draft.Quote(address))
}

func localPortOf(svc *draft.Service) string {
	port, _ := svc.Entries.Get("local_port").(int)
	return strconv.Itoa(port)
}

func (c *converter) postgresConfig(m *mapping, svc *draft.Service, service string) (table draft.Table) {
	c.takeAddress(m, svc)
	user, database := m.take("user"), m.take("database")
	table.Set("user", c.text(user))
	table.Set("password", c.secret(m.take("password"), service, "password"))
	table.Set("database", c.text(database))
	if user.value.Exists() && !database.value.Exists() {
		table.Set("database", "postgres") // which the Python tool connects to; ours would be that of the user's name
	}
	mode := m.take("sslmode")
	text, _ := c.plain(mode)
	if modes := []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}; slices.Contains(modes, text) {
		table.Set("sslmode", text)
	} else if mode.value.Exists() {
		c.report(mode, "left out: must be %s", strings.Join(modes, ", "))
	}
	return table
}

var methodPattern = project.LazyRegexp(`^[A-Za-z]+$`)

// defaultHTTPPath is what the Python tool asks for if the config has no URL.
const defaultHTTPPath = "/health"

func (c *converter) httpConfig(m *mapping, kind *string, svc *draft.Service, service string) (table draft.Table) {
	table.Set("path", c.httpPath(m.take("url"), kind, svc))
	method := m.take("method")
	switch text, ok := c.plain(method); {
	case ok && !methodPattern().MatchString(text):
		c.report(method, "left out: must be a method of HTTP")
	case ok && !strings.EqualFold(text, "GET"):
		table.Set("method", strings.ToUpper(text))
	}
	table.Set("expected_status", c.statuses(m.take("expected_status_codes")))
	content := m.take("expected_content")
	if text := c.text(content); len(content.value.Text()) > 1 && strings.HasPrefix(content.value.Text(), "/") && strings.HasSuffix(content.value.Text(), "/") {
		c.report(content, "left out: a text between slashes is a regular expression in expected_body")
	} else {
		table.Set("expected_body", text)
	}
	table.Set("headers", c.headers(m.take("headers"), service))
	verify := m.take("verify_ssl")
	switch isOff := verify.value.Exists() && !c.isTrue(verify); {
	case isOff && *kind == "https":
		table.Set("tls_verify", false)
	case isOff:
		c.report(verify, "left out: the URL is not https")
	}
	return table
}

// httpPath returns the path of a URL. A URL with https changes the type of the check.
func (c *converter) httpPath(f field, kind *string, svc *draft.Service) any {
	if !f.value.Exists() {
		return defaultHTTPPath
	}
	text, _ := c.refs.plain(f.value.Text())
	parsed, err := url.Parse(text)
	if err != nil || parsed.Host == "" {
		c.report(f, "the URL became the path %q: it cannot be read", defaultHTTPPath)
		return defaultHTTPPath
	}
	if parsed.Scheme == "https" {
		*kind = "https"
	}
	c.checkAddress(f, parsed.Host, svc)
	if parsed.User != nil {
		c.report(f, "the user and password of the URL were left out: set headers = { Authorization = \"Basic ${…}\" }")
	}
	if c.refs.in(strings.TrimPrefix(f.value.Text(), parsed.Scheme+"://")) {
		c.report(f, "variables in the URL were replaced by their defaults; only its path is used")
	}
	return parsed.RequestURI()
}

func (c *converter) statuses(f field) (codes []int) {
	for _, item := range f.value.Items() {
		if code, ok := c.integer(field{f.path, item.Line(), item}, 100, 599).(int); ok {
			codes = append(codes, code)
		}
	}
	if f.value.Exists() && !f.value.IsSequence() {
		c.report(f, "left out: it must be a list of numbers; it is %s", f.value.Describe())
	}
	return codes
}

// headers converts headers; those that usually hold a secret become variables.
func (c *converter) headers(f field, service string) (table draft.Table) {
	m := c.mapping(f)
	for _, entry := range m.value.Entries() {
		header := field{f.path + "." + entry.Key, entry.Line, entry.Value}
		if slices.Contains(publicHeaders, strings.ToLower(entry.Key)) {
			table.Set(entry.Key, c.text(header))
			continue
		}
		table.Set(entry.Key, c.secret(header, service, entry.Key))
	}
	return table
}

// publicHeaders hold no secret.
var publicHeaders = []string{"accept", "accept-encoding", "accept-language", "content-type", "host", "user-agent", "cache-control", "connection", "origin", "referer", "x-forwarded-proto", "x-forwarded-for", "x-forwarded-host"}
