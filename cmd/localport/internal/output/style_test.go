package output

import (
	"strings"
	"testing"
)

func TestColorMode_FollowsTheEnvironment(t *testing.T) {
	for _, tt := range []struct {
		mode       ColorMode
		isTerminal bool
		env        string
		want       bool
	}{
		{ColorAuto, true, "", true},
		{ColorAuto, false, "", false},
		{ColorAuto, true, "TERM=dumb", false},
		{ColorAuto, true, "NO_COLOR=1", false},
		{ColorAuto, true, "NO_COLOR=", true},
		{ColorAuto, true, "CLICOLOR=0", false},
		{ColorAuto, false, "CLICOLOR_FORCE=1", true},
		{ColorAuto, false, "CLICOLOR_FORCE=0", false},
		{ColorAuto, true, "CLICOLOR_FORCE=1 TERM=dumb", true},
		{ColorAuto, true, "CLICOLOR_FORCE=1 NO_COLOR=1", false},
		{ColorAlways, false, "NO_COLOR=1", true},
		{ColorNever, true, "CLICOLOR_FORCE=1", false},
	} {
		getenv := func(name string) string {
			for pair := range strings.FieldsSeq(tt.env) {
				if key, value, _ := strings.Cut(pair, "="); key == name {
					return value
				}
			}
			return ""
		}
		if got := tt.mode.isColored(tt.isTerminal, getenv); got != tt.want {
			t.Errorf("%s, terminal %t, %s: %t", tt.mode, tt.isTerminal, tt.env, got)
		}
	}
}

func TestLine_EscapesItsTextsButNotItsColours(t *testing.T) {
	line := Line{{Style: Failure, Text: "a\x1b[2J\n"}, {Text: " b  "}, {Style: Success, Text: "  "}}
	if got, want := line.encode(false), `a\x1b[2J\n b`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := line.encode(true), "\x1b[31m"+`a\x1b[2J\n`+"\x1b[0m b"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
