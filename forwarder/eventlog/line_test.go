package eventlog

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDetectLevel_FromToolOutput(t *testing.T) {
	for text, want := range map[string]string{
		"debug1: channel 0: new":                                        "DEBUG",
		"E1123 03:04:05.123456   42 portforward.go:424] lost":           "ERROR",
		"W1123 03:04:05.123456   42 warnings.go:70] deprecated":         "WARN",
		"error: lost connection to pod":                                 "ERROR",
		`Error from server (NotFound): services "x" not found`:          "ERROR",
		"ssh: connect to host h port 22: Connection refused":            "ERROR",
		"Warning: Permanently added 'h' (ED25519) to the list of hosts": "WARN",
		"Forwarding from 127.0.0.1:1 -> 2":                              "INFO",
		"errors: 0":                                                     "INFO",
		"":                                                              "INFO",
	} {
		if got := detectLevel(text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

var moment = time.Date(2026, 11, 23, 3, 4, 5, 123e6, time.UTC)

func TestParse_ServiceAndSupervisorLogLines(t *testing.T) {
	for text, want := range map[string]Line{
		"2026-11-23T03:04:05.123Z WARN run.7 some text": {Time: moment, Level: slog.LevelWarn, Run: "run.7", Text: "some text"},
		"2026-11-23T03:04:05.123Z INFO run.7 ":          {Time: moment, Run: "run.7"},
		"2026-11-23T03:04:05.123Z WARN - 3 lines":       {Time: moment, Level: slog.LevelWarn, Text: "3 lines"},
		`time=2026-11-23T04:04:05.123+01:00 level=ERROR msg="start failed" run=abc service=db request=r1 error="no \"x\"" n=1`: {
			Time: moment, Level: slog.LevelError, Run: "abc", Service: "db", Request: "r1",
			Text: `start failed error="no \"x\"" n=1`,
		},
	} {
		want.Raw, want.TimeText = text, strings.TrimPrefix(strings.Fields(text)[0], "time=")
		if got, ok := Parse(text); !ok || got != want {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "panic: x", "2026-11-23", "2026-11-23T03:04:05.123Z LOUD run.7 text", "time=x", "time"} {
		if got, ok := Parse(text); ok {
			t.Errorf("%q fits nothing, but is read as %+v", text, got)
		}
	}
}

func TestHandler_RecordsAreMaskedAndParsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "supervisor.log")
	file := NewFile(path, func(s string) string {
		return strings.NewReplacer("hunter2", "***", "INFO", "***", "db", "***").Replace(s)
	}, Limits{})
	defer file.Close()
	log := slog.New(file.Handler(slog.LevelInfo)).With("run", "abc")
	log.Info("logged in with hunter2", "service", "db", "error", errors.New("hunter2 was refused"), "to", "healthy")
	log.Debug("not this")
	text := strings.TrimSuffix(readFile(t, path), "\n")
	line, ok := Parse(text)
	if !ok || line.Service != "db" || line.Run != "abc" || line.Level != slog.LevelInfo ||
		line.Text != `logged in with *** error="*** was refused" to=healthy` || time.Since(line.Time) > time.Minute {
		t.Errorf("%q is read as %+v", text, line)
	}
	if !strings.HasPrefix(text, "time="+line.Time.Format(timeFormat)) {
		t.Errorf("the time in %q is not in UTC", text)
	}
}

func TestRunWriter_SecretEqualToALevelLeavesTheLineParsable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	file := NewFile(path, func(s string) string { return strings.ReplaceAll(s, "INFO", "***") }, Limits{})
	defer file.Close()
	if _, err := file.RunWriter("run.1").Write([]byte("at INFO\n")); err != nil {
		t.Fatal(err)
	}
	if line, ok := Parse(strings.TrimSpace(readFile(t, path))); !ok || line.Text != "at ***" {
		t.Errorf("read as %+v, %v", line, ok)
	}
}

func TestLogReader_StackTraceBelongsToThePreviousLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "supervisor.log")
	text := "time=2026-11-23T03:04:05.123Z level=INFO msg=state run=abc service=db\npanic: x\n\n\tmain.go:7\n" +
		"time=2026-11-23T03:04:06.123Z level=INFO msg=next run=def\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := NewLogReader("supervisor", path)
	defer log.Close()
	lines, err := log.Read()
	if err != nil || len(lines) != 5 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for i, line := range lines[1:4] {
		if !line.Time.Equal(moment) || line.Level != slog.LevelError || line.Run != "abc" {
			t.Errorf("line %d of the trace: %+v", i, line)
		}
	}
	if last := lines[4]; last.Service != "supervisor" || last.Level != slog.LevelInfo || last.Run != "def" {
		t.Errorf("the line after the trace: %+v", last)
	}
}

func TestRunWriter_EscapesTerminalControls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	for text, want := range map[string]string{
		"plain\tü 日本": "plain\tü 日本", "\x1b[31mred": `\x1b[31mred`, "a\rb\x00": `a\rb\x00`, "\u009b1m": `\u009b1m`, "\xff!": `\xff!`, "a\u202eb": `a\u202eb`,
	} {
		file := NewFile(path, nil, Limits{})
		if _, err := file.RunWriter("run.1").Write([]byte(text + "\n")); err != nil {
			t.Fatal(err)
		}
		file.Close()
		if line, ok := Parse(strings.TrimSuffix(readFile(t, path), "\n")); !ok || line.Text != want {
			t.Errorf("%q is written as %q, want %q", text, line.Text, want)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHandler_AnyRecordIsParsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "supervisor.log")
	rapid.Check(t, func(t *rapid.T) {
		file := NewFile(path, nil, Limits{})
		defer file.Close()
		defer os.Remove(path)
		message, service, value := rapid.String().Draw(t, "message"), rapid.String().Draw(t, "service"), rapid.String().Draw(t, "value")
		slog.New(file.Handler(slog.LevelInfo)).Warn(message, "service", service, "an attribute=", value, "run", "abc")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		line, ok := Parse(strings.TrimSuffix(string(data), "\n"))
		message, service = strings.ToValidUTF8(message, "\ufffd"), strings.ToValidUTF8(service, "\ufffd")
		if !ok || line.Level != slog.LevelWarn || line.Service != service || line.Run != "abc" ||
			!strings.HasPrefix(line.Text, strings.TrimSpace(message)) {
			t.Fatalf("%q is read as %+v, %v", data, line, ok)
		}
	})
}

// Older releases wrote milliseconds.
func TestParse_ReadsTimesOfAnyPrecision(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"2026-11-23T03:04:05Z": 0, "2026-11-23T03:04:05.123Z": 123 * time.Millisecond, "2026-11-23T03:04:05.123456Z": 123456 * time.Microsecond,
	} {
		if line, ok := Parse(text + " INFO run.7 text"); !ok || line.Time.Sub(moment.Truncate(time.Second)) != want {
			t.Errorf("%s is read as %v, %t", text, line.Time, ok)
		}
	}
}

// Only lines that begin with one of levelInitials are compared with the patterns.
func TestDetectLevel_KnowsTheInitialsOfAllPatterns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, level := range levelPatterns() {
			if text := rapid.StringMatching(level.pattern.String()).Draw(t, level.name); detectLevel(text) == "INFO" {
				t.Errorf("%q is INFO", text)
			}
		}
	})
}
