// Command toppicture draws .github/top.svg: it runs localport top in a terminal (tmux), with servers, clients and traffic, and turns the cells of
// that terminal into a picture.
//
//	go run ./testdata/toppicture >.github/top.svg
//
// It needs tmux, bash and the ports 5432, 8080, 6379, 9092 and 2525.
package main

import (
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The size of the terminal.
const (
	columns = 100
	rows    = 24
)

// recording is how long the traffic is watched: the sparkline shows a column per second.
const recording = 24 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "toppicture:", err)
		os.Exit(1)
	}
}

func run() error {
	home, err := os.MkdirTemp("", "toppicture")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	exe := filepath.Join(home, "localport")
	if out, err := exec.Command("go", "build", "-o", exe, "./cmd/localport").CombinedOutput(); err != nil {
		return fmt.Errorf("build localport: %w\n%s", err, out)
	}
	p := &demoProject{home: home, root: filepath.Join(home, "shop"), exe: exe}
	defer p.close()
	if err := p.startProject(); err != nil {
		return err
	}
	lines, err := p.record()
	if err != nil {
		return err
	}
	_, err = io.WriteString(os.Stdout, writeSVG(lines, columns))
	return err
}

// demoProject is the project that is shown.
type demoProject struct {
	home, root, exe string
	closers         []func()
}

func (p *demoProject) close() {
	for _, closer := range slices.Backward(p.closers) {
		closer()
	}
}

// command returns a command with a HOME of its own.
func (p *demoProject) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = p.root
	cmd.Env = []string{"HOME=" + p.home, "PATH=" + p.home + ":" + os.Getenv("PATH"), "TERM=xterm-256color", "LANG=C.UTF-8", "XDG_RUNTIME_DIR=" + p.home, "PS1=$ "}
	return cmd
}

func (p *demoProject) run(name string, args ...string) (string, error) {
	out, err := p.command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// startProject starts a project with servers that answer, one that does not, and clients.
func (p *demoProject) startProject() error {
	if err := os.MkdirAll(p.root, 0o700); err != nil {
		return err
	}
	var config strings.Builder
	config.WriteString("version = \"1\"\n")
	for _, svc := range []struct {
		name string
		port int
		ok   bool
	}{{"postgres", 5432, true}, {"api", 8080, true}, {"redis", 6379, true}, {"kafka", 9092, false}, {"mail", 2525, true}} {
		upstream := closedPort
		if svc.ok {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			p.closers = append(p.closers, func() { listener.Close() })
			go serve(listener)
			upstream = listener.Addr().(*net.TCPAddr).Port
		}
		fmt.Fprintf(&config, "[services.%s]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %d\nconnection.remote_host = \"127.0.0.1\"\n", svc.name, svc.port, upstream)
	}
	if err := os.WriteFile(filepath.Join(p.root, ".localport.toml"), []byte(config.String()), 0o600); err != nil {
		return err
	}
	if _, err := p.run(p.exe, "allow"); err != nil {
		return err
	}
	p.closers = append(p.closers, func() { _, _ = p.run(p.exe, "stop") })
	_, _ = p.run(p.exe, "start", "--no-wait") // kafka never becomes healthy
	_, err := p.run(p.exe, "stop", "mail")
	return err
}

// closedPort is one on which nothing listens.
const closedPort = 1

// serve answers each byte with nine.
func serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buffer := make([]byte, 8<<10)
			for {
				n, err := conn.Read(buffer)
				for range 9 {
					_, _ = conn.Write(buffer[:n])
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// startClients connects programs, and sends what a wave tells.
func (p *demoProject) startClients() error {
	for _, client := range []struct {
		port  int
		speed float64
	}{{5432, 1}, {5432, 0.4}, {8080, 0.7}, {6379, 0.1}} {
		script := fmt.Sprintf(`exec 3<>/dev/tcp/127.0.0.1/%d; cat <&3 >/dev/null & while read -r line; do printf %%s "$line" >&3; done`, client.port)
		cmd := p.command("bash", "-c", script)
		input, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		p.closers = append(p.closers, func() { input.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
		go func() {
			for i := 0; ; i++ {
				size := int(client.speed * 900 * (1.1 + math.Sin(float64(i)/9) + 0.6*math.Sin(float64(i)*1.3)))
				if _, err := io.WriteString(input, strings.Repeat("x", max(size, 1))+"\n"); err != nil {
					return
				}
				time.Sleep(200 * time.Millisecond)
			}
		}()
	}
	return nil
}

// record runs top, and returns the lines of its terminal.
func (p *demoProject) record() ([]string, error) {
	tmux := func(args ...string) (string, error) {
		return p.run("tmux", append([]string{"-L", "toppicture", "-f", "/dev/null"}, args...)...)
	}
	if err := p.startClients(); err != nil {
		return nil, err
	}
	if _, err := tmux("new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(rows), p.exe+" top"); err != nil {
		return nil, err
	}
	p.closers = append(p.closers, func() { _, _ = tmux("kill-server") })
	time.Sleep(recording)
	screen, err := tmux("capture-pane", "-e", "-p")
	return strings.Split(strings.TrimRight(screen, "\n"), "\n"), err
}
