package project

import (
	"fmt"
	"testing"
)

func TestHintKnown_NamesTheNearestOrAll(t *testing.T) {
	var many []string
	for i := range 22 {
		many = append(many, fmt.Sprintf("c%02d", i))
	}
	for _, c := range []struct {
		name  string
		known []string
		want  string
	}{
		{"stagin", []string{"prod", "staging"}, `did you mean "staging"?`},
		{"dev", []string{"staging", "prod", "prod"}, "contexts: prod, staging"},
		{"", []string{"staging"}, "contexts: staging"},
		{"dev", nil, ""},
		{"elsewhere", many, "contexts: c00, c01, c02, c03, c04, c05, c06, c07, c08, c09, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19 and 2 more"},
	} {
		if got := HintKnown("context", c.name, c.known); got != c.want {
			t.Errorf("%q among %q: %q, want %q", c.name, c.known, got, c.want)
		}
	}
}
