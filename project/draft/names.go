package draft

import (
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
)

// Names gives services names that a config accepts, each once.
type Names map[string]bool // by the prefix of the variables that the services export

// maxName is the length after which a name is cut: a name becomes a column of status and a part of variables.
const maxName = 60

// Add returns a valid name for a service that is called text elsewhere: text itself if that is valid and not used yet.
func (n Names) Add(text string) string {
	name := validName(text)
	for number := 2; n[project.EnvPrefix(name)]; number++ {
		name = validName(text) + "-" + strconv.Itoa(number)
	}
	n[project.EnvPrefix(name)] = true
	return name
}

// Contains reports whether a service that would be called text has been added.
func (n Names) Contains(text string) bool { return n[project.EnvPrefix(validName(text))] }

func validName(text string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '-'
	}, text), "-")
	if len(name) > maxName {
		name = strings.TrimRight(name[:maxName], "-")
	}
	prefix := project.EnvPrefix(name)
	switch {
	case name == "":
		return "service"
	case name[0] >= '0' && name[0] <= '9':
		return "service-" + name
	case name == "supervisor", strings.HasPrefix(prefix+"_", "LOCALPORT_"): // names of LocalPort's own log and variables
		return "app-" + name
	}
	return name
}

// SecretVariable returns the name of the variable of .env that holds a service's secret: DB_PASSWORD for the password of db.
func SecretVariable(service, key string) string { return VariableName(service + "_" + key) }

// VariableName returns a valid name for a variable that [env] may set or .env may hold.
func VariableName(text string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		}
		return '_'
	}, text)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}
