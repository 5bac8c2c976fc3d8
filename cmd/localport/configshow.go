package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

type configShowCmd struct {
	Services []string `arg:"" optional:"" name:"service" help:"Show only these services."`
	JSON     bool     `help:"Print JSON."`
}

// Help explains what is printed.
func (configShowCmd) Help() string {
	return "Each value is followed by its origin: a line of a file, with the variables in it, or \"default\". Secrets are shown as ***.\n\n" +
		"Example: localport config show db\n\n" +
		"Exit codes: 0 printed; 1 a service is unknown, or the config cannot be read; 2 wrong usage; 3 the config is invalid."
}

// Run prints the values.
func (c configShowCmd) Run(a *app, p commandProject) error {
	_, files, err := p.AskTrust() // which adds the files that a git worktree runs with
	if err != nil {
		return err
	}
	options := p.parseOptions()
	userConfig := ""
	if user, err := client.ReadUser(); err == nil && (user.Linger != 0 || user.KeepConnections) {
		options.Linger, options.KeepConnections = user.Linger, user.KeepConnections
		userConfig = project.UserConfigName
	}
	values, err := files.Resolve(options)
	if err != nil {
		return err
	}
	if values, err = c.selectValues(values); err != nil {
		return err
	}
	shown := make([]shownValue, len(values))
	for i, value := range values {
		shown[i] = newShownValue(value, files.Root, userConfig)
	}
	if c.JSON {
		return output.JSON(a.out.Data(), shownConfig{Root: files.Root, Config: files.Path, Values: shown})
	}
	_, err = fmt.Fprint(a.out, formatShown(shown))
	return err
}

// selectValues returns the values of the services that are asked for.
func (c configShowCmd) selectValues(values []project.ResolvedValue) ([]project.ResolvedValue, error) {
	var known []string
	for _, value := range values {
		if value.Service != "" && !slices.Contains(known, value.Service) {
			known = append(known, value.Service)
		}
	}
	for _, name := range c.Services {
		if !slices.Contains(known, name) {
			return nil, unknownNameError("service", name, known)
		}
	}
	if len(c.Services) > 0 {
		values = slices.DeleteFunc(values, func(v project.ResolvedValue) bool { return !slices.Contains(c.Services, v.Service) })
	}
	return values, nil
}

// shownConfig is the document that "config show --json" prints.
type shownConfig struct {
	Root   string       `json:"root"`
	Config string       `json:"config"`
	Values []shownValue `json:"values"`
}

type shownValue struct {
	Service string      `json:"service,omitempty"`
	Key     string      `json:"key"`
	Value   any         `json:"value"`
	Secret  bool        `json:"secret,omitempty"`
	Error   string      `json:"error,omitempty"`
	Origin  shownOrigin `json:"origin"`
}

// shownOrigin is where a value comes from.
type shownOrigin struct {
	Kind           string `json:"kind"` // "file", "user" (the user's config) or "default"
	project.Origin        // of a file
	text           string // for people
}

func newShownValue(v project.ResolvedValue, root, userConfig string) shownValue {
	shown := shownValue{Service: v.Service, Key: v.Key, Value: v.Value, Secret: v.IsSecret, Error: v.Problem}
	if duration, ok := v.Value.(time.Duration); ok {
		shown.Value = formatConfigDuration(duration)
	}
	switch {
	case v.Origin.Path != "":
		shown.Origin = shownOrigin{"file", v.Origin, v.Origin.Describe(root)}
	case v.Service == "" && v.Key == "linger" && userConfig != "":
		shown.Origin = shownOrigin{Kind: "user", text: "your own " + userConfig}
	default:
		shown.Origin = shownOrigin{Kind: "default", text: "default"}
	}
	return shown
}

// draftValue returns a resolved value as a config would give it.
func draftValue(value any) any {
	switch value := value.(type) {
	case time.Duration:
		return formatConfigDuration(value)
	case map[string]string:
		table := draft.Table{}
		for _, name := range slices.Sorted(maps.Keys(value)) {
			table = append(table, draft.Entry{Key: name, Value: value[name]})
		}
		return table
	}
	return value
}

// formatConfigDuration returns a duration as people write it: "15m", not "15m0s".
func formatConfigDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// maxValueWidth is the width of the column of values: with the origin, most lines fit 80 columns.
const maxValueWidth = 48

// formatShown returns the values as lines of TOML, each with its origin as a comment.
func formatShown(values []shownValue) string {
	var b strings.Builder
	width := 0
	for _, value := range values {
		if n := len(value.line()); n <= maxValueWidth {
			width = max(width, n)
		}
	}
	header := ""
	for _, value := range values {
		if h := value.header(); h != header {
			header = h
			fmt.Fprintf(&b, "%s[%s]\n", map[bool]string{true: "\n"}[b.Len() > 0], h)
		}
		fmt.Fprintf(&b, "%-*s  # %s\n", width, value.line(), value.Origin.text)
	}
	return b.String()
}

// header is the name of the table that the value is shown in.
func (v shownValue) header() string {
	switch {
	case v.Service != "":
		return "services." + v.Service
	case strings.HasPrefix(v.Key, "env."):
		return "env"
	}
	return ""
}

func (v shownValue) line() string {
	key := strings.TrimPrefix(v.Key, "env.")
	if v.Error != "" {
		return fmt.Sprintf("# %s: %s", key, v.Error)
	}
	return output.EscapeLine(key + " = " + draft.FormatResolved(draftValue(v.Value)))
}
