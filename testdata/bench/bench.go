// Package bench compares programs: each round measures LocalPort and its peers in turn, and one table shows the ratios and which goals are
// reached.
package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// LocalPort is the name of the program that is compared with its peers.
const LocalPort = "localport"

// Goal is a limit for a ratio, or for a figure without a peer. The zero value is no goal.
type Goal struct {
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least,omitempty"` // the limit is a minimum
	isSet   bool
}

// AtMost returns the goal that a value is at most limit.
func AtMost(limit float64) Goal { return Goal{Limit: limit, isSet: true} }

// AtLeast returns the goal that a value is at least limit.
func AtLeast(limit float64) Goal { return Goal{Limit: limit, AtLeast: true, isSet: true} }

func (g Goal) String() string {
	switch {
	case !g.isSet:
		return "-"
	case g.AtLeast:
		return "≥ " + formatFigure(g.Limit)
	case g.Limit > 0 && g.Limit < 0.3 && 1/g.Limit == float64(int(1/g.Limit)):
		return fmt.Sprintf("≤ 1/%.0f", 1/g.Limit)
	}
	return "≤ " + formatFigure(g.Limit)
}

// isReached reports whether a value that lies in the interval may be on the right side of the limit.
func (g Goal) isReached(interval Interval) bool {
	if g.AtLeast {
		return interval.High >= g.Limit
	}
	return interval.Low <= g.Limit
}

// Peer is a program that LocalPort is compared with, and the goal for the ratio of LocalPort's figure to its figure.
type Peer struct {
	Name string
	Goal Goal
}

// Comparison is a figure that each round measures for LocalPort and its peers.
type Comparison struct {
	Name, Unit string
	Peers      []Peer

	goal    Goal                 // for the figure itself
	figures map[string][]float64 // by program, one a round
	missing map[string]string    // by peer: why it is not measured
}

// Table is the result of comparisons.
type Table struct {
	comparisons []*Comparison
	failures    []string
}

// Compare adds a comparison with peers to the table.
func (t *Table) Compare(name, unit string, peers ...Peer) *Comparison {
	c := &Comparison{Name: name, Unit: unit, Peers: peers, figures: map[string][]float64{}, missing: map[string]string{}}
	t.comparisons = append(t.comparisons, c)
	return c
}

// Measure adds a figure that has no peer and is compared with a goal itself.
func (t *Table) Measure(name, unit string, goal Goal) *Comparison {
	c := t.Compare(name, unit)
	c.goal = goal
	return c
}

// Fail records that a measurement has failed, so that its rows are incomplete.
func (t *Table) Fail(name string) { t.failures = append(t.failures, name) }

// Missing says why a peer is not measured.
func (c *Comparison) Missing(peer, why string) { c.missing[peer] = why }

// IsMissing reports whether Missing was called for the peer.
func (c *Comparison) IsMissing(peer string) bool { return c.missing[peer] != "" }

// Order returns LocalPort and the peers that are not missing, in the order of a round: each is first equally often.
func (c *Comparison) Order(round int) []string {
	names := []string{LocalPort}
	for _, peer := range c.Peers {
		if !c.IsMissing(peer.Name) {
			names = append(names, peer.Name)
		}
	}
	first := round % len(names)
	return slices.Concat(names[first:], names[:first])
}

// Add records a program's figure of one round.
func (c *Comparison) Add(program string, figure float64) {
	c.figures[program] = append(c.figures[program], figure)
}

// Figures returns a program's figures, one a round.
func (c *Comparison) Figures(program string) []float64 { return c.figures[program] }

// Row is a comparison with one peer, or a figure without peer.
type Row struct {
	Name    string    `json:"row"`
	Unit    string    `json:"unit"`
	Peer    string    `json:"peer,omitempty"`
	Ours    float64   `json:"ours"`            // median
	Theirs  float64   `json:"peers,omitempty"` // median
	Ratio   *float64  `json:"ratio,omitempty"` // median of the ratios of the rounds
	Spread  Interval  `json:"interval"`        // of the ratio, or of the figure where there is no peer
	Least   float64   `json:"least"`           // the same in the extreme rounds
	Most    float64   `json:"most"`
	Goal    string    `json:"goal,omitempty"`
	Reached *bool     `json:"reached,omitempty"`
	Missing string    `json:"missing,omitempty"` // why the peer is not measured
	Rounds  int       `json:"rounds"`
	OurRaw  []float64 `json:"our_figures,omitempty"`
	PeerRaw []float64 `json:"peers_figures,omitempty"`
}

// Rows returns the comparisons that have figures, in the order in which they were added.
func (t *Table) Rows() (rows []Row) {
	for _, c := range t.comparisons {
		if len(c.Peers) == 0 {
			if len(c.figures[LocalPort]) > 0 {
				rows = append(rows, c.row(Peer{Goal: c.goal}))
			}
			continue
		}
		for _, peer := range c.Peers {
			rows = append(rows, c.row(peer))
		}
	}
	return rows
}

func (c *Comparison) row(peer Peer) Row {
	ours, theirs := c.figures[LocalPort], c.figures[peer.Name]
	row := Row{Name: c.Name, Unit: c.Unit, Peer: peer.Name, Goal: strings.Trim(peer.Goal.String(), "-"), Missing: c.missing[peer.Name], OurRaw: ours}
	row.Rounds = len(ours)
	if len(ours) == 0 {
		return row
	}
	row.Ours = Median(ours)
	values := ours
	if peer.Name != "" {
		if row.Rounds = min(len(ours), len(theirs)); row.Rounds == 0 {
			return row
		}
		row.PeerRaw, row.Theirs = theirs, Median(theirs)
		values = make([]float64, row.Rounds)
		for i := range values {
			values[i] = ours[i] / theirs[i]
		}
		ratio := Median(values)
		row.Ratio = &ratio
	}
	row.Spread, row.Least, row.Most = MedianInterval(values), slices.Min(values), slices.Max(values)
	if peer.Goal.isSet {
		reached := peer.Goal.isReached(row.Spread)
		row.Reached = &reached
	}
	return row
}

// formatFigure writes a figure with three significant digits and without an exponent.
func formatFigure(figure float64) string {
	if figure >= 1000 || figure <= -1000 {
		return fmt.Sprintf("%.0f", figure)
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(figure, 'g', 3, 64), 64)
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}
