//go:build linux

package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// benchTable are the results of a benchmark: a row for each alternative, a column for each figure.
type benchTable struct {
	columns []string
	values  map[string][][]float64 // by row, of each column
}

func newBenchTable(columns ...string) *benchTable {
	return &benchTable{columns: columns, values: map[string][][]float64{}}
}

// add adds the figures of one round, for all columns or the first ones.
func (s *benchTable) add(row string, figures ...float64) {
	if s.values[row] == nil {
		s.values[row] = make([][]float64, len(s.columns))
	}
	for i, figure := range figures {
		s.values[row][i] = append(s.values[row][i], figure)
	}
}

func (s *benchTable) median(row string, column int) float64 {
	all := slices.Sorted(slices.Values(s.values[row][column]))
	if len(all) == 0 {
		return math.NaN()
	}
	return all[len(all)/2]
}

// report prints the medians, with "-" where there are no figures. For the columns in ratios, it reports localport's median divided by
// plain ssh's.
func (s *benchTable) report(b *testing.B, ratios ...string) {
	b.Helper()
	var text strings.Builder
	lines := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(lines, "\n\t%s\t\n", strings.Join(s.columns, "\t"))
	for _, row := range slices.Sorted(maps.Keys(s.values)) {
		fmt.Fprint(lines, row)
		for i := range s.columns {
			fmt.Fprint(lines, "\t"+strings.ReplaceAll(fmt.Sprintf("%.4g", s.median(row, i)), "NaN", "-"))
		}
		fmt.Fprint(lines, "\t\n")
	}
	_ = lines.Flush()
	b.Log(text.String())
	b.ReportMetric(0, "ns/op")
	for i, column := range s.columns {
		if slices.Contains(ratios, column) {
			b.ReportMetric(s.median(localportName, i)/s.median(plainSSH, i), strings.ReplaceAll(column, " ", "-")+"/"+plainSSH)
		}
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
