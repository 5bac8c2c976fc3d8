package chaos

import (
	"fmt"
	"strconv"
	"strings"
)

// Matrix counts how often each event has happened in each state.
type Matrix struct {
	kinds []EventKind
	hits  map[Cell]int
}

// NewMatrix makes an empty matrix.
func NewMatrix(kinds []EventKind) *Matrix { return &Matrix{kinds: kinds, hits: map[Cell]int{}} }

// CountHit counts an event that has happened in a state.
func (m *Matrix) CountHit(cell Cell) { m.hits[cell]++ }

// EmptyCells returns the possible cells whose event has not happened in their state.
func (m *Matrix) EmptyCells() []Cell {
	var empty []Cell
	for _, kind := range m.kinds {
		for _, state := range States {
			cell := Cell{kind.Name, state}
			if kind.Impossible[state] == "" && m.hits[cell] == 0 {
				empty = append(empty, cell)
			}
		}
	}
	return empty
}

// String returns the table: a count for each possible cell, "-" for an impossible one. The reasons for "-" are listed below the table.
func (m *Matrix) String() string {
	var b strings.Builder
	width := 0
	for _, kind := range m.kinds {
		width = max(width, len(kind.Name))
	}
	fmt.Fprintf(&b, "%-*s", width, "event")
	for _, state := range States {
		fmt.Fprintf(&b, "  %8s", state)
	}
	b.WriteString("\n")
	var reasons []string
	for _, kind := range m.kinds {
		fmt.Fprintf(&b, "%-*s", width, kind.Name)
		for _, state := range States {
			text := strconv.Itoa(m.hits[Cell{kind.Name, state}])
			if reason := kind.Impossible[state]; reason != "" {
				text = "-"
				reasons = append(reasons, fmt.Sprintf("-  %s, %s: %s", kind.Name, state, reason))
			}
			fmt.Fprintf(&b, "  %8s", text)
		}
		b.WriteString("\n")
	}
	for _, reason := range reasons {
		b.WriteString(reason + "\n")
	}
	return b.String()
}
