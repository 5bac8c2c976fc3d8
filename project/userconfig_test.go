package project

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// writeUserConfig writes a user's config with this text, and returns its path.
func writeUserConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "localport", UserConfigName)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, path, text)
	return path
}

func TestReadUserConfig_FillsInDefaults(t *testing.T) {
	got, err := ReadUserConfig(filepath.Join(t.TempDir(), "none", UserConfigName))
	if err != nil || !reflect.DeepEqual(got, DefaultUserConfig()) {
		t.Errorf("no file: %+v, %v", got, err)
	}
	if got, err = ReadUserConfig(writeUserConfig(t, "linger = 60\n")); err != nil || got.Linger != time.Minute || got.Verbosity != VerbosityNormal {
		t.Errorf("one key: %+v, %v", got, err)
	}
	got, err = ReadUserConfig(writeUserConfig(t, `
verbosity = "quiet"
linger = "1m"
[logs]
keep = "36h"
max_size = "1.5MB"
[notify]
command = ["~/bin/tell", "{event}", ""]
desktop = true
on = ["state"]
`))
	home, _ := homeDir()
	want := UserConfig{
		Verbosity: VerbosityQuiet, Linger: time.Minute, Logs: UserLogs{Keep: 36 * time.Hour, MaxSize: 3 << 19},
		Notify: UserNotify{Command: []string{filepath.Join(home, "bin/tell"), "{event}", ""}, Desktop: true, On: []string{"state"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if got, err = ReadUserConfig(writeUserConfig(t, "[logs]\nkeep = 3\nmax_size = 65536\n")); err != nil ||
		got.Logs != (UserLogs{Keep: 72 * time.Hour, MaxSize: 65536}) {
		t.Errorf("numbers: %+v, %v", got, err)
	}
}

func TestReadUserConfig_ReportsErrorsAndReturnsDefaults(t *testing.T) {
	path := writeUserConfig(t, `verbosty = "quiet"
verbosity = "loud"
linger = "soon"
keep = 3
logs = { keep = -1, max_size = "4XB" }
[notify]
command = "say"
desktop = "yes"
on = ["failed", "recoverd"]
[notifiy]
`)
	got, err := ReadUserConfig(path)
	invalid, ok := errors.AsType[*InvalidError](err)
	if !ok || !reflect.DeepEqual(got, DefaultUserConfig()) {
		t.Fatalf("got %+v, %v", got, err)
	}
	want := []string{
		`:1:1: verbosty: unknown key; did you mean "verbosity"?`,
		`:2:13: verbosity: invalid verbosity "loud": must be quiet, normal or verbose`,
		`:3:10: linger: must be a positive duration such as "30s" or "5m", a number of seconds, or "connections"`,
		`:4:1: keep: unknown key; move it into the table logs`,
		`:5:17: logs.keep: must be a positive age such as "7d" or "36h", or a number of days`,
		`:5:32: logs.max_size: must be a size such as "512KB", "4MB" or "1GB", or a number of bytes, and at least "64KB"`,
		`:7:11: notify.command: must be an array of strings, the program and its arguments, not a string; write command = ["say"]`,
		`:8:11: notify.desktop: must be true or false, not a string; write true`,
		`:9:17: notify.on[1]: invalid event "recoverd": must be state, failed, recovered, reload, pending, started, ended, shortage or shortage_ended; did you mean "recovered"?`,
		`:10:2: notifiy: unknown key; did you mean "notify"?`,
	}
	var lines []string
	for _, d := range invalid.Diagnostics {
		first, _, _ := strings.Cut(d.String(), "\n")
		lines = append(lines, strings.TrimPrefix(first, path))
	}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if summary := invalid.Summary(); strings.Contains(summary, "\n") || summary != path+want[0]+" (and 9 more)" {
		t.Errorf("summary: %s", summary)
	}
	if _, err = ReadUserConfig(writeUserConfig(t, "linger = \n")); !errors.As(err, &invalid) || !strings.Contains(err.Error(), ":1:") {
		t.Errorf("no TOML: %v", err)
	}
}

func TestReadUserConfig_RejectsAFileWritableByOthers(t *testing.T) {
	path := writeUserConfig(t, "linger = 60\n")
	dir := filepath.Dir(path)
	for _, open := range []string{path, dir} {
		if err := os.Chmod(open, 0o777); err != nil {
			t.Fatal(err)
		}
		got, err := ReadUserConfig(path)
		var insecure *InsecureConfigError
		if !errors.As(err, &insecure) || !reflect.DeepEqual(got, DefaultUserConfig()) || !strings.Contains(err.Error(), "chmod go-w "+open) {
			t.Errorf("%s is writable by others: %+v, %v", open, got, err)
		}
		if err := os.Chmod(open, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ReadUserConfig(path); err != nil || got.Linger != time.Minute {
		t.Errorf("the user's own: %+v, %v", got, err)
	}
}

func TestParse_PrefersTheProjectsLinger(t *testing.T) {
	root := t.TempDir()
	for config, want := range map[string]time.Duration{"": time.Minute, "linger = 5\n": 5 * time.Second} {
		write(t, filepath.Join(root, ConfigName), config)
		f, err := ReadFiles(filepath.Join(root, ConfigName))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := Parse(f, Options{Technologies: BuiltIn, Linger: time.Minute}); err != nil || p.Linger != want {
			t.Errorf("%q lingers %+v, %v; want %v", config, p, err, want)
		}
	}
}

func TestParse_LingerConnectionsKeepsTheUsersDuration(t *testing.T) {
	user, err := ReadUserConfig(writeUserConfig(t, "linger = \"connections\"\n"))
	if err != nil || !user.KeepConnections || user.Linger != 0 {
		t.Errorf("user config: %+v, %v", user, err)
	}
	root := t.TempDir()
	for _, c := range []struct {
		config  string
		options Options
		linger  time.Duration
		keeps   bool
	}{
		{"linger = \"connections\"\n", Options{}, 10 * time.Second, true},
		{"linger = \"connections\"\n", Options{Linger: time.Minute}, time.Minute, true},
		{"linger = \"5s\"\n", Options{KeepConnections: true}, 5 * time.Second, false},
		{"", Options{KeepConnections: true}, 10 * time.Second, true},
	} {
		write(t, filepath.Join(root, ConfigName), c.config)
		f, err := ReadFiles(filepath.Join(root, ConfigName))
		if err != nil {
			t.Fatal(err)
		}
		c.options.Technologies = BuiltIn
		if p, err := Parse(f, c.options); err != nil || p.Linger != c.linger || p.KeepConnections != c.keeps {
			t.Errorf("%q with %+v: %+v, %v", c.config, c.options, p, err)
		}
	}
}

func BenchmarkReadUser(b *testing.B) {
	path := filepath.Join(b.TempDir(), UserConfigName)
	write(b, path, "verbosity = \"quiet\"\n[notify]\ncommand = [\"tell\", \"{event}\"]\n")
	for b.Loop() {
		if _, err := ReadUserConfig(path); err != nil {
			b.Fatal(err)
		}
	}
}
