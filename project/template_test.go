package project

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTemplate_DoubleDollarIsLiteral(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[${}:?a.-]*`)).Draw(t, "text")
		parsed, err := parseTemplate(strings.ReplaceAll(text, "$", "$$"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parsed.resolve(resolver{}); got != text || err != nil {
			t.Fatalf("%q became %q, %v", text, got, err)
		}
	})
}

func TestTemplate_ValuesAreNotInterpolatedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[${}A:-]{0,8}`).Draw(t, "value")
		parsed, err := parseTemplate("<${A}>")
		if err != nil {
			t.Fatal(err)
		}
		got, err := parsed.resolve(resolver{variable: lookupIn(map[string]string{"A": value})})
		if got != "<"+value+">" || err != nil {
			t.Fatalf("%q became %q, %v", value, got, err)
		}
	})
}

func TestTemplate_MissingVariableIsAnError(t *testing.T) {
	env := lookupIn(map[string]string{"SET": "set", "EMPTY": ""})
	for text, want := range map[string]string{
		"${SET}": "set", "${EMPTY}": "", "${EMPTY:-x}": "x", "${UNSET:-x}": "x", "${SET:-x}": "set",
		"${UNSET:-}": "", "${UNSET:-a$$b}": "a$b", "${UNSET:-${SET}-${EMPTY:-y}}": "set-y", "a$b$": "a$b$",
		"${SET:?never}": "set", "{SET}": "{SET}", "}${SET}}": "}set}", "$${SET}": "${SET}", "$$${SET}": "$set",
		"${UNSET:- }": " ", "${UNSET:-:?}": ":?",
	} {
		parsed, err := parseTemplate(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := parsed.resolve(resolver{variable: env}); got != want || err != nil {
			t.Errorf("%s = %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"${UNSET}", "${UNSET:?m}", "${EMPTY:?m}", "${UNSET:-${UNSET}}"} {
		parsed, err := parseTemplate(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		_, err = parsed.resolve(resolver{variable: env})
		if _, ok := errors.AsType[*missingVariableError](err); !ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{
		"${", "${}", "${A", "${A:", "${A:-", "${A:-x", "${A:?", "${A-x}", "${A:x}", "${1}", "${a b}", "${.host}", "${a.}",
		"${a.host:-x}", "${a.hosts}", "${a-b}", "$${}${", "${é}", strings.Repeat("${A:-", 100000),
	} {
		if _, err := parseTemplate(text); err == nil {
			t.Errorf("%.20s is accepted", text)
		}
	}
}
