package compose

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// credentials are what a client of a server needs, in our notation; empty: none.
type credentials struct{ user, password, database draft.Template }

// addServerSettings adds what is known of the server behind a port: a health check, and a variable of [env].
func (c *converter) addServerSettings(s *container, svc *draft.Service, port publishedPort, isMain bool) {
	path := s.healthPath()
	if isMain {
		login := c.readCredentials(s)
		addCheck(svc, s.server.protocol, login, path)
		c.addVariable(s.server.variable, svc.Name, s.server.urlFor(svc.Name, login))
		return
	}
	protocol := convert.ProtocolOfPort(port.target)
	if protocol != convert.HTTP && protocol != convert.HTTPS {
		return
	}
	addCheck(svc, protocol, credentials{}, path)
	c.addVariable(draft.VariableName(svc.Name)+"_URL", svc.Name, draft.Template(string(protocol)+"://${"+svc.Name+".addr}"))
}

// addCheck adds a health check that passes with these credentials, or suggests one that the user has to complete.
func addCheck(svc *draft.Service, protocol convert.Protocol, login credentials, path string) {
	check := draft.Table{{Key: "type", Value: string(protocol)}}
	switch protocol {
	case convert.Unknown:
		return
	case convert.Postgres:
		check.Set("user", login.user)
		check.Set("password", login.password)
		check.Set("database", login.database)
	case convert.Redis:
		check.Set("password", login.password)
	case convert.HTTP, convert.HTTPS:
		check.Set("path", cmp.Or(path, "/"))
		if protocol == convert.HTTPS {
			check.Set("tls_verify", false)
		}
		if path == "" {
			svc.Suggestions = append(svc.Suggestions, draft.Entry{Key: "health_check", Value: check, Comment: "if this path answers with 2xx or 3xx"})
			return
		}
	}
	svc.Set("health_check", check)
}

var healthURLPattern = project.LazyRegexp(`https?://(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0)(?::[0-9]+)?(/[^\s"'|;&)]*)?`)

// healthPath returns the path that the container's own health check asks for by HTTP; empty if it does not.
func (s *container) healthPath() string {
	test := s.node.Member("healthcheck").Member("test")
	words := []string{test.Text()}
	for _, item := range test.Items() {
		words = append(words, item.Text())
	}
	match := healthURLPattern().FindStringSubmatch(strings.Join(words, " "))
	if match == nil || strings.Contains(match[1], "$") {
		return ""
	}
	if _, err := url.ParseRequestURI(match[1]); err != nil {
		return "/"
	}
	return match[1]
}

// readCredentials reads user, password and database from the container's environment and, for Redis, from its command.
func (c *converter) readCredentials(s *container) (login credentials) {
	passwordName, password := s.find(s.server.password)
	_, user := s.find(s.server.user)
	_, database := s.find(s.server.database)
	login.user = valueOr(user.Text(), draft.Template(s.server.defaultUser))
	if s.server.databaseIsUser {
		login.database = login.user
	}
	login.database = valueOr(database.Text(), login.database)
	if requirepass := s.redisPassword(); s.server.protocol == convert.Redis && requirepass.Exists() {
		passwordName, password = "REDIS_PASSWORD", requirepass
	}
	switch {
	case password.Exists() && password.Text() != "":
		login.password = c.secret(s, passwordName, password)
	case len(s.server.password) > 0:
		login.password = c.secretFromFile(s, s.server.password[0])
	}
	return login
}

// secretFromFile returns a reference to a password that the container has from a file; empty if it has none.
func (c *converter) secretFromFile(s *container, variable string) draft.Template {
	if file, ok := s.environment[variable+"_FILE"]; ok {
		variable = c.newSecret(s, variable)
		c.report(file.Line(), "services."+s.name+".environment", "the password is in a file: put it into .env as %s=…", variable)
		return convert.SecretReference(variable)
	}
	file := s.node.Member("env_file")
	if !file.Exists() {
		return ""
	}
	if file.Text() != ".env" {
		variable = c.newSecret(s, variable)
		c.report(file.Line(), "services."+s.name+".env_file", "LocalPort reads variables from .env only: put the password into it as %s=…", variable)
	}
	return convert.SecretReference(variable)
}

// valueOr returns a value of the file in our notation or, if it is or may be empty, the server's default.
func valueOr(text string, fallback draft.Template) draft.Template {
	value, ok := template(text)
	if ok && withDefaults(text) != "" {
		return value
	}
	if variable, _, isReference := wholeReference(text); isReference && fallback != "" {
		return draft.Template("${" + variable + ":-" + string(fallback) + "}")
	}
	return fallback
}

// find returns the first of these variables of the container's environment, and its value.
func (s *container) find(names []string) (string, yamlfile.Node) {
	for _, name := range names {
		if value, ok := s.environment[name]; ok && value.Exists() {
			return name, value
		}
	}
	return "", yamlfile.Node{}
}

// redisPassword returns the argument of --requirepass.
func (s *container) redisPassword() yamlfile.Node {
	command := s.node.Member("command")
	words := command.Items()
	if command.IsScalar() {
		for word := range strings.FieldsSeq(command.Text()) {
			words = append(words, command.WithText(strings.Trim(word, `"'`)))
		}
	}
	for i, word := range words {
		if word.Text() == "--requirepass" && i+1 < len(words) {
			return words[i+1]
		}
	}
	return yamlfile.Node{}
}

// secret returns a reference to the variable that holds a secret: the file's own, if it has one, else one that the user has to set.
func (c *converter) secret(s *container, name string, value yamlfile.Node) draft.Template {
	variable, fallback, isReference := wholeReference(value.Text())
	if isReference && fallback == "" {
		c.secrets[variable] = true
		return draft.Template("${" + variable + ":-unset}")
	}
	if !isReference {
		variable = c.newSecret(s, name)
	}
	c.report(value.Line(), "services."+s.name+"."+name, "a secret, not copied: put it into .env as %s=…, which compose can read too: ${%s}", variable, variable)
	return convert.SecretReference(variable)
}

// newSecret returns the name of a variable for a secret that no other container has.
func (c *converter) newSecret(s *container, name string) string {
	if c.secrets[name] {
		name = draft.VariableName(s.name + "_" + name)
	}
	c.secrets[name] = true
	return name
}

// urlFor returns the value of the server's variable.
func (e *knownServer) urlFor(service string, login credentials) draft.Template {
	text := e.url
	switch {
	case login.password == "" && login.user == "":
		text = strings.Replace(text, "USER:PASSWORD@", "", 1)
	case login.password == "":
		text = strings.Replace(text, ":PASSWORD@", "@", 1)
	}
	replacer := strings.NewReplacer("USER", string(login.user), "PASSWORD", string(login.password), "ADDR", "${"+service+".addr}", "DATABASE", string(login.database))
	return draft.Template(replacer.Replace(text))
}

// addVariable adds a variable to [env]; the second one of a name is called after its service.
func (c *converter) addVariable(name, service string, value draft.Template) {
	if c.variables[name] {
		name = draft.VariableName(service) + "_" + name
	}
	if name == "" || c.variables[name] {
		return
	}
	c.variables[name] = true
	c.env = append(c.env, draft.Entry{Key: name, Value: value})
}
