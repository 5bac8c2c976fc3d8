package project

import (
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseAge reads a duration that may be long: as ParseDuration does, and a number of days, as "7d". It is always more
// than zero.
func ParseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if f, err := strconv.ParseFloat(days, 64); err == nil {
			return durationOfSeconds(f * day.Seconds())
		}
	}
	return ParseDuration(text)
}
