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

// Contents is where a start-up file has which line, from 1; 0: nowhere.
type Contents struct {
	Path          string
	HookLine      int            // loads the hook
	ListResetLine int            // replaces what runs at each prompt
	OtherHooks    map[string]int // by the names of other programs
}

// Read reads the file or, if that does not load the hook, the first of the shell's other files that does.
func (f File) Read() Contents {
	own := readContents(f.Path)
	for _, path := range f.others {
		if own.HookLine > 0 {
			break
		}
		if other := readContents(path); other.HookLine > 0 {
			return other
		}
	}
	return own
}

func readContents(path string) Contents {
	c := Contents{Path: path, OtherHooks: make(map[string]int)}
	data, _ := os.ReadFile(path)
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			continue
		case hookPattern().MatchString(line):
			c.HookLine = number
		case listReplacedPattern().MatchString(line):
			c.ListResetLine = number
		}
		if match := otherToolPattern().FindStringSubmatch(line); match != nil {
			c.OtherHooks[strings.Join(match[1:], "")] = number
		}
	}
	if c.HookLine == 0 && isScript(path) { // the hook itself
		c.HookLine = 1
	}
	return c
}

// String names the place of the hook, and its order beside the hooks of other programs.
func (c Contents) String() string {
	parts := []string{fmt.Sprintf("%s:%d", c.Path, c.HookLine)}
	for _, name := range slices.Sorted(maps.Keys(c.OtherHooks)) {
		order := "before"
		if c.OtherHooks[name] < c.HookLine {
			order = "after"
		}
		parts = append(parts, order+" "+name)
	}
	return strings.Join(parts, ", ")
}
