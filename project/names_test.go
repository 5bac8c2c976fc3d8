package project

import (
	"slices"
	"testing"
)

func TestNames_AreThoseOfBothFilesAlsoWithMistakes(t *testing.T) {
	f := &Files{
		Config: []byte("linger = \"often\"\n[services.web]\ntags = [\"front\", 7, \"db\"]\n[services.db]\nunknown = 1\n[services.late]\ntags = \n"),
		Local:  []byte("[services.mine]\ntags = [\"db\", \"own\"]\n"),
	}
	services, tags := f.Names()
	for _, want := range []string{"web", "db", "mine"} {
		if !slices.Contains(services, want) {
			t.Errorf("the services are %q, want %s", services, want)
		}
	}
	if want := []string{"db", "front", "own"}; !slices.Equal(tags, want) {
		t.Errorf("the tags are %q, want %q", tags, want)
	}
	if services, tags := (&Files{}).Names(); services != nil || tags != nil {
		t.Errorf("an empty config has %q and %q", services, tags)
	}
}
