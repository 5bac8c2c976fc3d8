package layout

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// drawLine draws a line of words of all kinds of characters.
func drawLine(t *rapid.T) output.Line {
	var line output.Line
	for _, text := range rapid.SliceOfN(rapid.StringOf(rapid.SampledFrom([]rune("abc d注🚀\té\x1b\u202e…"))), 0, 8).Draw(t, "texts") {
		line = append(line, output.Span{Style: output.Style(rapid.IntRange(0, int(output.Failure)).Draw(t, "style")), Text: text})
	}
	return line
}

func TestTruncateLine_FitsAndKeepsTheBeginning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line, width := drawLine(t), rapid.IntRange(0, 60).Draw(t, "width")
		whole, cut := clean(line.String()), clean(TruncateLine(line, width).String())
		if Width(cut) > width {
			t.Errorf("%q takes %d columns, not at most %d", cut, Width(cut), width)
		}
		if cut != whole && (!strings.HasPrefix(whole, strings.TrimSuffix(cut, "…")) || Width(whole) <= width) {
			t.Errorf("%q in %d columns is %q", whole, width, cut)
		}
	})
}

func TestWrap_FitsAndKeepsEveryWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line, width := drawLine(t), rapid.IntRange(2, 60).Draw(t, "width")
		var b strings.Builder
		for _, part := range Wrap(line, width, rapid.IntRange(0, 10).Draw(t, "indent")) {
			text := strings.TrimRight(part.String(), " ")
			if Width(text) > width {
				t.Errorf("%q takes %d columns, not at most %d", text, Width(text), width)
			}
			b.WriteString(text)
		}
		if got, want := strings.ReplaceAll(b.String(), " ", ""), strings.ReplaceAll(clean(line.String()), " ", ""); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestTable_LeavesOutAndShortensColumnsInOrder(t *testing.T) {
	table := Table{
		Titles: []string{"A", "B", "C"}, Rows: [][]output.Span{{{Text: "aaaaaaaaaa"}, {Text: "bbbbb"}, {Text: "ccccc"}}},
		Reductions: []Reduction{{Title: "A", MinWidth: 8}, {Title: "B"}, {Title: "A", MinWidth: 3}},
	}
	for width, want := range map[int]string{
		0: "aaaaaaaaaa  bbbbb  ccccc", 24: "aaaaaaaaaa  bbbbb  ccccc", 23: "aaaaaaaa…  bbbbb  ccccc", 22: "aaaaaaa…  bbbbb  ccccc", 21: "aaaaaaaaaa  ccccc",
		16: "aaaaaaaa…  ccccc", 10: "aa…  ccccc", 8: "aa…  cc…",
	} {
		if lines := table.Lines(width); lines[1].String() != want {
			t.Errorf("%d columns: %q, want %q", width, lines[1], want)
		}
	}
}

func TestFit_TakesExactlyItsColumns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var styled, plain strings.Builder
		for _, part := range rapid.SliceOfN(rapid.StringOf(rapid.SampledFrom([]rune("abc d注🚀é…"))), 0, 8).Draw(t, "texts") {
			styled.WriteString("\x1b[1m" + part + resetStyle)
			plain.WriteString(part)
		}
		width := rapid.IntRange(0, 40).Draw(t, "width")
		left, right := Fit(styled.String(), width), FitRight(styled.String(), width)
		if StyledWidth(left) != width || StyledWidth(right) != width {
			t.Errorf("%q in %d columns takes %d and %d", plain.String(), width, StyledWidth(left), StyledWidth(right))
		}
		if width > 0 && Width(plain.String()) <= width && (strings.TrimRight(left, " ") != strings.TrimRight(styled.String(), " ") || strings.Contains(left, "…") != strings.Contains(plain.String(), "…")) {
			t.Errorf("%q in %d columns is %q", styled.String(), width, left)
		}
	})
}

func TestWrapText_FitsAndHasNoBlanksAtTheEnds(t *testing.T) {
	for text, want := range map[string][]string{
		"":                     {""},
		"one two three":        {"one two", "three"},
		"long-word-of-20-char": {"long-wor", "d-of-20-", "char"},
		"a 注注注注 b":             {"a", "注注注注", "b"},
	} {
		if got := WrapText(text, 8); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := WrapText("one two three ", 0); !slices.Equal(got, []string{"one two three"}) {
		t.Errorf("without a limit: %q", got)
	}
}
