package shellhook_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/localport-sh/localport/shellhook"
)

// exportCall is what the fake localport records of one `localport export`.
type exportCall struct {
	Args  []string
	Env   []string
	Dir   string // physical
	Stdin string // what standard input is
	Root  string // --root
	Line  string // --line
	Told  string // --told
	Retry string // --retry
	// Unfinished is --unfinished.
	Unfinished string
	PID        int // --pid
	Process    int // the pid of this call's own process
}

// runFakeLocalport implements `hook SHELL`, and `export SHELL` as far as the hooks depend on it. It stores its files in its own directory,
// and exports PROJECT and LOCALPORT_DIFF, both with the project's root; the project's variables use TOKEN.
func runFakeLocalport(args []string) int {
	base := filepath.Dir(os.Args[0])
	shell, err := shellhook.Lookup(args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if args[0] == "hook" {
		fmt.Print(shell.Hook(os.Args[0]))
		if wrapper, ok := shell.(shellhook.CdWrapper); ok && slices.Contains(args, "--on-cd") {
			fmt.Print(wrapper.OnCd())
		}
		return 0
	}
	if move, err := os.ReadFile(filepath.Join(base, "move")); err == nil {
		from, to, _ := strings.Cut(string(move), "\n")
		if err := os.Rename(from, to); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Print(statements(shell, base, recordCall(base, args)))
		return 4 // the project is not allowed there
	}
	_, missing := os.Stat(filepath.Join(base, "hang")) // before the call is recorded: a test that sees the record may remove the file
	c := recordCall(base, args)
	if say, err := os.ReadFile(filepath.Join(base, "say")); err == nil {
		if slices.Contains(args, "--hold") {
			fmt.Print(shell.Set(shellhook.HeldVariable, string(say)))
		} else {
			_, _ = os.Stderr.Write(say)
		}
	}
	if missing == nil {
		<-time.After(time.Hour) // or until a signal
	}
	if code, err := os.ReadFile(filepath.Join(base, "fail")); err == nil {
		if n, err := strconv.Atoi(string(code)); err == nil {
			return n
		}
		return 1
	}
	fmt.Print(statements(shell, base, c))
	if code, err := os.ReadFile(filepath.Join(base, "refuse")); err == nil {
		n, _ := strconv.Atoi(string(code))
		return n
	}
	return 0
}

func recordCall(base string, args []string) exportCall {
	c := exportCall{Args: args, Env: os.Environ(), Process: os.Getpid()}
	flags := flag.NewFlagSet("export", flag.ExitOnError)
	flags.StringVar(&c.Root, "root", "missing", "")
	flags.StringVar(&c.Line, "line", "missing", "")
	flags.StringVar(&c.Told, "told", "missing", "")
	flags.StringVar(&c.Retry, "retry", "missing", "")
	flags.Bool("saves", false, "")
	flags.Bool("tools", false, "")
	flags.Bool("cd", false, "")
	flags.Bool("hold", false, "")
	flags.StringVar(&c.Unfinished, "unfinished", "", "")
	flags.Duration("limit", 0, "")
	flags.IntVar(&c.PID, "pid", 0, "")
	_ = flags.Parse(args[2:])
	if cwd, err := os.Getwd(); err == nil {
		c.Dir, _ = filepath.EvalSymlinks(cwd)
	}
	if null, err := os.Stat(os.DevNull); err == nil {
		if stdin, err := os.Stdin.Stat(); err == nil && os.SameFile(stdin, null) {
			c.Stdin = os.DevNull
		}
	}
	line, _ := json.Marshal(c)
	calls, err := os.OpenFile(filepath.Join(base, "calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = calls.Write(append(line, '\n'))
		_ = calls.Close()
	}
	return c
}

// statements returns what the shell must evaluate after the call.
func statements(shell shellhook.Shell, base string, c exportCall) (text string) {
	root, dir, line := findProject(c.Dir), "", ""
	if root != "" {
		dir = stateDir(base, root)
		line = recordStamps(root, dir)
	}
	told, _ := strconv.Atoi(c.Told)
	variables := ""
	if root != "" {
		variables = "PROJECT"
	}
	text = shell.Set(shellhook.VariablesVariable, variables) + shell.Set(shellhook.RootVariable, root) + shell.Set(shellhook.DirVariable, dir) + shell.Set(shellhook.LineVariable, line) +
		shell.Set(shellhook.ReportedVariable, strconv.Itoa(told+1))
	if root == "" {
		return text + shell.Restore("PROJECT", nil) + shell.Set(shellhook.DiffVariable, "") + shell.Unset("LOCALPORT_DIFF") + shell.Left() + shell.Watch(nil) +
			shell.Set(shellhook.UnfinishedVariable, "")
	}
	return text + shell.Save("PROJECT", root, c.Root != "") + shell.Set(shellhook.DiffVariable, root) + shell.Export("LOCALPORT_DIFF", root) +
		shell.Watch([]string{"TOKEN"}) + shell.Set(shellhook.UnfinishedVariable, "")
}

func findProject(dir string) string {
	for dir != "" {
		if _, err := os.Stat(filepath.Join(dir, ".localport.toml")); err == nil {
			return dir
		}
		if dir == "/" {
			return ""
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

func stateDir(base, root string) string {
	sum := sha256.Sum256([]byte(root))
	return filepath.Join(base, "state's dir", hex.EncodeToString(sum[:8]))
}

// recordStamps writes the stamps of the project's files and returns the prompt's line.
func recordStamps(root, dir string) string {
	_ = os.MkdirAll(dir, 0o700)
	for stamp, name := range stamps {
		path := filepath.Join(dir, stamp)
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			_ = os.Remove(path)
			continue
		}
		_ = os.WriteFile(path, nil, 0o600)
		_ = os.Chtimes(path, info.ModTime(), info.ModTime())
	}
	var line []byte
	if info, err := os.Stat(filepath.Join(dir, shellhook.PromptFile)); err == nil && info.Mode().IsRegular() {
		line, _ = os.ReadFile(filepath.Join(dir, shellhook.PromptFile))
	}
	for len(line) > 0 && line[len(line)-1] == '\n' {
		line = line[:len(line)-1]
	}
	return string(line)
}

var stamps = map[string]string{
	shellhook.ConfigStampFile: ".localport.toml",
	shellhook.LocalStampFile:  ".localport.local.toml",
	shellhook.EnvStampFile:    ".env",
}
