package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// With --hold, all that a prompt would print goes to a variable.
func TestExport_HoldsItsMessages(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config := tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.project(config)
	export := func(want string, code int) {
		t.Helper()
		o := w.localport(root, "export", "zsh", "--pid", fmt.Sprint(os.Getpid()), "--retry", "", "--saves", "--hold")
		if o.stderr != "" || o.code != code || !strings.Contains(o.stdout, "__localport_held='localport: "+want) {
			t.Errorf("exit %d, printed %q and\n%s", o.code, o.stderr, o.stdout)
		}
	}
	export("the config in "+root+" is new or changed", output.ExitNotAllowed)
	w.mustRun(root, "allow")
	export("shop: web :", 0)
}

// A widget or a key binding that changes the directory.
func TestShell_PrintsNothingWhileALineIsEdited(t *testing.T) {
	for kind, bind := range map[string]string{
		"zsh":  "\nenter() { cd shop; zle reset-prompt }; zle -N enter; bindkey '^G' enter",
		"fish": "\nbind \\cg 'cd shop; commandline -f repaint'",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
			rc := `eval "$(` + w.exe + ` hook ` + kind + `)"`
			if kind == "fish" {
				rc = w.exe + " hook fish | source"
			}
			sh := shellpty.Start(t, shellpty.Config{Shell: kind, RC: rc + bind, Dir: strings.TrimSuffix(root, "/shop"), Home: w.home, Env: w.env[2:]})
			sh.Type("ech\ao \"port=$WEB_PORT.\"\r")
			sh.AwaitPrompt()
			screen := sh.Screen()
			if line, message := strings.LastIndex(screen, `$WEB_PORT."`), strings.Index(screen, "localport: "); line < 0 || message < line ||
				strings.Count(screen, "localport: ") != 1 || strings.Contains(screen, "\nport=.") {
				t.Errorf("the screen is\n%s", screen)
			}
		})
	}
}
