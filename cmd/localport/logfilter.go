package main

import (
	"fmt"
	"log/slog"
	"regexp"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// logFilter are the flags that select log lines.
type logFilter struct {
	Since timeFlag `placeholder:"WHEN" help:"Start time: 10m or 7d (ago), 15:04, 2026-01-31, or an RFC 3339 time."`
	Until timeFlag `placeholder:"WHEN" help:"End time, in the same forms."`
	Level string   `enum:",debug,info,warn,error" default:"" placeholder:"LEVEL" help:"Minimum level: debug, info, warn or error."`
	Grep  string   `placeholder:"RE" help:"Print only lines that match this regular expression."`
}

// newMatcher returns a function that reports whether a line is selected.
func (f logFilter) newMatcher() (func(namedLine) bool, error) {
	re, err := regexp.Compile(f.Grep)
	if err != nil {
		return nil, output.Usage(fmt.Errorf("--grep: %w", err))
	}
	minLevel := slog.LevelDebug
	if f.Level != "" {
		if err := minLevel.UnmarshalText([]byte(f.Level)); err != nil {
			return nil, output.Usage(err)
		}
	}
	return func(line namedLine) bool {
		switch {
		case line.Level < minLevel, line.Time.Before(f.Since.Time):
			return false
		case !f.Until.IsZero() && line.Time.After(f.Until.Time):
			return false
		}
		return re.MatchString(line.Raw) || re.MatchString(line.localText())
	}, nil
}
