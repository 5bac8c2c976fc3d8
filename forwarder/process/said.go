package process

import (
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder"
)

// saidLines is how many lines Said remembers: more than any tool prints about one failure.
const saidLines = 50

// Said remembers what a child said of its troubles, to find in it why the child ended. It is not safe for
// concurrent use; a Line may add to it, and Done makes it safe to read.
type Said struct{ lines []string }

// Add remembers a line. Empty ones are passed over, and old ones forgotten.
func (s *Said) Add(line string) {
	if line == "" {
		return
	}
	if len(s.lines) == saidLines {
		s.lines = slices.Delete(s.lines, 0, 1)
	}
	s.lines = append(s.lines, line)
}

// Forget forgets what was said so far.
func (s *Said) Forget() { s.lines = nil }

// Last is the last line that holds a text.
func (s *Said) Last(text string) (line string, ok bool) {
	for _, line := range slices.Backward(s.lines) {
		if strings.Contains(line, text) {
			return line, true
		}
	}
	return "", false
}

// LastBut is the last line that holds none of the texts.
func (s *Said) LastBut(texts ...string) (line string, ok bool) {
	for _, line := range slices.Backward(s.lines) {
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) }) {
			return line, true
		}
	}
	return "", false
}

// Rule gives a line that holds Text its meaning.
type Rule struct {
	Text  string
	Class forwarder.Class
	Hint  string
}

// Explain is the failure by the first rule that any line fits, in the words of the last line that does; nil where
// none fits. So what tells more stands before what tells less.
func (s *Said) Explain(rules []Rule) *forwarder.Failure {
	for _, rule := range rules {
		if line, ok := s.Last(rule.Text); ok {
			return &forwarder.Failure{Class: rule.Class, Reason: line, Hint: rule.Hint}
		}
	}
	return nil
}
