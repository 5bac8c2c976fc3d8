package prompt

import "testing"

func TestStoredLine_IsNeverNewerThanTheView(t *testing.T) {
	for _, tt := range []struct {
		line string
		view uint64
		want string
	}{
		{"7 4711 99", 7, "7 4711 99"},
		{"9 4711 99", 7, "7 4711 99"}, // bumped since the view was made: the next prompt finds another line
		{"5 4711 99", 7, "5 4711 99"}, // the file is older than the view, as on a full disk: the next prompt finds the same line
		{"7 4711 99", 0, "7 4711 99"}, // an older supervisor does not say which line its view is from
		{"", 7, ""},
	} {
		if got := storedLine(tt.line, tt.view); got != tt.want {
			t.Errorf("line %q, view %d: %q, want %q", tt.line, tt.view, got, tt.want)
		}
	}
}

// noVariables is os.Getenv of an empty environment.
func noVariables(string) string { return "" }

func TestRetry_OfNothingIsEmpty(t *testing.T) {
	h, err := parseArgs([]string{"bash", "--pid", "1", "--retry", ""}, noVariables)
	if err != nil || !h.canRetry || h.isRetry || h.retry.encode() != "" {
		t.Errorf("%+v, %v", h, err)
	}
	text := retry{Unreleased: []string{"/a 'b'", "/c\nd"}, Enter: true, BySocket: []string{"/e"}}.encode()
	h, err = parseArgs([]string{"bash", "--pid", "1", "--retry", text, "--limit=200ms"}, noVariables)
	if err != nil || !h.isRetry || h.limit.String() != "200ms" || h.retry.encode() != text {
		t.Errorf("%+v, %v", h, err)
	}
	// The arguments of an older hook.
	h, err = parseArgs([]string{"bash", "--pid", "1", "--root", "/r", "--line", "1 2 3", "--told", "x"}, noVariables)
	if err != nil || h.canRetry || h.isRetry {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestParseArgs_UnfinishedAndHold(t *testing.T) {
	h, err := parseArgs([]string{"zsh", "--pid", "1", "--saves", "--unfinished=/a b\n/c\n", "--hold"}, noVariables)
	if err != nil || !h.hold || len(h.unfinished) != 2 || h.unfinished[0] != "/a b" || h.unfinished[1] != "/c" {
		t.Errorf("%+v, %v", h, err)
	}
}
