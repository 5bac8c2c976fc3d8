package project

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cpuTime returns the processor time that this process has used: unlike the clock, it does not depend on what else runs.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A directory that nobody has allowed is read at every cd, so nothing in it may take long: not much longer than the largest ordinary
// config.
func TestParse_IsFastOnHostileFiles(t *testing.T) {
	many := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format+"\n", i)
		}
		return b.String()
	}
	dotEnv := many("A%d='", 5000)
	measure := func(name, text string) (took time.Duration, err error) {
		if len(text) > maxConfigSize {
			t.Errorf("%s is too long to be read at all", name)
		}
		startTime := cpuTime(t)
		files := &Files{Root: "/root", Path: "/root/" + ConfigName, Config: []byte(text), DotEnv: []byte(dotEnv)}
		named, err := readReferencedFiles(files)
		if err != nil || len(named) != 0 {
			t.Errorf("%s: %v, %v", name, named, err)
		}
		_, err = Parse(files, Options{Technologies: BuiltIn})
		took = cpuTime(t) - startTime
		t.Logf("%s: %v", name, took)
		return took, err
	}
	const service = "[services.a%d]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection.remote_host = \"${H:-db}\""
	ordinary, err := measure("an ordinary config", many(service, 1150))
	if err != nil {
		t.Fatal(err)
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
		if took, err := measure(name, text); took > 10*ordinary {
			t.Errorf("%s takes %v, and an ordinary config of the largest size %v (%.80v)", name, took, ordinary, err)
		}
	}
}

func TestParse_LimitsTheSizeOfExpandedValues(t *testing.T) {
	var b strings.Builder
	b.WriteString("A0=xxxxxxxx\n")
	for i := range 20_000 { // each line is twice as long as the one above it
		fmt.Fprintf(&b, "A%d=$A%d${A%d}\n", i+1, i, i)
	}
	files := &Files{Root: "/root", Path: "/root/" + ConfigName, DotEnv: []byte(b.String())}
	_, err := Parse(files, Options{Technologies: BuiltIn})
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("got %.200v", err)
	}
}
