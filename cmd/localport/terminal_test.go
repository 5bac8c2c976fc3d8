package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// terminalSizes are the sizes at which the screens of interactive commands are compared with golden files.
var terminalSizes = []string{"80x24", "200x50"}

// terminal is a bash in a tmux of its own, in the directory of a project, for which localport is a program of PATH. Its screens are compared
// with the sections of a golden file.
type terminal struct {
	*scriptRun
	tmux   tmuxServer
	dir    string
	golden string            // the file's name
	want   map[string]string // the screens in that file
	shown  strings.Builder   // the screens in the order of the test
	// withoutInterrupt leaves out the ^C that the terminal shows: a table that is drawn again at that moment overwrites it.
	withoutInterrupt bool
}

// eachTerminal runs a test at each size.
func eachTerminal(t *testing.T, command string, test func(term *terminal)) {
	eachTerminalOf(t, command, terminalSizes, test)
}

// eachTerminalOf runs a test at some sizes.
func eachTerminalOf(t *testing.T, command string, sizes []string, test func(term *terminal)) {
	t.Parallel()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is not installed")
	}
	for _, size := range sizes {
		t.Run(size, func(t *testing.T) {
			t.Parallel()
			term := newTerminal(t, command, size)
			test(term)
			if *update {
				checkGolden(t, term.golden, term.shown.String())
			}
		})
	}
}

func newTerminal(t *testing.T, command, size string) *terminal {
	t.Helper()
	s := newScriptRun(t)
	// The length of the path decides where lines are wrapped.
	tmp, err := filepath.EvalSymlinks("/tmp")
	if err != nil {
		t.Fatal(err)
	}
	parent := filepath.Join(tmp, fmt.Sprintf("localport-test-%08x", rand.Uint32()))
	dir := filepath.Join(parent, "shop")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	t.Cleanup(s.stopAll)
	s.testEnv = s.withEnv("PATH="+s.bin+string(os.PathListSeparator)+os.Getenv("PATH"), "TERM=xterm-256color", "LANG=C.UTF-8")
	term := &terminal{
		scriptRun: s, dir: dir, golden: "terminal-" + command + "-" + size + ".txt", want: make(map[string]string),
		tmux: tmuxServer{s.testEnv, fmt.Sprintf("localport-terminal-%d-%d", os.Getpid(), time.Now().UnixNano())},
	}
	if !*update {
		term.readGolden()
	}
	columns, rows, _ := strings.Cut(size, "x")
	term.tmux.run("new-session", "-d", "-x", columns, "-y", rows, "-c", dir, "env", "PS1=$ ", "bash", "--norc", "--noprofile")
	t.Cleanup(func() { term.tmux.run("kill-server") })
	return term
}

const sectionStart = "==== "

// atPrompt is the text of a prompt, at the end of the screen.
const atPrompt = "$"

func (term *terminal) readGolden() {
	data, err := os.ReadFile(filepath.Join("testdata/golden", term.golden))
	if err != nil {
		term.t.Fatal(err)
	}
	for _, section := range strings.Split("\n"+string(data), "\n"+sectionStart)[1:] {
		name, text, _ := strings.Cut(section, "\n")
		term.want[name] = strings.TrimSuffix(text, "\n")
	}
}

// clear leaves only a prompt on the screen. The shell shows another one first: it has not read the line yet as long as that stays.
func (term *terminal) clear() {
	for _, prompt := range []string{"cleared>", "$"} {
		term.tmux.run("send-keys", "-l", fmt.Sprintf("PS1='%s '; clear", prompt))
		term.tmux.run("send-keys", "Enter")
		eventually(term.t, "the screen is empty", func() bool { return strings.TrimSpace(term.tmux.run("capture-pane", "-p")) == prompt })
	}
}

// typeKeys types text in which ports are those of scripts, and presses Enter.
func (term *terminal) typeKeys(text string) {
	term.tmux.run("send-keys", "-l", term.realPorts.Replace(text))
	term.tmux.run("send-keys", "Enter")
}

// expect waits until the screen shows texts and looks as the section of the golden file, in colour too.
func (term *terminal) expect(section string, texts ...string) {
	term.t.Helper()
	plain, coloured, last := "", "", ""
	shown := func() bool {
		plain = term.capture("-p")
		for _, text := range texts {
			if !strings.Contains(plain, text) || text == atPrompt && !strings.HasSuffix(plain, text) {
				return false
			}
		}
		coloured = strings.ReplaceAll(term.capture("-p", "-e"), "\x1b", "^[")
		return true
	}
	colourSection := section + ", in colour"
	if *update {
		eventually(term.t, section+" is shown and stays", func() bool {
			isSame := shown() && plain+coloured == last
			last = plain + coloured
			return isSame
		})
		fmt.Fprintf(&term.shown, "%s%s\n%s\n%s%s\n%s\n", sectionStart, section, plain, sectionStart, colourSection, coloured)
		return
	}
	defer func() {
		if plain != term.want[section] {
			term.t.Errorf("%s: the screen is\n%s\n%s has\n%s", section, plain, term.golden, term.want[section])
		} else if coloured != term.want[colourSection] {
			term.t.Errorf("%s: the coloured screen is\n%s\n%s has\n%s", section, coloured, term.golden, term.want[colourSection])
		}
	}()
	eventually(term.t, section+" looks as in "+term.golden, func() bool {
		return shown() && plain == term.want[section] && coloured == term.want[colourSection]
	})
}

// changingTexts are what differs between two screens of the same.
var changingTexts = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms|s), \d+s ago\b`), "1ms, 1s ago"},
	{regexp.MustCompile(`\bfor \d+[sm]\b`), "for 4s"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d\b`), "15:04:05"},
	{regexp.MustCompile(`\bstarted: \d+\.\S+`), "started: 1.0.0"},
}

// capture returns the screen without empty lines at its end. What changes is replaced, and the columns after it stay where they are.
func (term *terminal) capture(args ...string) string {
	text := term.tmux.run(append([]string{"capture-pane"}, args...)...)
	if term.withoutInterrupt {
		text = strings.ReplaceAll(text, "^C", "")
	}
	text = strings.NewReplacer(term.dir, "/home/you/shop", term.port, "18080", term.port2, "18081", term.server, "18099").Replace(text)
	lines := strings.Split(strings.TrimRight(text, "\n "), "\n")
	for i, line := range lines {
		for _, c := range changingTexts {
			line = replaceInColumns(line, c.pattern, c.with)
		}
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// replaceInColumns replaces each match; the next gap of at least two spaces becomes wider or narrower by as much.
func replaceInColumns(line string, pattern *regexp.Regexp, with string) string {
	gap := regexp.MustCompile(`  +`)
	for start := 0; ; {
		at := pattern.FindStringIndex(line[start:])
		if at == nil {
			return line
		}
		before, match, after := line[:start+at[0]], line[start+at[0]:start+at[1]], line[start+at[1]:]
		if g := gap.FindStringIndex(after); g != nil {
			width := max(2, g[1]-g[0]+utf8.RuneCountInString(match)-utf8.RuneCountInString(with))
			after = after[:g[0]] + strings.Repeat(" ", width) + after[g[1]:]
		}
		start = len(before) + len(with)
		line = before + with + after
	}
}

func TestTerminal_Init(t *testing.T) {
	eachTerminal(t, "init", func(term *terminal) {
		term.writeFile(term.home, ".bashrc", rcHookLine) // otherwise it says which file needs this line
		term.clear()
		term.typeKeys("localport init")
		term.expect("the first question", "Number [1]:")
		term.typeKeys("2")
		term.tmux.awaitScreen("Host:")
		term.typeKeys("http://db")
		term.tmux.awaitScreen("without a scheme")
		term.typeKeys("db.internal")
		term.tmux.awaitScreen("Port there")
		term.typeKeys("5432")
		term.tmux.awaitScreen("Name of the service [db]:")
		term.typeKeys("")
		term.tmux.awaitScreen(`"auto" [`)
		term.typeKeys("8080")
		term.expect("what it will write", "? [Y/n]:")
		term.typeKeys("")
		term.tmux.awaitScreen("Allow it now")
		term.typeKeys("")
		term.expect("the end", "localport: allowed", atPrompt)
	})
}

func TestTerminal_Add(t *testing.T) {
	eachTerminal(t, "add", func(term *terminal) {
		term.clear()
		term.typeKeys("localport add --name api tcp 127.0.0.1:18099 8080")
		term.expect("a new config", "localport allow", atPrompt)
		term.clear()
		term.typeKeys("localport allow")
		term.expect("what is allowed", "localport: allowed", atPrompt)
		term.clear()
		term.typeKeys("localport add kubectl port-forward -n db svc/postgres 8081:5432")
		term.expect("a service more", "localport: allowed this change", atPrompt)
		term.clear()
		term.typeKeys("localport add kubectl port-forwrad svc/postgres 5432")
		term.expect("a mistake", "hint:", atPrompt)
	})
}

func TestTerminal_Forward(t *testing.T) {
	eachTerminal(t, "forward", func(term *terminal) {
		term.clear()
		term.typeKeys("localport forward --name api tcp 127.0.0.1:18099 8080")
		term.expect("it forwards", "api: connected")
		if answer, err := ask("127.0.0.1:"+term.port, "you"); answer != "hello you\n" {
			t.Errorf("through the forward: %q, %v", answer, err)
		}
		term.tmux.run("send-keys", "C-c")
		term.expect("it has ended", "^C", atPrompt)
		term.clear()
		term.typeKeys("localport forward tcp 127.0.0.1:1 8081")
		term.expect("nobody listens there", "connection refused", "hint:")
		term.tmux.run("send-keys", "C-c")
	})
}

func TestTerminal_Top(t *testing.T) {
	eachTerminal(t, "top", func(term *terminal) {
		config := "[services.%s]\ntechnology = \"tcp\"\nlocal_port = %s\nremote_port = %s\nconnection = { remote_host = \"127.0.0.1\" }\nenabled = false\n"
		term.writeFile(term.dir, ".localport.toml", fmt.Sprintf(config, "api", term.port, term.server)+fmt.Sprintf(config, "docs", term.port2, term.server))
		for _, args := range [][]string{{"allow"}, {"daemon", "start"}} {
			term.mustRun(term.dir, args...)
		}
		// One after the other, so that the events always have this order.
		eventually(t, "it has started", func() bool { return strings.Contains(term.mustRun(term.dir, "events"), "started: ") })
		term.mustRun(term.dir, "start", "api")
		term.clear()
		term.typeKeys("localport top")
		term.expect("the overview", "▸ api", "starting → healthy", "q quit")
		term.tmux.run("send-keys", "?")
		term.expect("the keys", "any key")
		term.tmux.run("send-keys", "Escape")
		term.tmux.run("send-keys", "Down")
		term.expect("a stopped service", "▸ docs", "q quit")
		term.tmux.run("send-keys", "q")
		term.expect("afterwards", "localport top", atPrompt)
	})
}

// The table stays aligned while it is refreshed, and the screen is left as after any other command. On a wider terminal the columns show durations, whose
// lengths differ from run to run.
func TestTerminal_StatusWatch(t *testing.T) {
	eachTerminalOf(t, "status-watch", []string{"80x24"}, func(term *terminal) {
		term.writeFile(term.dir, ".localport.toml", fmt.Sprintf("[services.api]\ntechnology = \"tcp\"\nlocal_port = %s\nremote_port = %s\nconnection = { remote_host = \"127.0.0.1\" }\n"+
			"[services.documentation]\ntechnology = \"command\"\ncommand = [\"false\", \"{port}\"]\nlocal_port = %s\nrestart_policy = { max_attempts = 1 }\n", term.port, term.server, term.port2))
		term.mustRun(term.dir, "allow")
		term.mustRun(term.dir, "start", "api")
		term.clear()
		term.typeKeys("localport status -w")
		term.expect("the table", "healthy", "stopped")
		if o := term.testEnv.localport(term.dir, "start", "documentation"); o.code != 1 {
			t.Errorf("start documentation: exit %d, %s", o.code, o.stderr)
		}
		term.expect("one has failed", "documentation  failed", "exit status 1")
		term.mustRun(term.dir, "stop", "api")
		term.expect("the other was stopped", "api            stopped")
		term.tmux.run("send-keys", "C-c")
		term.withoutInterrupt = true
		term.expect("afterwards", atPrompt)
	})
}
