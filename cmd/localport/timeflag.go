package main

import (
	"fmt"
	"time"

	"github.com/localport-sh/localport/project"
)

// timeFlag is a flag whose value is a time, or an age relative to now.
type timeFlag struct{ time.Time }

// timeLayouts are the accepted forms of a time. Without a time zone it is local time.
var timeLayouts = []string{
	time.RFC3339Nano, localTimeLayout, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00",
	"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly,
}

// localTimeLayout is the form of times that people read: local, with the zone, so that they can be compared with those of other
// machines. They can be given to --since.
const localTimeLayout = "2006-01-02 15:04:05 -07:00"

func formatLocalTime(t time.Time) string { return t.Local().Format(localTimeLayout) }

// UnmarshalText reads a flag's value.
func (f *timeFlag) UnmarshalText(text []byte) (err error) {
	f.Time, err = parseTime(string(text), time.Now())
	return err
}

func parseTime(text string, now time.Time) (time.Time, error) {
	if ago, err := project.ParseAge(text); err == nil {
		return now.Add(-ago), nil
	}
	for _, form := range timeLayouts {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, form := range []string{"15:04", "15:04:05"} { // today
		if t, err := time.ParseInLocation(time.DateOnly+" "+form, now.Format(time.DateOnly)+" "+text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("invalid time %q: must be an age (10m, 7d) or a time (15:04, 2026-01-31, 2026-01-31T15:04:05Z)", text)
}
