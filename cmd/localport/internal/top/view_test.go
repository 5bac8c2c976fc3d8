package top

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // the screens show local times
	goleak.VerifyTestMain(m)
}

var update = flag.Bool("update", false, "rewrite the files of testdata")

var sizes = []struct{ width, height int }{{40, 10}, {80, 24}, {200, 50}}

func TestView_Golden(t *testing.T) {
	t.Parallel()
	for name, m := range scenes() {
		for _, size := range sizes {
			m.Width, m.Height = size.width, size.height
			screen := View(m)
			checkScreen(t, m, screen)
			path := filepath.Join("testdata", fmt.Sprintf("%s-%dx%d.txt", name, size.width, size.height))
			text := strings.Join(trimLines(strip(screen)), "\n") + "\n"
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if text != string(want) {
				t.Errorf("%s: got\n%swant\n%s\nif the change is intended: go test ./cmd/localport/internal/top -update", path, text, want)
			}
		}
	}
}

func trimLines(screen string) []string {
	lines := strings.Split(screen, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

func strip(styled string) string { return ownStyles.ReplaceAllString(styled, "") }

var ownStyles = regexp.MustCompile("\x1b\\[[0-9;]*m")

// checkScreen fails unless the screen has the terminal's size and nothing that a terminal acts on except our own styles.
func checkScreen(t interface{ Fatalf(string, ...any) }, m Model, screen string) {
	lines := strings.Split(screen, "\n")
	if m.Width >= minWidth && m.Height >= minHeight && len(lines) != m.Height {
		t.Fatalf("%dx%d: %d lines:\n%s", m.Width, m.Height, len(lines), screen)
	}
	for _, line := range lines {
		if got := layout.StyledWidth(line); got > m.Width {
			t.Fatalf("%dx%d: a line has %d columns: %q", m.Width, m.Height, got, line)
		}
		for _, r := range strip(line) {
			if r < ' ' || r >= 0x7f && r <= 0x9f || r == 0x202e || !utf8.ValidString(line) {
				t.Fatalf("%dx%d: the screen has %q: %q", m.Width, m.Height, r, line)
			}
		}
	}
}

func TestView_FitsAnySizeWhateverHappens(t *testing.T) {
	t.Parallel()
	all := scenes()
	keys := []string{"ctrl+l"}
	for _, b := range bindings() {
		keys = append(keys, b.keys...)
	}
	rapid.Check(t, func(t *rapid.T) {
		names := make([]string, 0, len(all))
		for name := range all {
			names = append(names, name)
		}
		m := all[rapid.SampledFrom(sorted(names)).Draw(t, "scene")]
		m.ASCII = rapid.Bool().Draw(t, "ascii")
		for range rapid.IntRange(1, 12).Draw(t, "messages") {
			var msg any
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				msg = ResizeMsg{rapid.IntRange(0, 250).Draw(t, "width"), rapid.IntRange(0, 70).Draw(t, "height")}
			case 1:
				msg = StatusMsg{m.Now, all[rapid.SampledFrom(sorted(names)).Draw(t, "next")].status}
			case 2:
				msg = CommandMsg{Now: m.Now, Verb: rapid.SampledFrom([]string{"why", "stop"}).Draw(t, "verb"), Service: m.selected, Output: rapid.String().Draw(t, "output")}
			case 3:
				msg = PasteMsg{rapid.String().Draw(t, "paste")}
			default:
				key := rapid.SampledFrom(keys).Draw(t, "key")
				msg = KeyMsg{Key: key, Text: key}
			}
			m, _ = Update(m, msg)
			checkScreen(t, m, View(m))
		}
	})
}

func TestView_ASCIIOnlyOnSuchTerminals(t *testing.T) {
	t.Parallel()
	for name, m := range scenes() {
		if name == "hostile" {
			continue
		}
		m.Width, m.Height, m.ASCII = 80, 24, true
		for _, r := range strip(View(m)) {
			if r > '~' {
				t.Errorf("%s has %q", name, r)
			}
		}
	}
}

func TestView_HasNoColorsWithoutColors(t *testing.T) {
	t.Parallel()
	for name, m := range scenes() {
		m.Width, m.Height, m.NoColor = 80, 24, true
		if screen := View(m); strings.Contains(screen, "\x1b[3") || strings.Contains(screen, ";3") {
			t.Errorf("%s: %q", name, screen)
		}
	}
}

func TestView_ColorsOfStatesAreThoseOfStatus(t *testing.T) {
	t.Parallel()
	m := press(begin(shop()), "end") // mail is selected, and inverse
	m.Width, m.Height = 80, 24
	screen := View(m)
	for _, svc := range m.services() {
		want := output.StateStyle(svc.State).Sequence() + string(svc.State)
		if svc.Name != m.selected && !strings.Contains(screen, want) {
			t.Errorf("%s: %q is missing in %q", svc.Name, want, screen)
		}
	}
}

func TestView_WrapsALongAnswer(t *testing.T) {
	t.Parallel()
	m := press(begin(shop()), "w")
	m.Width, m.Height = 40, 24
	m, _ = Update(m, CommandMsg{Now: m.Now, Verb: "why", Service: "postgres", Output: "hint: start the server on 127.0.0.1:5432, or correct remote_host\n"})
	screen := View(m)
	checkScreen(t, m, screen)
	if !strings.Contains(screen, " hint: start the server on") || !strings.Contains(screen, "   127.0.0.1:5432, or correct ") {
		t.Errorf("got\n%s", strip(screen))
	}
}
