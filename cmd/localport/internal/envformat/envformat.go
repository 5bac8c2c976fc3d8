// Package envformat writes environment variables in the formats of the programs that read them.
package envformat

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/shellhook"
)

// Names are the formats:
//
//	sh      export NAME='value', for POSIX shells
//	fish    set -gx NAME 'value'
//	json    an object
//	dotenv  NAME=value for .env files, not for shells: in quotes only where a reader would change the value
//	github  NAME=value for the file $GITHUB_ENV of GitHub Actions, which takes quotes literally
//	docker  NAME=value for docker's --env-file and kubectl's --from-env-file, which take quotes literally
var Names = []string{"sh", "fish", "json", "dotenv", "github", "docker"}

// Format returns the variables as text. omitted names those whose value the format cannot express: docker's has no line breaks.
func Format(format string, variables []project.Variable) (text string, omitted []string, err error) {
	var b strings.Builder
	if format == "json" {
		object := make(map[string]string, len(variables))
		for _, v := range variables {
			object[v.Name] = v.Value
		}
		err = output.JSON(&b, object)
		return b.String(), nil, err
	}
	fish, err := shellhook.Lookup("fish")
	if err != nil {
		return "", nil, err
	}
	for _, v := range variables {
		switch {
		case format == "fish":
			b.WriteString(fish.Export(v.Name, v.Value))
		case format == "dotenv":
			fmt.Fprintf(&b, "%s=%s\n", v.Name, quoteDotenv(v.Value))
		case format == "github" && strings.ContainsAny(v.Value, "\r\n"):
			// The runner reads up to the delimiter. It is random, so that no value can end itself and set another variable.
			delimiter := "localport_" + rand.Text()
			fmt.Fprintf(&b, "%s<<%s\n%s\n%s\n", v.Name, delimiter, v.Value, delimiter)
		case format == "docker" && strings.ContainsAny(v.Value, "\r\n"):
			omitted = append(omitted, v.Name)
		case format == "github", format == "docker":
			fmt.Fprintf(&b, "%s=%s\n", v.Name, v.Value)
		default:
			fmt.Fprintf(&b, "export %s=%s\n", v.Name, shellhook.Quote(v.Value))
		}
	}
	return b.String(), omitted, nil
}

// bare are the characters, besides letters and digits of ASCII, that neither a reader of .env files nor a shell treats specially in a
// value.
const bare = "_./:@%+,=?-"

// quoteDotenv quotes a value for .env files where it must be. Single quotes come first, because nothing is expanded in them; a value with
// a single quote, a line break, or a backslash before the closing quote gets double quotes with escapes.
func quoteDotenv(value string) string {
	isBare := !slices.ContainsFunc([]byte(value), func(c byte) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(bare, rune(c))
	})
	switch {
	case isBare:
		return value
	case !strings.ContainsAny(value, "'\n\r") && !strings.HasSuffix(value, `\`):
		return "'" + value + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "$", `\$`).Replace(value) + `"`
}
