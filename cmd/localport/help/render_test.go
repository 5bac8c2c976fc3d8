package help

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func render(markdown string, columns int, bold bool) string {
	r := renderer{columns: columns, bold: bold}
	r.document(strings.Split(markdown, "\n"))
	return r.b.String()
}

func TestRender_OneOfEachBlock(t *testing.T) {
	t.Parallel()
	markdown := "# Title\n\nSome `code`, **bold** and\na [link](http://x).\n\n- one two three four five six seven\n  eight\n- nine\n\n    verbatim   text\n\n" +
		"```sh\nls | head\n```\n| key | |\n| --- | --- |\n| `a` | first \\| second |\n| long key | and a text that is longer than one line of it |\n"
	want := `Title

Some ` + "`code`" + `, bold and a link (http://x).

- one two three four five six seven eight
- nine

  verbatim   text

  ls | head

key
` + "`a`" + `       first | second
long key  and a text that is longer than one
          line of it
`
	if got := render(markdown, 44, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := render("# A\n\n`b` **c**\n", 44, true); got != "\x1b[1mA\x1b[0m\n\n\x1b[1mb\x1b[0m \x1b[1mc\x1b[0m\n" {
		t.Errorf("%q", got)
	}
}

// Whatever the width, no word of the text is lost, and no line is longer than the width unless it has one word only.
func TestRender_KeepsAllWords(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z]{1,12}( [a-z]{1,12}){0,40}`).Draw(t, "text")
		columns := rapid.IntRange(10, 120).Draw(t, "columns")
		got := render(text, columns, false)
		if strings.Join(strings.Fields(got), " ") != text {
			t.Fatalf("got %q of %q", got, text)
		}
		for line := range strings.Lines(got) {
			if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > columns && strings.Contains(line, " ") {
				t.Fatalf("%d columns: %q", columns, line)
			}
		}
	})
}

func TestTopics_HaveText(t *testing.T) {
	t.Parallel()
	for _, topic := range Topics() {
		if !strings.HasPrefix(topic.Markdown(), "# ") {
			t.Errorf("%s has no title", topic.Name)
		}
		for _, columns := range []int{0, 40, 80, 200} {
			if text := topic.Render(columns, true); strings.Contains(text, "**") || topic.Name != "hooks" && strings.Contains(text, "`") {
				t.Errorf("%s has marks at %d columns", topic.Name, columns)
			}
		}
	}
}
