// Package top is the full screen of "localport top". Update and View are pure functions of a Model: they read no clock, file or socket. What Update
// wants done it returns as effects, which the program of Run carries out; the results come back as messages.
package top

import (
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/process/holder"
)

// Model is everything that the screen shows. The zero value is a screen before the first status.
type Model struct {
	Options
	Now    time.Time // of the last message with a time; ages on the screen count from it
	Width  int       // of the terminal, in columns
	Height int

	supervisor  supervisorState
	isWatching  bool // a Watch has not ended yet
	status      api.Status
	problem     string // why the project cannot be asked, in supervisorLost
	connections map[string][]holder.Connection
	traffic     map[string]*traffic
	events      []Event
	logLines    []LogLine
	logPath     string // the log that logLines are from

	mode     mode
	panel    panel
	selected string // the name of the selected service
	filter   string // the services shown are those that it matches
	sort     sortOrder
	scroll   int // by how many lines the panel is scrolled: a log up from its end, everything else down
	request  request
	notice   notice
	answer   answer
}

// Options are what a Model does not learn from messages.
type Options struct {
	// DescribeLeases says who uses the project: "used by 1 shell".
	DescribeLeases func([]api.Lease) string
	// ASCII is set if the terminal shows no other characters.
	ASCII bool
	// NoColor is set if the user wants no colours.
	NoColor bool
}

// supervisorState says whether the supervisor answers, from which the screen gets its status.
type supervisorState int

const (
	supervisorConnecting supervisorState = iota // no status yet
	supervisorRunning                           // a supervisor answers
	supervisorStopped                           // the project has no supervisor; it is looked for every second
	supervisorLost                              // the project cannot be asked; that is repeated every second
)

// mode is what keys mean.
type mode int

const (
	modeBrowse  mode = iota // keys are commands
	modeFilter              // keys are typed into the filter
	modeConfirm             // y carries out the request
	modeHelp                // any key closes the help
)

// panel is what the lower part of the screen shows of the selected service.
type panel int

const (
	panelOverview panel = iota
	panelLogs
	panelWhy
	panelCount
)

func (p panel) title() string { return [...]string{"overview", "logs", "why"}[p] }

// sortOrder is the order of the services.
type sortOrder int

const (
	sortConfig  sortOrder = iota // as in the config
	sortName                     // by name
	sortState                    // what needs a person first
	sortTraffic                  // the busiest first
	sortOrderCount
)

func (s sortOrder) title() string { return [...]string{"config order", "name", "state", "traffic"}[s] }

// request is a command on a service that waits for a confirmation.
type request struct {
	verb     string // of localport: "stop", "restart"
	service  string
	question string
}

// notice is a message in the last line.
type notice struct {
	text    string
	isError bool
	until   time.Time // zero: until the next notice
}

// answer is what "localport why" printed.
type answer struct {
	service string
	lines   []string
	pending bool // it is running
}

// Event is something that happened in the project.
type Event struct {
	Time    time.Time
	Service string // empty: the project as a whole
	Text    string
}

// LogLine is a line of a service's log.
type LogLine struct {
	Time    time.Time
	IsError bool
	Text    string
}

// The messages that Update knows.
type (
	// KeyMsg is a pressed key: its name ("q", "ctrl+c", "up"), and the text that it types, if any.
	KeyMsg struct{ Key, Text string }
	// PasteMsg is text that was pasted.
	PasteMsg struct{ Text string }
	// ResizeMsg is the size of the terminal.
	ResizeMsg struct{ Width, Height int }
	// TickMsg comes every second.
	TickMsg struct{ Now time.Time }
	// StatusMsg is a change that the supervisor reported.
	StatusMsg struct {
		Now    time.Time
		Status api.Status
	}
	// WatchEndedMsg says that the supervisor reports no further changes: it has ended, was replaced, or there is none.
	WatchEndedMsg struct{}
	// RefreshMsg is the result of Refresh.
	RefreshMsg struct {
		Now         time.Time
		Status      api.Status
		Err         error // why there is no status
		Connections []holder.Connection
		Events      []Event
	}
	// LogMsg are the last lines of a log.
	LogMsg struct {
		Path  string
		Lines []LogLine
	}
	// CommandMsg is the end of a command of localport.
	CommandMsg struct {
		Now     time.Time
		Verb    string
		Service string
		Output  string
		Err     error
	}
)

// Effect is something that Update wants done.
type Effect interface{ isEffect() }

// The effects.
type (
	// Quit ends the program.
	Quit struct{}
	// Suspend stops the process, as Ctrl-Z does.
	Suspend struct{}
	// Redraw draws the whole screen again.
	Redraw struct{}
	// Tick sends a TickMsg after a second.
	Tick struct{}
	// Watch sends a StatusMsg after each change, and in the end a WatchEndedMsg.
	Watch struct{}
	// Refresh asks for what nobody reports: counters, clients and events.
	Refresh struct {
		Services []api.ServiceStatus // whose clients are looked for
	}
	// ReadLog reads the end of a service's log.
	ReadLog struct{ Service, Path string }
	// RunCommand runs a command of localport. Its output is shown on the screen.
	RunCommand struct{ Verb, Service string }
	// RunInTerminal runs a command of localport that uses the terminal itself.
	RunInTerminal struct{ Verb, Service string }
	// Copy puts text into the terminal's clipboard.
	Copy struct{ Text string }
)

func (Quit) isEffect()          {}
func (Suspend) isEffect()       {}
func (Redraw) isEffect()        {}
func (Tick) isEffect()          {}
func (Watch) isEffect()         {}
func (Refresh) isEffect()       {}
func (ReadLog) isEffect()       {}
func (RunCommand) isEffect()    {}
func (RunInTerminal) isEffect() {}
func (Copy) isEffect()          {}
