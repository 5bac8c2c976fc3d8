package startupfile

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project"
)

var (
	hookPattern      = project.LazyRegexp(`localport\S*["']?\s+hook\b`)
	otherToolPattern = project.LazyRegexp(`\b(direnv)\s+hook\b|\b(mise)\s+activate\b|\b(starship)\s+init\b`)
	// What replaces the list of functions that run at each prompt, instead of adding to it.
	listReplacedPattern = project.LazyRegexp(`^\s*(?:export\s+)?(?:PROMPT_COMMAND=[^$]*$|precmd_functions=\([^$]*\)$)`)
)

// HookLines are the numbers of the lines of a start-up file that concern hooks, from 1; 0: there is none.
type HookLines struct {
	Path          string
	HookLine      int            // loads the hook
	ListResetLine int            // replaces what runs at each prompt
	OtherHooks    map[string]int // by the names of other programs
}

// Read reads the file or, if that does not load the hook, the first of the shell's other files that does.
func (f File) Read() HookLines {
	own := readHookLines(f.Path)
	for _, path := range f.others {
		if own.HookLine > 0 {
			break
		}
		if other := readHookLines(path); other.HookLine > 0 {
			return other
		}
	}
	return own
}

func readHookLines(path string) HookLines {
	h := HookLines{Path: path, OtherHooks: make(map[string]int)}
	data, _ := os.ReadFile(path)
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			continue
		case hookPattern().MatchString(line):
			h.HookLine = number
		case listReplacedPattern().MatchString(line):
			h.ListResetLine = number
		}
		if match := otherToolPattern().FindStringSubmatch(line); match != nil {
			h.OtherHooks[strings.Join(match[1:], "")] = number
		}
	}
	if h.HookLine == 0 && isScript(path) { // the hook itself
		h.HookLine = 1
	}
	return h
}

// String names the place of the hook, and its order beside the hooks of other programs.
func (h HookLines) String() string {
	parts := []string{fmt.Sprintf("%s:%d", h.Path, h.HookLine)}
	for _, name := range slices.Sorted(maps.Keys(h.OtherHooks)) {
		order := "before"
		if h.OtherHooks[name] < h.HookLine {
			order = "after"
		}
		parts = append(parts, order+" "+name)
	}
	return strings.Join(parts, ", ")
}
