package project

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
)

// NearestName returns the known name that word is probably a misspelling of; empty if there is none.
func NearestName(word string, known []string) string {
	best, bestDistance := "", len(word)
	if len(word) > 64 {
		return ""
	}
	for _, name := range known {
		limit := max(1, min(len(name), len(word))/3)
		distance := levenshtein.Distance(strings.ToLower(word), strings.ToLower(name), nil)
		if distance <= limit && distance < bestDistance {
			best, bestDistance = name, distance
		}
	}
	return best
}

// SuggestNearest returns the end of a message about an unknown name, "; did you mean …?"; empty if no known name is near.
func SuggestNearest(name string, known []string) string {
	if nearest := NearestName(name, known); nearest != "" {
		return didYouMean(nearest)
	}
	return ""
}

func didYouMean(name string) string { return fmt.Sprintf("; did you mean %q?", name) }

// joinAlternatives joins words for a message: a, b or c.
func joinAlternatives(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
