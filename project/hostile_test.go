package project

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A directory that nobody has allowed is read at every cd, so nothing in it may take long.
func TestParse_IsFastOnHostileFiles(t *testing.T) {
	many := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format+"\n", i)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"a deep key":       strings.Repeat("a.", 20_000) + "a = 1",
		"deep arrays":      "a = " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"many unknown":     many("k%d = 1", 3_000),
		"many services":    many("[services.a%d]", 3_000),
		"many tables":      many("[[x]]\ny = %d", 6_000),
		"open strings":     strings.Repeat("\"\"\"\n", 20_000),
		"many references":  "a = \"" + strings.Repeat("${A:-", 20_000) + "\"",
		"a long word":      strings.Repeat("x", 120_000) + " = 1",
		"many on one line": "a = [" + strings.Repeat(`"${B}", `, 3000) + "]",
	} {
		if len(text) > maxConfigSize {
			t.Errorf("%s is too long to be read at all", name)
		}
		began := time.Now()
		files := &Files{Root: "/root", Path: "/root/" + ConfigName, Config: []byte(text), DotEnv: []byte(many("A%d='", 5000))}
		named, err := readReferencedFiles(files)
		if err != nil || len(named) != 0 {
			t.Errorf("%s: %v, %v", name, named, err)
		}
		_, err = Parse(files, Options{Technologies: BuiltIn})
		took := time.Since(began)
		if t.Logf("%s: %v", name, took); took > 10*time.Second {
			t.Errorf("%s takes %v (%.80v)", name, took, err)
		}
	}
}
