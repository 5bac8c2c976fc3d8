package project

import (
	"fmt"
	"slices"
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
		distance := editDistance(strings.ToLower(word), strings.ToLower(name))
		if distance <= limit && distance < bestDistance {
			best, bestDistance = name, distance
		}
	}
	return best
}

// editDistance is the number of letters to add, remove or replace; two neighbours that are exchanged count as one.
func editDistance(a, b string) int {
	distance := levenshtein.Distance(a, b, nil)
	if distance != 2 || len(a) != len(b) {
		return distance
	}
	for i := range len(a) - 1 {
		if a[i] != b[i] {
			if a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:] {
				return 1
			}
			break
		}
	}
	return distance
}

// SuggestNearest returns the end of a message about an unknown name, "; did you mean …?"; empty if no known name is similar.
func SuggestNearest(name string, known []string) string {
	if nearest := NearestName(name, known); nearest != "" {
		return didYouMean(nearest)
	}
	return ""
}

// maxListedNames limits the names that HintKnown lists.
const maxListedNames = 20

// HintKnown returns the hint for an unknown name: the known name that is similar or, if none is, what is known. It is empty if nothing is.
// kind is the singular noun.
func HintKnown(kind, name string, known []string) string {
	if nearest := NearestName(name, known); nearest != "" {
		return fmt.Sprintf("did you mean %q?", nearest)
	}
	known = slices.Compact(slices.Sorted(slices.Values(known)))
	if len(known) == 0 {
		return ""
	}
	more := ""
	if unlisted := len(known) - maxListedNames; unlisted > 0 {
		known, more = known[:maxListedNames], fmt.Sprintf(" and %d more", unlisted)
	}
	return kind + "s: " + strings.Join(known, ", ") + more
}

// HintLocal is a hint about a value that may be another one for each user of the project.
func HintLocal(what string) string {
	return fmt.Sprintf("a %s that differs from person to person belongs in %s", what, LocalName)
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
