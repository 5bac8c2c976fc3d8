package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

type demoCmd struct{}

// Help is the text below the usage.
func (demoCmd) Help() string {
	return `It needs no config and takes a few seconds; everything is removed at the end.

Example: localport demo

Exit codes: 0 shown; 1 something failed, or it was interrupted; 2 wrong usage.`
}

// demo is the temporary project: a directory that is removed when the demo ends, and the server that the project's service forwards to.
type demo struct {
	*app
	root      string
	project   commandProject
	server    demoServer
	isJoining bool // a supervisor may run, also if the signal to end comes before it has answered
	*client.JoinedProject
}

// demoTimeout bounds the whole demo, which normally takes about two seconds.
const demoTimeout = 60 * time.Second

// Run creates a project, starts it with a real supervisor and relay, stops its upstream while a client connects, and removes
// everything.
func (demoCmd) Run(a *app) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	d := &demo{app: a}
	defer func() { err = errors.Join(err, d.remove()) }()
	for _, step := range []func(context.Context) error{d.createProject, d.startProject, d.printResponse, d.interruptServer, d.printServices, d.leaveProject} {
		err := step(ctx)
		if errors.Is(ctx.Err(), context.Canceled) {
			err = errInterrupted
		}
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	return nil
}

// printStep prints one step of the demo.
func (d *demo) printStep(format string, args ...any) { fmt.Fprintf(d.out, "• "+format+"\n", args...) }

// createProject writes the project and starts its upstream. All state is in the project's directory, apart from the user's own.
func (d *demo) createProject(context.Context) error {
	root, err := os.MkdirTemp("/tmp", "localport-demo-") // not $TMPDIR: socket paths must be short
	if err != nil {
		return err
	}
	if d.root, err = filepath.EvalSymlinks(root); err != nil {
		return err
	}
	for name, dir := range map[string]string{"XDG_STATE_HOME": "s", "XDG_DATA_HOME": "d", "XDG_RUNTIME_DIR": "r"} {
		if err := os.Setenv(name, filepath.Join(d.root, dir)); err != nil {
			return err
		}
	}
	if err := d.server.start("127.0.0.1:0"); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(d.server.addr)
	text := fmt.Sprintf("linger = \"1s\"\n\n[services.hello]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = %s\n"+
		"connection = { remote_host = %q }\n", port, host)
	if err := os.WriteFile(filepath.Join(d.root, ".localport.toml"), []byte(text), 0o600); err != nil {
		return err
	}
	d.printStep("created a project in %s; its service \"hello\" forwards to a server at %s", d.root, d.server.addr)
	return nil
}

// startProject allows the project and joins it, as `localport allow` and a cd would.
func (d *demo) startProject(ctx context.Context) error {
	p, err := d.openConfig(filepath.Join(d.root, ".localport.toml"))
	if err != nil {
		return err
	}
	d.project = p
	_, files, err := p.AskTrust()
	if err != nil {
		return err
	}
	if err := p.Store.Allow(files); err != nil {
		return err
	}
	startTime := time.Now()
	lease := lockstate.Lease{Kind: lockstate.ExecLease, Process: lockstate.Self(), Dir: d.root, Since: startTime.UTC()}
	d.isJoining = true
	if d.JoinedProject, err = p.Join(ctx, client.JoinOptions{Lease: lease, Allowed: true}); err != nil {
		return err
	}
	svc := d.View.Services[0]
	d.printStep("allowed and entered it: after %v the supervisor accepts connections at %s, on 127.0.0.1 and ::1",
		time.Since(startTime).Round(time.Millisecond), serviceAddress(svc))
	_, err = d.project.waitReady(ctx, output.NewWriter(io.Discard), d.Client, []string{svc.Name}, startTimeout)
	return err
}

func serviceAddress(svc api.ServiceView) string {
	return net.JoinHostPort(svc.Host, fmt.Sprint(svc.Port))
}

// fetchBody sends a request to the service through the relay and returns the body of the response.
func (d *demo) fetchBody(ctx context.Context) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+serviceAddress(d.View.Services[0])+"/", nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func (d *demo) printResponse(ctx context.Context) error {
	body, err := d.fetchBody(ctx)
	if err != nil {
		return err
	}
	d.printStep("fetched through the forward: %q", body)
	return nil
}

// interruptServer stops the upstream, connects a client, and starts the upstream again once the status shows the client as waiting.
func (d *demo) interruptServer(ctx context.Context) error {
	if err := d.server.stop(); err != nil {
		return err
	}
	d.printStep("stopped the server; a client connects anyway …")
	type result struct {
		body string
		err  error
	}
	resultCh := make(chan result, 1)
	startTime := time.Now()
	go func() {
		body, err := d.fetchBody(ctx)
		resultCh <- result{body, err}
	}()
	if err := d.waitHeldClient(ctx); err != nil {
		return errors.Join(err, (<-resultCh).err)
	}
	d.printStep("… and is not refused: it waits, and the status says why")
	if err := d.printServices(ctx); err != nil {
		return err
	}
	if err := d.server.start(d.server.addr); err != nil {
		return err
	}
	got := <-resultCh
	if got.err != nil {
		return got.err
	}
	d.printStep("started the server again; the same client got its answer after %v: %q",
		time.Since(startTime).Round(time.Millisecond), got.body)
	_, err := d.project.waitReady(ctx, output.NewWriter(io.Discard), d.Client, []string{d.View.Services[0].Name}, startTimeout)
	return err
}

// waitHeldClient returns when the status shows that a client is waiting because the upstream is down.
func (d *demo) waitHeldClient(ctx context.Context) error {
	for {
		status, err := d.Status(ctx)
		if err != nil {
			return err
		}
		if svc := status.Services[0]; svc.Connections.Waiting > 0 && svc.LastError != "" {
			return nil
		}
		if !wait.Sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (d *demo) printServices(ctx context.Context) error {
	status, err := d.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	columns, _ := d.out.Size()
	if err := d.out.PrintLines(tableLines(status.Services, columns)); err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	return nil
}

// leaveProject ends the supervisor and checks that the port is free again.
func (d *demo) leaveProject(ctx context.Context) error {
	if err := d.project.shutDownAndWait(ctx, d.err); err != nil {
		return err
	}
	d.isJoining = false
	ln, err := net.Listen("tcp", serviceAddress(d.View.Services[0]))
	if err != nil {
		return fmt.Errorf("the port is not free again: %w", err)
	}
	d.printStep("left the project: the supervisor has exited, the port is free, nothing is left behind")
	return ln.Close()
}

// remove ends the supervisor and the server, and removes the project.
func (d *demo) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	var err error
	if d.isJoining {
		err = d.project.shutDownAndWait(ctx, d.err)
	}
	return errors.Join(err, d.server.stop(), os.RemoveAll(d.root))
}

// demoServer is the upstream of the demo, which is stopped and started.
type demoServer struct {
	addr   string
	server *http.Server
	done   chan struct{}
}

func (s *demoServer) start(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.addr = ln.Addr().String()
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "hello from the server")
	})}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.server.Serve(ln) // always http.ErrServerClosed
	}()
	return nil
}

func (s *demoServer) stop() error {
	if s.server == nil {
		return nil
	}
	err := s.server.Close()
	<-s.done
	s.server = nil
	return err
}
