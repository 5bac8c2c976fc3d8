package yamlfile_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
)

func TestParse_SaysWhatIsWrongAndWhere(t *testing.T) {
	for text, want := range map[string]string{
		"services:\n\tweb:\n\t\tports: [80]\n":                               "2: a tab in the indentation: YAML allows only spaces there",
		"services:\n  web:\n    image: x\n\n  \tports: [80]\n":               "5: a tab in the indentation: YAML allows only spaces there",
		"services:\n  - name: a\n   technology: ssh\n":                       "3: indented by 3 spaces, which matches the indentation of no line above",
		"services:\n  web:\n    image: x\n   ports:\n    - 80\n":             "4: indented by 3 spaces, which matches the indentation of no line above",
		"services:\n  web:\n    image: x\n      ports:\n    - 80\n":          "4: indented further than the line above, which has a value already",
		"services:\n  web\n    image: x\n":                                   "2: a colon is missing after a key",
		"services:\n  web:\n    image x\n    ports: 1\n":                     "3: a colon is missing after a key",
		"services:\n  web:\n    image:x\n    ports: 1\n":                     "3: a space is missing after the colon",
		"services:\n  web:\n    ports: [80, 81\n    image: x\n":              "3: the bracket [ that begins here has no end",
		"services:\n  web:\n    ports: {a: 1\n    image: x\n":                "3: the bracket { that begins here has no end",
		"services:\n  web:\n    ports: [80, {a: 1]\n":                        "3: the bracket { that begins here has no end",
		"services:\n  web:\n    image: \"x\n    ports: 1\n":                  "3: the quote \" that begins here has no end",
		"services:\n  web:\n    image: 'x\n    ports: 1\n":                   "3: the quote ' that begins here has no end",
		"services:\n  web:\n    image: \"x\n    ports: \"1\"\n":              "3: the quote that begins here ends only in line 4",
		"services:\n  web:\n    command: @foo\n":                             `3: a value that begins with "@" needs quotes`,
		"services:\n  web:\n    command: %foo\n":                             `3: a value that begins with "%" needs quotes`,
		"services:\n  web:\n    command: `foo`\n":                            "3: a value that begins with \"`\" needs quotes",
		"services:\n  web:\n    command: & foo\n":                            `3: a value that begins with "&" needs quotes`,
		"services:\n  web:\n    key: ]\n":                                    `3: a value that begins with "]" needs quotes`,
		"services:\n  web:\n    command: *foo\n":                             "3: *foo refers to an anchor &foo, which no line above has",
		"services:\n  <<: *base\n":                                           "2: *base refers to an anchor &base, which no line above has",
		"services:\n  web:\n    command: *\n":                                `3: a value that begins with "*" needs quotes`,
		"services:\n  web:\n    command: a: b\n":                             `3: a second ": " in a line`,
		"services:\n  web:\n    command: \"a\\d\"\n":                         `3: unknown escape sequence "\d" in double quotes`,
		"services:\n  web:\n    command: [a,\n     b] x\n":                   `4: text after "]"`,
		"services:\n  web:\n    command: [a] x\n":                            `3: text after "]"`,
		"services:\n  web:\n    environment: {a: b,\n     c: \"d\n e\"} x\n": `5: text after "}"`,
		"services:\n  web:\n    command: 'a' b\n":                            "3: text after the end of a value",
		"services:\n  web:\n    ports:\n    - 80\n    image: \"a\"b\n":       "5: text after the end of a value",
		"services:\n  web:\n    environment:\n      - A=b\n      C: d\n":     `5: a line without "-" among list items`,
		"services:\n  web:\n    environment:\n      A: b\n      - C=d\n":     `5: a list item ("- …") among keys`,
		"services:\n- name: a\n  b: 1\n c: 2\n":                              "4: indented by 1 space, which matches the indentation of no line above",
		"services: - name: a\n":                                              "1: a list item on the line of its key",
		"services:\n  web: {\n":                                              "2: the bracket { that begins here has no end",
		"x: [":                                                               "1: the bracket [ that begins here has no end",
		"a: 1\nb: \x07\n":                                                    "2: a control character, or text that is not UTF-8",
		"a: \xff\xfe":                                                        "0: a control character, or text that is not UTF-8",
		"services:\n  web: |\n  text\n":                                      `3: the text after "|" is not indented`,
		"services:\n  web: >x\n   text\n":                                    `2: text after ">" on the same line`,
		"<html>\n<body>a: b</body>\n":                                        "1: a colon is missing after a key",
		"a: |\n  b: c: d\n  \tx\ne: 'it''s'\nf: [a, # c\n  b]\ng: @x\n":      `7: a value that begins with "@" needs quotes`,
		"a: first line\n  goes on\nlist:\n- x\n- y: 1\n  z: 2\nb: c: d\n":    `7: a second ": " in a line`,
	} {
		_, err := yamlfile.Parse([]byte(text))
		mistake, ok := errors.AsType[*yamlfile.FormatError](err)
		if !ok || mistake.Advice == "" {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := fmt.Sprintf("%d: %s", mistake.Line, mistake.Reason); got != want {
			t.Errorf("%q:\n%s, want\n%s", text, got, want)
		}
	}
}

// TestParse_ExplainsAnyText checks that every text is either YAML or gets an explanation.
func TestParse_ExplainsAnyText(t *testing.T) {
	piece := rapid.SampledFrom([]string{"a", ": ", ":", "\n", "  ", " ", "- ", "-", "[", "]", "{", "}", ",", `"`, "'", "#", " #", "|", ">", "&x", "*x", "!", "%", "@", "\t", "\\", "é", "---", "?", "\r\n"})
	rapid.Check(t, func(t *rapid.T) {
		text := ""
		for _, part := range rapid.SliceOfN(piece, 0, 30).Draw(t, "text") {
			text += part
		}
		_, err := yamlfile.Parse([]byte(text))
		if mistake, ok := errors.AsType[*yamlfile.FormatError](err); err != nil && (!ok || mistake.Reason == "" || mistake.Advice == "") {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
