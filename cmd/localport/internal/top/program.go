package top

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

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

// PanicError is a panic, which Run returns as an error so that its stack is not printed before the terminal is as it was.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("a bug in localport: %v", e.Value) }

// Run shows the project on a terminal until the user quits, a signal ends the program, or the terminal is gone.
func Run(source Source, status api.Status, options Options, in, out *os.File) (err error) {
	k, err := newKeyboard(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{source: source, in: in, keyboard: k, screen: &screen{out: out}, messageCh: make(chan any), signalCh: make(chan os.Signal, 8)}
	// SIGTSTP is not among them: Go would never give it its default action back, which stops this process together with a command in the foreground.
	signal.Notify(p.signalCh, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGCONT, syscall.SIGWINCH)
	defer signal.Stop(p.signalCh)
	defer p.background.Wait()
	defer cancel()
	defer p.recoverPanic(&err)
	defer p.leaveTerminal()
	if err := p.enterTerminal(ctx); err != nil {
		return err
	}
	p.loop(ctx, status, options)
	return nil
}

// program carries out the effects of Update. Its fields belong to the goroutine of Run.
type program struct {
	source    Source
	in        *os.File
	keyboard  *keyboard
	screen    *screen
	model     Model
	hasEnded  bool
	messageCh chan any
	signalCh  chan os.Signal

	background sync.WaitGroup // what effects have started
}

func (p *program) enterTerminal(ctx context.Context) error {
	if err := p.keyboard.start(ctx, p.send); err != nil {
		return err
	}
	p.screen.enter()
	return nil
}

func (p *program) leaveTerminal() {
	p.screen.leave()
	p.keyboard.stop()
}

// recoverPanic turns a panic into an error.
func (p *program) recoverPanic(err *error) {
	if value := recover(); value != nil {
		*err = asPanicError(value)
	}
}

func asPanicError(value any) *PanicError {
	if known, ok := value.(*PanicError); ok { // of another goroutine
		return known
	}
	return &PanicError{Value: value, Stack: debug.Stack()}
}

// send delivers a message to the loop, unless the program ends.
func (p *program) send(ctx context.Context, msg any) {
	select {
	case p.messageCh <- msg:
	case <-ctx.Done():
	}
}

// loop reads all inputs.
func (p *program) loop(ctx context.Context, status api.Status, options Options) {
	model, effects := Start(time.Now(), status, options)
	size := p.screen.size()
	model.Width, model.Height = size.Width, size.Height
	p.apply(ctx, model, effects)
	for !p.hasEnded {
		select {
		case msg := <-p.messageCh:
			p.handleMessage(ctx, msg)
		case received := <-p.signalCh:
			p.handleSignal(ctx, received)
		}
	}
}

func (p *program) handleMessage(ctx context.Context, msg any) {
	switch msg := msg.(type) {
	case hangupMsg:
		p.hasEnded = true
	case *PanicError:
		panic(msg)
	default:
		model, effects := Update(p.model, msg)
		p.apply(ctx, model, effects)
	}
}

func (p *program) handleSignal(ctx context.Context, received os.Signal) {
	switch received {
	case syscall.SIGWINCH:
		p.handleMessage(ctx, p.screen.size())
	case syscall.SIGCONT: // another process had stopped this one, and the shell has set its own modes
		_ = p.keyboard.setKeyMode()
		p.screen.redraw()
		p.screen.draw(View(p.model))
	default:
		p.hasEnded = true
	}
}

// apply draws a model, and carries out effects.
func (p *program) apply(ctx context.Context, model Model, effects []Effect) {
	p.model = model
	for _, effect := range effects {
		p.perform(ctx, effect)
	}
	if !p.hasEnded {
		p.screen.draw(View(p.model))
	}
}

// perform carries out an effect. What takes time is done in the background, and sends a message.
func (p *program) perform(ctx context.Context, effect Effect) {
	switch effect := effect.(type) {
	case Quit:
		p.hasEnded = true
	case Redraw:
		p.screen.redraw()
	case Copy:
		p.screen.copyText(effect.Text)
	case Suspend:
		p.withTerminalReleased(ctx, func() { p.suspend() })
	case RunInTerminal:
		p.withTerminalReleased(ctx, func() { p.runInTerminal(ctx, effect) })
	case Tick:
		p.inBackground(ctx, func() any { return tick(ctx) })
	case Watch:
		p.inBackground(ctx, func() any { return p.watch(ctx) })
	case Refresh:
		p.inBackground(ctx, func() any { return p.refresh(ctx, effect) })
	case ReadLog:
		p.inBackground(ctx, func() any { return LogMsg{effect.Path, p.source.Log(effect.Service, effect.Path)} })
	case RunCommand:
		p.inBackground(ctx, func() any { return p.runCommand(ctx, effect) })
	}
}

// inBackground runs a function, and sends the message that it returns. A panic is passed on to the loop.
func (p *program) inBackground(ctx context.Context, run func() any) {
	p.background.Go(func() {
		defer func() {
			if value := recover(); value != nil {
				p.send(ctx, asPanicError(value))
			}
		}()
		p.send(ctx, run())
	})
}

func tick(ctx context.Context) any {
	wait.Sleep(ctx, tickInterval)
	return TickMsg{time.Now()}
}

// watch reports changes until the supervisor ends.
func (p *program) watch(ctx context.Context) any {
	p.source.Watch(ctx, func(status api.Status) { p.send(ctx, StatusMsg{time.Now(), status}) })
	return WatchEndedMsg{}
}

func (p *program) refresh(ctx context.Context, r Refresh) any {
	status, err := p.source.Status(ctx)
	var connections []holder.Connection
	for _, svc := range r.Services {
		if svc.Connections.Open > 0 { // it takes milliseconds, and seldom anybody is connected to everything
			connections = append(connections, holder.Connections(listenAddresses(svc))...)
		}
	}
	return RefreshMsg{Now: time.Now(), Status: status, Err: err, Connections: connections, Events: p.source.Events()}
}

// commandTimeout limits the commands whose output is shown on the screen.
const commandTimeout = 2 * time.Minute

func (p *program) runCommand(ctx context.Context, r RunCommand) any {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	text, err := p.source.Command(ctx, r.Verb, r.Service).CombinedOutput()
	return CommandMsg{Now: time.Now(), Verb: r.Verb, Service: r.Service, Output: string(text), Err: err}
}

// withTerminalReleased runs a function while the terminal is as the shell had it.
func (p *program) withTerminalReleased(ctx context.Context, run func()) {
	p.leaveTerminal()
	run()
	if p.hasEnded {
		return
	}
	if err := p.enterTerminal(ctx); err != nil {
		p.hasEnded = true
		return
	}
	size := p.screen.size() // it may have changed meanwhile
	p.model.Width, p.model.Height = size.Width, size.Height
}

// suspend stops the process group, as Ctrl-Z in a shell does, and returns when it continues.
func (p *program) suspend() {
	if syscall.Kill(0, syscall.SIGTSTP) == nil {
		p.awaitSignal(syscall.SIGCONT, nil)
	}
}

// awaitSignal returns when the signal was received, doneCh is closed, or the program is to end.
func (p *program) awaitSignal(expected os.Signal, doneCh <-chan struct{}) {
	for {
		select {
		case <-doneCh:
			return
		case received := <-p.signalCh:
			switch received {
			case expected:
				return
			case syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
				p.hasEnded = true
				return
			}
		}
	}
}

// runInTerminal runs a command with the terminal. Ctrl-C is meant for the command, and what it said when it failed stays there until it was read.
func (p *program) runInTerminal(ctx context.Context, r RunInTerminal) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := p.source.Command(ctx, r.Verb, r.Service)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.in, p.screen.out, p.screen.out
	var err error
	p.awaitEnd(cancel, func() { err = cmd.Run() })
	if err != nil && !p.hasEnded {
		p.screen.write("localport: press Enter to return to top ")
		p.awaitEnd(cancel, func() { waitForLine(ctx, int(p.in.Fd())) })
	}
	p.model, _ = Update(p.model, CommandMsg{Now: time.Now(), Verb: r.Verb, Service: r.Service, Err: err})
}

// awaitEnd runs a function, which ends when cancel is called: if the program is to end.
func (p *program) awaitEnd(cancel context.CancelFunc, run func()) {
	doneCh := make(chan struct{})
	go func() {
		defer close(doneCh)
		run()
	}()
	p.awaitSignal(nil, doneCh)
	if p.hasEnded {
		cancel()
	}
	<-doneCh
}

// waitForLine returns when a line was typed, or ctx ends.
func waitForLine(ctx context.Context, tty int) {
	const interval = 100 // milliseconds, in which ctx is looked at
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(tty), Events: unix.POLLIN}}
		if ready, err := unix.Poll(fds, interval); err == nil && ready > 0 {
			_, _ = unix.Read(tty, make([]byte, 256)) // the terminal delivers whole lines
			return
		}
	}
}
