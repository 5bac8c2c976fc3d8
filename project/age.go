package project

import (
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseAge parses what ParseDuration does, and also a number of days such as "7d". The result is always positive.
func ParseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if f, err := strconv.ParseFloat(days, 64); err == nil {
			return durationOfSeconds(f * day.Seconds())
		}
	}
	return ParseDuration(text)
}
