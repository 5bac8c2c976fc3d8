package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// String returns the table as text: one line for each row, then what is missing and what has failed.
func (t *Table) String() string {
	var text strings.Builder
	lines := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(lines, "row\tpeer\tours\tpeer's\tunit\tratio\tinterval\trounds\tgoal\treached")
	var missing []string
	reached, missed := 0, 0
	for _, row := range t.Rows() {
		theirs, ratio, interval, verdict := "-", "-", "-", "-"
		switch {
		case row.Missing != "":
			theirs, verdict = "missing", "no peer"
			if note := row.Peer + " is not measured: " + row.Missing; len(missing) == 0 || missing[len(missing)-1] != note {
				missing = append(missing, note)
			}
		case row.Rounds == 0:
			verdict = "no figures"
		}
		if row.Rounds > 0 {
			interval = formatFigure(row.Spread.Low) + " to " + formatFigure(row.Spread.High)
		}
		if row.Ratio != nil {
			theirs, ratio = formatFigure(row.Theirs), formatFigure(*row.Ratio)
		}
		if row.Reached != nil {
			if verdict = "missed"; *row.Reached {
				verdict = "yes"
				reached++
			} else {
				missed++
			}
		}
		peer, ours, goal := row.Peer, formatFigure(row.Ours), row.Goal
		if peer == "" {
			peer = "-"
		}
		if len(row.OurRaw) == 0 {
			ours = "-"
		}
		if goal == "" {
			goal = "-"
		}
		fmt.Fprintf(lines, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", row.Name, peer, ours, theirs, row.Unit, ratio, interval, row.Rounds, goal, verdict)
	}
	_ = lines.Flush()
	fmt.Fprintf(&text, "\n%d goals reached, %d missed. A ratio is ours to the peer's, the median of the rounds; the interval holds it with 95 %% confidence (fewer than 6 rounds: the range).\n", reached, missed)
	printed := map[string]bool{}
	for _, note := range missing {
		if !printed[note] {
			fmt.Fprintln(&text, note)
			printed[note] = true
		}
	}
	for _, name := range t.failures {
		fmt.Fprintf(&text, "%s failed: its rows are missing or incomplete\n", name)
	}
	return text.String()
}

// Report is what a file in testdata/bench holds.
type Report struct {
	Date     time.Time         `json:"date"`
	Commit   string            `json:"commit"`
	Modified bool              `json:"modified"` // the working tree differs from the commit
	Machine  Machine           `json:"machine"`
	Load     [2]string         `json:"load"`     // /proc/loadavg before and after
	Seconds  float64           `json:"seconds"`  // that the measurements took
	Versions map[string]string `json:"versions"` // by program: its version, or that it is missing
	Rows     []Row             `json:"rows"`
	Failed   []string          `json:"failed,omitempty"`
}

// Start returns a report whose measurements begin now. The programs whose versions it holds are looked for in PATH.
func Start(programs []Program) *Report {
	r := &Report{Date: time.Now().UTC(), Machine: describeMachine(), Versions: map[string]string{}}
	r.Commit, r.Modified = describeCommit()
	r.Load[0] = loadAverage()
	for _, program := range programs {
		r.Versions[program.Name] = program.Version()
	}
	return r
}

// Write ends the report with a table and writes it to DIR/DATE-COMMITsuffix.json, whose name it returns.
func (r *Report) Write(dir, suffix string, t *Table) (path string, err error) {
	r.Load[1], r.Seconds = loadAverage(), time.Since(r.Date).Seconds()
	r.Rows, r.Failed = t.Rows(), t.failures
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, fmt.Sprintf("%s-%s%s.json", r.Date.Format("2006-01-02"), r.Commit, suffix))
	return path, os.WriteFile(path, append(data, '\n'), 0o644)
}
