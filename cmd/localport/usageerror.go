package main

import (
	"fmt"
	"strings"

	"github.com/localport-sh/localport/project"
)

// kong's messages about the value of a flag, which begin with the flag, and about an argument that is missing.
var (
	missingValuePattern  = project.LazyRegexp(`^(--?[\w-]+): (?:expected \w+ value but got "EOL" \(<EOL>\)|missing value, expecting .*)$`)
	followingFlagPattern = project.LazyRegexp(`^(--?[\w-]+): expected \w+ value but got "(.*)" \((?:short|long) flag\); perhaps try .*$`)
	wrongIntPattern      = project.LazyRegexp(`^(--?[\w-]+): expected a valid \d+ bit u?int but got (".*")$`)
	wrongDurationPattern = project.LazyRegexp(`^(--?[\w-]+): expected duration but got (".*?")(?:: .*)?$`)
	wrongBoolPattern     = project.LazyRegexp(`^(--?[\w-]+): bool value must be .* but got (".*")$`)
	missingPattern       = project.LazyRegexp(`^expected "(<[\w-]+>)(?: \.\.\.)?"$`)
	missingOfPattern     = project.LazyRegexp(`^expected one of (".*)$`)
)

// explainUsage returns, in plain words, what kong says about a value or an argument; any other text as it is.
func explainUsage(text string) string {
	if m := missingValuePattern().FindStringSubmatch(text); m != nil {
		return m[1] + " needs a value"
	}
	if m := followingFlagPattern().FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s needs a value, but %s follows; write %s=%s if that is the value", m[1], m[2], m[1], m[2])
	}
	if m := wrongIntPattern().FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s: %s is not a whole number", m[1], m[2])
	}
	if m := wrongDurationPattern().FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s: %s is not a duration, such as 30s or 5m", m[1], m[2])
	}
	if m := wrongBoolPattern().FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s: %s is neither true nor false; the flag needs no value", m[1], m[2])
	}
	if m := missingPattern().FindStringSubmatch(text); m != nil {
		return m[1] + " is missing"
	}
	if m := missingOfPattern().FindStringSubmatch(text); m != nil {
		return "one of these is missing: " + strings.ReplaceAll(m[1], `"`, "")
	}
	return strings.Replace(text, `must be one of "",`, "must be one of ", 1) // the empty value is the default
}
