package project

import (
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/sirupsen/logrus"
	"pgregory.net/rapid"
)

// What .env says means the same here as to docker compose, unless a warning or an error with its line says that it does not.
func TestParseDotEnv_AgreesWithCompose(t *testing.T) {
	logrus.SetLevel(logrus.PanicLevel) // compose logs each variable that is not set
	environment := map[string]string{"SET": "from the environment", "EMPTY": ""}
	lookup := func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}
	part := rapid.SampledFrom([]string{
		"A", "B", "SET", "EMPTY", "export ", "=", ":", " ", "\t", "\n", "\r\n", "#", " # note", "'", `"`, `\`, `\n`, `\$`, `\"`, "$", "$$", "$A", "$SET",
		"${A}", "${B:-d}", "${SET-d}", "${EMPTY:-d}", "${EMPTY-d}", "${A:+x}", "${B+x}", "${", "}", "1", "_", ".", "-", "é", "value", `"two words"`,
		"'single $A'", "A=", "B=", "\nA=", "\nB=", `="x`, `='y`,
	})
	onlyComment := regexp.MustCompile(`[=:][ \t]+#`)
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(part, 0, 14).Draw(t, "parts"), "")
		if onlyComment.MatchString(text) { // compose-go takes it for the value, against its documentation
			return
		}
		ours := parseDotEnv(EnvName, []byte(text), lookup)
		theirs, err := dotenv.ParseWithLookup(strings.NewReader(text), lookup)
		switch {
		case err != nil && len(ours.errors)+len(ours.warnings) == 0:
			t.Fatalf("%q: compose refuses it (%v), and nothing is said", text, err)
		case err != nil || len(ours.errors)+len(ours.warnings) > 0:
			return
		}
		delete(theirs, "") // what compose-go makes of a last line that is a name without "="
		for name, value := range theirs {
			got, ok := ours.values[name]
			if fromEnvironment, isSet := environment[name]; isSet && value == fromEnvironment {
				continue // a name without "=": the environment wins anyway
			}
			if !ok || got != value {
				t.Fatalf("%q: %s is %q, to compose %q", text, name, got, value)
			}
		}
		for name := range ours.values {
			if _, ok := theirs[name]; !ok && ours.values[name] != "" {
				t.Fatalf("%q: %s is %q, to compose it is not set", text, name, ours.values[name])
			}
		}
	})
}
