package compose

import (
	"strings"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// referencePattern matches what compose replaces in values: $$, $NAME and ${NAME…}
// (https://docs.docker.com/reference/compose-file/interpolation/).
var referencePattern = project.LazyRegexp(`\$(\$|[A-Za-z_][A-Za-z0-9_]*|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?+])([^{}]*))?\})`)

// template returns a value of a compose file in our notation, and whether it could be written so. ${NAME-x} becomes ${NAME:-x}, which differs only if
// NAME is set and empty; an unset $NAME stays an empty text, as it is for compose.
func template(text string) (draft.Template, bool) {
	var b strings.Builder
	for {
		at := referencePattern().FindStringSubmatchIndex(text)
		if at == nil {
			break
		}
		b.WriteString(draft.EscapeTemplate(text[:at[0]]))
		group := func(i int) string {
			if at[2*i] < 0 {
				return ""
			}
			return text[at[2*i]:at[2*i+1]]
		}
		switch operator := strings.TrimPrefix(group(3), ":"); {
		case group(1) == "$":
			b.WriteString("$$")
		case operator == "+":
			return "", false
		case operator == "?":
			b.WriteString("${" + group(2) + ":?" + group(4) + "}")
		case operator == "-":
			b.WriteString("${" + group(2) + ":-" + draft.EscapeTemplate(group(4)) + "}")
		case group(2) != "":
			b.WriteString("${" + group(2) + ":-}")
		default:
			b.WriteString("${" + group(1) + ":-}")
		}
		text = text[at[1]:]
	}
	b.WriteString(draft.EscapeTemplate(text))
	return draft.Template(b.String()), !strings.Contains(text, "${")
}

// wholeReference returns the variable of a value that is one reference, and its default.
func wholeReference(text string) (name, fallback string, ok bool) {
	match := referencePattern().FindStringSubmatch(text)
	if match == nil || match[0] != text || match[1] == "$" {
		return "", "", false
	}
	if match[2] != "" {
		name = match[2]
	} else {
		name = match[1]
	}
	if strings.HasSuffix(match[3], "-") {
		fallback = match[4]
	}
	return name, fallback, true
}

// withDefaults returns a value with the defaults of its references, for a look at what it probably is.
func withDefaults(text string) string {
	return referencePattern().ReplaceAllStringFunc(text, func(reference string) string {
		_, fallback, _ := wholeReference(reference)
		return fallback
	})
}
