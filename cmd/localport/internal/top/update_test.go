package top

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}

func pressed(m Model, key string) (Model, []Effect) { return Update(m, KeyMsg{Key: key, Text: key}) }

func TestUpdate_KeysRunCommandsOnTheSelectedService(t *testing.T) {
	t.Parallel()
	m := observe(begin(shop()), 1) // postgres is selected, and has connections
	for _, tt := range []struct {
		keys []string
		want []Effect
	}{
		{[]string{"r"}, nil}, // it asks first: connections are open
		{[]string{"r", "y"}, []Effect{RunCommand{"restart", "postgres"}}},
		{[]string{"r", "n"}, nil},
		{[]string{"down", "r"}, []Effect{RunCommand{"restart", "kafka"}}},
		{[]string{"s"}, nil},
		{[]string{"s", "y"}, []Effect{RunCommand{"stop", "postgres"}}},
		{[]string{"s", "q"}, nil},                                     // no answer is yes, and none quits
		{[]string{"end", "s", "y"}, []Effect{Copy{"127.0.0.1:2525"}}}, // mail is stopped already: y is not an answer
		{[]string{"S"}, []Effect{RunCommand{"start", "postgres"}}},
		{[]string{"i"}, []Effect{RunInTerminal{"login", "postgres"}}},
		{[]string{"y"}, []Effect{Copy{"127.0.0.1:5432"}}},
		{[]string{"w"}, []Effect{RunCommand{"why", "postgres"}}},
		{[]string{"l"}, []Effect{ReadLog{"postgres", "/logs/postgres"}}},
		{[]string{"l", "down"}, []Effect{ReadLog{"kafka", "/logs/kafka"}}},
		{[]string{"/", "q"}, nil}, // typed into the filter
		{[]string{"?", "q"}, nil}, // closes the help
		{[]string{"q"}, []Effect{Quit{}}},
		{[]string{"/", "ctrl+c"}, []Effect{Quit{}}},
		{[]string{"s", "ctrl+z"}, []Effect{Suspend{}}},
		{[]string{"ctrl+l"}, []Effect{Redraw{}}},
		{[]string{"x"}, nil},
	} {
		model, effects := m, []Effect(nil)
		for _, key := range tt.keys {
			model, effects = pressed(model, key)
		}
		if !reflect.DeepEqual(effects, tt.want) && len(effects)+len(tt.want) > 0 {
			t.Errorf("%q: got %#v, want %#v", tt.keys, effects, tt.want)
		}
	}
}

func TestUpdate_KeysWithoutServicesDoNothing(t *testing.T) {
	t.Parallel()
	status := shop()
	status.Services = nil
	for _, b := range bindings() {
		_, effects := pressed(begin(status), b.keys[0])
		for _, effect := range effects {
			switch effect.(type) {
			case Quit, Redraw:
			default:
				t.Errorf("%s: %#v", b.keys[0], effect)
			}
		}
	}
}

func TestUpdate_EveryKeyHasOneMeaning(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, b := range bindings() {
		for _, key := range b.keys {
			if seen[key] {
				t.Errorf("%s has two", key)
			}
			seen[key] = true
		}
	}
}

func TestUpdate_RefreshesEverySecondAndWatchesEachSupervisorOnce(t *testing.T) {
	t.Parallel()
	running := shop()
	stopped := running
	stopped.Supervisor = nil
	replaced := shop()
	replaced.Supervisor.Run, replaced.Supervisor.PID = "b", 4800
	m, effects := Start(sceneStart, running, sceneOptions)
	count := func(effects []Effect, want Effect) (n int) {
		for _, effect := range effects {
			if reflect.TypeOf(effect) == reflect.TypeOf(want) {
				n++
			}
		}
		return n
	}
	if count(effects, Watch{}) != 1 || count(effects, Refresh{}) != 1 || count(effects, Tick{}) != 0 {
		t.Fatalf("at first: %#v", effects)
	}
	for i, step := range []struct {
		status api.Status
		err    error
		watch  int
		notice string
	}{
		{running, nil, 0, ""},
		{stopped, nil, 0, "the supervisor has ended; waiting for the next one"},
		{running, nil, 1, "connected to the supervisor (pid 4711)"},
		{api.Status{}, errors.New("no answer"), 0, ""},
		{replaced, nil, 1, "connected to the supervisor (pid 4800)"},
		{running, nil, 1, "the supervisor was replaced (pid 4800 by 4711)"},
		{running, nil, 0, ""},
	} {
		if step.watch > 0 { // a supervisor that ends or is replaced ends the watch
			m, _ = Update(m, WatchEndedMsg{})
		}
		m.notice = notice{}
		m, effects = Update(m, RefreshMsg{Now: sceneStart.Add(time.Duration(i) * time.Second), Status: step.status, Err: step.err})
		if count(effects, Tick{}) != 1 || count(effects, Watch{}) != step.watch || count(effects, Refresh{}) != 0 || m.notice.text != step.notice {
			t.Errorf("step %d: %#v, %q", i, effects, m.notice.text)
		}
		m, effects = Update(m, TickMsg{sceneStart})
		if count(effects, Refresh{}) != 1 || count(effects, Tick{}) != 0 {
			t.Errorf("tick %d: %#v", i, effects)
		}
	}
}

// The stream of changes may end although the supervisor still runs: it is asked for again.
func TestUpdate_WatchesAgainAfterTheWatchHasEnded(t *testing.T) {
	t.Parallel()
	m, _ := Update(begin(shop()), WatchEndedMsg{})
	_, effects := Update(m, RefreshMsg{Now: sceneStart, Status: shop()})
	if !slices.Contains(effects, Effect(Watch{})) {
		t.Errorf("got %#v", effects)
	}
}

func TestUpdate_TrafficIsMeasuredBetweenRefreshes(t *testing.T) {
	t.Parallel()
	m := observe(begin(shop()), 1)
	if got := m.traffic["postgres"]; got.inPerSec != 1500 || got.outPerSec != 20000 || len(got.samples) != 1 {
		t.Errorf("got %+v", got)
	}
	m, _ = Update(m, StatusMsg{m.Now, m.status}) // no measurement: it comes whenever something changes
	if got := m.traffic["postgres"]; len(got.samples) != 1 {
		t.Errorf("after a change, got %+v", got)
	}
	m = observe(m, 100)
	if got := m.traffic["postgres"]; len(got.samples) != maxSamples {
		t.Errorf("%d samples are kept", len(got.samples))
	}
	before := len(m.traffic["postgres"].samples)
	reset := shop() // a new supervisor counts from zero
	reset.Services[0].Connections.BytesIn, reset.Services[0].Connections.BytesOut = 0, 0
	m, _ = Update(m, RefreshMsg{Now: m.Now.Add(time.Second), Status: reset})
	if got := m.traffic["postgres"]; len(got.samples) != before || got.perSecond() != 0 {
		t.Errorf("after the counters were reset, got %+v", got)
	}
}

func TestUpdate_FilterKeepsASelection(t *testing.T) {
	t.Parallel()
	m := press(begin(shop()), "/", "r", "e", "d")
	if m.selected != "redis" || len(m.services()) != 1 {
		t.Errorf("selected %q of %d", m.selected, len(m.services()))
	}
	m = press(m, "backspace", "backspace", "backspace", "backspace", "enter")
	if m.filter != "" || m.selected != "redis" || m.mode != modeBrowse {
		t.Errorf("got %+v", m)
	}
	m = press(m, "/", "x")
	m, _ = Update(m, PasteMsg{"y\x1b[31m"})
	if m.filter != `xy\x1b[31m` || m.selected != "redis" {
		t.Errorf("filter %q, selected %q", m.filter, m.selected)
	}
	if m = press(m, "esc"); m.filter != "" {
		t.Errorf("filter %q", m.filter)
	}
}

func TestUpdate_OrderByStatePutsWhatNeedsAPersonFirst(t *testing.T) {
	t.Parallel()
	m := press(begin(shop()), "o", "o")
	var states []forwarder.State
	for _, svc := range m.services() {
		states = append(states, svc.State)
	}
	want := []forwarder.State{forwarder.NeedsAttention, forwarder.Unhealthy, forwarder.Healthy, forwarder.Idle, forwarder.Stopped}
	if !slices.Equal(states, want) {
		t.Errorf("got %v", states)
	}
}

func TestUpdate_ResultOfACommandIsSaidInTheLastLine(t *testing.T) {
	t.Parallel()
	m := begin(shop())
	m, _ = Update(m, CommandMsg{Now: m.Now, Verb: "stop", Service: "kafka", Output: "localport: no service \x1b[2Jkafka\nhint: localport status\n", Err: errors.New("exit status 1")})
	if !m.notice.isError || m.notice.text != `no service \x1b[2Jkafka; hint: localport status` {
		t.Errorf("got %+v", m.notice)
	}
	m, _ = Update(m, CommandMsg{Now: m.Now, Verb: "restart", Service: "kafka"})
	if m.notice.isError || m.notice.text != "restart kafka: done" {
		t.Errorf("got %+v", m.notice)
	}
	m, _ = Update(m, TickMsg{m.Now.Add(noticeDuration + time.Second)})
	if m.notice.text != "" {
		t.Errorf("it stays: %+v", m.notice)
	}
}

func TestUpdate_LateAnswersOfOtherServicesAreIgnored(t *testing.T) {
	t.Parallel()
	m := press(begin(shop()), "w", "down", "w")
	m, _ = Update(m, CommandMsg{Now: m.Now, Verb: "why", Service: "postgres", Output: "about postgres"})
	if !m.answer.pending {
		t.Errorf("got %+v", m.answer)
	}
	m = press(m, "l")
	m, _ = Update(m, logOf("postgres"))
	if m.logLines != nil {
		t.Errorf("the log of another service is shown")
	}
}

func TestUpdate_LogIsScrolledFromItsEnd(t *testing.T) {
	t.Parallel()
	m := begin(shop())
	m.Width, m.Height = 80, 24
	m, _ = Update(press(m, "l"), logOf("postgres"))
	if screen := View(m); !strings.Contains(screen, "line 60 of") {
		t.Errorf("the end is not shown:\n%s", screen)
	}
	if screen := View(press(m, "pgup")); strings.Contains(screen, "line 60 of") || !strings.Contains(screen, "line 55 of") {
		t.Errorf("it was not scrolled:\n%s", screen)
	}
	for range 50 {
		m = press(m, "pgup")
	}
	if screen := View(m); !strings.Contains(screen, "line 1 of") {
		t.Errorf("the beginning is not shown:\n%s", screen)
	}
}

func TestFormatRate_TakesAtMostSixColumns(t *testing.T) {
	t.Parallel()
	for rate, want := range map[float64]string{
		0: "0", 0.4: "0", 999: "999", 999.7: "1.0k", 1234: "1.2k", 99_949: "99.9k", 99_960: "100k", 1_000_000: "1.0M", 45_600_000_000: "45.6G", 1e21: "999P+",
	} {
		if got := formatRate(rate); got != want || len(got) > rateColumnWidth {
			t.Errorf("%v: got %q, want %q", rate, got, want)
		}
	}
}

func TestSparkline_ShowsAnythingAboveZero(t *testing.T) {
	t.Parallel()
	traffic := &traffic{samples: []float64{0, 1, 500, 1000}}
	if got := traffic.sparkline(6); got != "   ▁▅█" {
		t.Errorf("got %q", got)
	}
	if got := traffic.sparkline(2); got != "▅█" {
		t.Errorf("got %q", got)
	}
}
