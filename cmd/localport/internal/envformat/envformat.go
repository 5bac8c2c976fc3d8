// Package envformat writes environment variables in the formats of the programs that read them.
package envformat

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

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

// Omission is a variable that has no line because its format cannot express the value.
type Omission struct {
	Name   string
	Reason string // "its value …"
}

// maxDockerLine is the length of a line up to which docker reads a file (cli's pkg/kvfile: bufio.MaxScanTokenSize).
const maxDockerLine = 64<<10 - 1

// describeInexpressible says why a format cannot express a variable; empty if it can. Readers of json and github replace what is not UTF-8; docker and
// kubectl refuse the file.
func describeInexpressible(format string, v project.Variable) string {
	isText := format == "json" || format == "github" || format == "docker"
	switch {
	case isText && !utf8.ValidString(v.Value):
		return "its value is not UTF-8"
	case format == "docker" && strings.ContainsAny(v.Value, "\r\n"):
		return "its value has a line break"
	case format == "docker" && len(v.Name)+len("=")+len(v.Value) > maxDockerLine:
		return fmt.Sprintf("its value is longer than %d bytes", maxDockerLine)
	}
	return ""
}

// Format returns the variables as text. omitted are those whose value the format cannot express.
func Format(format string, variables []project.Variable) (text string, omitted []Omission, err error) {
	variables = slices.DeleteFunc(slices.Clone(variables), func(v project.Variable) bool {
		reason := describeInexpressible(format, v)
		if reason != "" {
			omitted = append(omitted, Omission{v.Name, reason})
		}
		return reason != ""
	})
	var b strings.Builder
	if format == "json" {
		object := make(map[string]string, len(variables))
		for _, v := range variables {
			object[v.Name] = v.Value
		}
		err = output.JSON(&b, object)
		return b.String(), omitted, err
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
// a single quote, a line break, or a backslash before the closing quote gets double quotes with escapes. A shell that reads the file although the
// format is not for shells must not run anything, so that a backtick is written as docker compose's octal escape: with a backslash before it, the
// backslash would be part of the value.
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
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "$", `\$`, "`", `\0140`).Replace(value) + `"`
}
