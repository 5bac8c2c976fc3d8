package process

import (
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder"
)

// maxTranscriptLines is how many lines a Transcript keeps: more than any tool prints about one failure.
const maxTranscriptLines = 50

// Transcript keeps the last lines of a child's output, to find out why the child ended. It is not safe for concurrent use:
// OnLine may add to it, and it may be read after Done.
type Transcript struct{ lines []string }

// Add appends a line and drops the oldest if there are too many. An empty line is ignored.
func (t *Transcript) Add(line string) {
	if line == "" {
		return
	}
	if len(t.lines) == maxTranscriptLines {
		t.lines = slices.Delete(t.lines, 0, 1)
	}
	t.lines = append(t.lines, line)
}

// Reset drops all lines.
func (t *Transcript) Reset() { t.lines = nil }

// Lines returns the lines, which the caller must not change.
func (t *Transcript) Lines() []string { return t.lines }

// LastContaining returns the last line that contains text.
func (t *Transcript) LastContaining(text string) (line string, ok bool) {
	for _, line := range slices.Backward(t.lines) {
		if strings.Contains(line, text) {
			return line, true
		}
	}
	return "", false
}

// LastWithout returns the last line that contains none of the texts.
func (t *Transcript) LastWithout(texts ...string) (line string, ok bool) {
	for _, line := range slices.Backward(t.lines) {
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) }) {
			return line, true
		}
	}
	return "", false
}

// Rule is the failure class and the hint for a line that contains Text.
type Rule struct {
	Text  string
	Class forwarder.Class
	Hint  string
}

// Classify returns the failure of the first rule that any line matches, with the last line that matches it as the reason; nil
// if no rule matches. More specific rules therefore come first.
func (t *Transcript) Classify(rules []Rule) *forwarder.Failure {
	for _, rule := range rules {
		if line, ok := t.LastContaining(rule.Text); ok {
			return &forwarder.Failure{Class: rule.Class, Reason: line, Hint: rule.Hint}
		}
	}
	return nil
}
