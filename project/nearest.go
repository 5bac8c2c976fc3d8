package project

import (
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
