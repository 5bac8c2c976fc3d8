package top

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	uv "github.com/charmbracelet/ultraviolet"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// Source is the project that the screen shows. Its methods are called from several goroutines.
type Source interface {
	// Status returns the status of the project, whether it runs or not.
	Status(ctx context.Context) (api.Status, error)
	// Watch calls on after each change until the supervisor ends, or is of a release that does not report changes.
	Watch(ctx context.Context, on func(api.Status))
	// Events returns the last events, oldest first.
	Events() []Event
	// Log returns the last lines of a service's log.
	Log(service, path string) []LogLine
	// Command returns a command of localport for this project.
	Command(ctx context.Context, args ...string) *exec.Cmd
}

// tickInterval is how often everything is asked for that nobody reports.
const tickInterval = time.Second

// Run shows the project on a terminal until the user quits, or a signal ends the program.
func Run(source Source, status api.Status, options Options, in, out *os.File) error {
	k, err := newKeyboard(in)
	if err != nil {
		return err
	}
	defer k.stop()
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{source: source, keyboard: k, in: in, out: out, ctx: ctx, cancel: cancel}
	p.model, p.first = Start(time.Now(), status, options)
	// Without an input, Bubble Tea sends no queries and leaves the terminal's modes alone: see keyboard.
	p.tea = tea.NewProgram(p, tea.WithInput(nil), tea.WithOutput(out), tea.WithoutSignalHandler())
	var background sync.WaitGroup
	background.Go(func() { p.handleSignals(ctx) })
	defer background.Wait()
	defer cancel()
	if err := k.start(p.tea.Send); err != nil {
		return err
	}
	if _, err := p.tea.Run(); err != nil && !errors.Is(err, tea.ErrProgramKilled) {
		return err
	} else if errors.Is(err, tea.ErrProgramPanic) {
		return err
	}
	return nil
}

// program is the tea.Model around a Model: it translates messages, and carries out effects.
type program struct {
	source   Source
	keyboard *keyboard
	in, out  *os.File
	ctx      context.Context //nolint:containedctx // of the program: Bubble Tea's commands get none
	tea      *tea.Program
	cancel   context.CancelFunc
	isAway   atomic.Bool // the terminal is used by another program

	model Model
	first []Effect
}

// Init implements tea.Model.
func (p *program) Init() tea.Cmd { return p.commands(p.first) }

// Update implements tea.Model.
func (p *program) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var effects []Effect
	p.model, effects = Update(p.model, translate(msg))
	return p, p.commands(effects)
}

// View implements tea.Model.
func (p *program) View() tea.View {
	view := tea.NewView(View(p.model))
	view.AltScreen = true
	return view
}

// translate returns a message of Bubble Tea as one of this package.
func translate(msg tea.Msg) any {
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		return KeyMsg{Key: msg.String(), Text: msg.Key().Text}
	case tea.PasteMsg:
		return PasteMsg{msg.Content}
	case tea.WindowSizeMsg:
		return ResizeMsg{msg.Width, msg.Height}
	}
	return msg
}

func (p *program) commands(effects []Effect) tea.Cmd {
	commands := make([]tea.Cmd, 0, len(effects))
	for _, effect := range effects {
		commands = append(commands, p.command(effect))
	}
	return tea.Batch(commands...)
}

// command returns what carries out an effect.
func (p *program) command(effect Effect) tea.Cmd {
	switch effect := effect.(type) {
	case Quit:
		return tea.Quit
	case Redraw:
		return redraw
	case Suspend:
		return p.inForeground(suspend, func(error) tea.Msg { return nil })
	case Copy:
		return tea.SetClipboard(effect.Text)
	case Tick:
		return p.tick
	case Watch:
		return p.watch
	case Refresh:
		return func() tea.Msg { return p.refresh(effect) }
	case ReadLog:
		return func() tea.Msg { return LogMsg{effect.Path, p.source.Log(effect.Service, effect.Path)} }
	case RunCommand:
		return func() tea.Msg { return p.runCommand(effect) }
	case RunInTerminal:
		return p.inForeground(func() error { return p.runInTerminal(effect) }, func(err error) tea.Msg {
			return CommandMsg{Now: time.Now(), Verb: effect.Verb, Service: effect.Service, Err: err}
		})
	}
	return func() tea.Msg { panic(fmt.Sprintf("effect %T", effect)) }
}

// resetMargins lets the whole screen scroll (DECSTBM). To move lines, Bubble Tea limits the lines that scroll, and sets the limit back to the height of
// the terminal. If that has grown meanwhile, the limit would stay.
const resetMargins = "\x1b[r"

// redraw draws the whole screen again.
func redraw() tea.Msg { return tea.Sequence(tea.Raw(resetMargins), tea.ClearScreen)() }

func (p *program) inForeground(run func() error, done tea.ExecCallback) tea.Cmd {
	return tea.Exec(foreground(func() error {
		p.isAway.Store(true)
		defer p.isAway.Store(false)
		p.keyboard.stop()
		return errors.Join(run(), p.keyboard.start(p.tea.Send))
	}), done)
}

// tick sends a TickMsg, unless the program ends before.
func (p *program) tick() tea.Msg {
	if !wait.Sleep(p.ctx, tickInterval) {
		return nil
	}
	return TickMsg{time.Now()}
}

// watch reports changes until the supervisor ends.
func (p *program) watch() tea.Msg {
	p.source.Watch(p.ctx, func(status api.Status) { p.tea.Send(StatusMsg{time.Now(), status}) })
	return WatchEndedMsg{}
}

func (p *program) refresh(r Refresh) tea.Msg {
	status, err := p.source.Status(p.ctx)
	var connections []holder.Connection
	for _, svc := range r.Services {
		if svc.Connections.Open > 0 { // it takes milliseconds, and seldom anybody is connected to everything
			connections = append(connections, holder.Connections(listenAddresses(svc))...)
		}
	}
	return RefreshMsg{Now: time.Now(), Status: status, Err: err, Connections: connections, Events: p.source.Events()}
}

// runInTerminal runs a command with the terminal. What it said when it failed stays there until it was read.
func (p *program) runInTerminal(r RunInTerminal) error {
	cmd := p.source.Command(p.ctx, r.Verb, r.Service)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.in, p.out, p.out
	err := cmd.Run()
	if err != nil && p.ctx.Err() == nil {
		fmt.Fprint(p.out, "localport: press Enter to return to top ")
		waitForLine(p.ctx, p.in)
	}
	return err
}

// waitForLine returns when a line was typed, or ctx ends.
func waitForLine(ctx context.Context, tty *os.File) {
	reader, err := uv.NewCancelReader(tty)
	if err != nil {
		return
	}
	defer reader.Close()
	defer context.AfterFunc(ctx, func() { reader.Cancel() })()
	_, _ = reader.Read(make([]byte, 256)) // the terminal delivers whole lines
}

// commandTimeout limits the commands whose output is shown on the screen.
const commandTimeout = 2 * time.Minute

func (p *program) runCommand(r RunCommand) tea.Msg {
	ctx, cancel := context.WithTimeout(p.ctx, commandTimeout)
	defer cancel()
	text, err := p.source.Command(ctx, r.Verb, r.Service).CombinedOutput()
	return CommandMsg{Now: time.Now(), Verb: r.Verb, Service: r.Service, Output: string(text), Err: err}
}

// handleSignals ends the program on the signals that end programs, and redraws the screen when it continues after another process stopped it.
// SIGTSTP is not caught: Go would never give it its default action back, which stops this process together with a command in the foreground.
func (p *program) handleSignals(ctx context.Context) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGCONT)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return
		case received := <-signals:
			switch {
			case received == syscall.SIGCONT && !p.isAway.Load():
				_ = p.keyboard.setKeyMode()
				p.tea.Send(redraw())
			case received == syscall.SIGCONT, received == os.Interrupt && p.isAway.Load():
			default:
				p.cancel() // a command that uses the terminal would be waited for
				p.tea.Quit()
			}
		}
	}
}

// suspend stops the process group, as Ctrl-Z in a shell does, and returns when it continues.
func suspend() error {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	if err := syscall.Kill(0, syscall.SIGTSTP); err != nil {
		return err
	}
	<-continued
	return nil
}
