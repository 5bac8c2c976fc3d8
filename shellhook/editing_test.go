package shellhook_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// bindCd binds Ctrl-G to a cd into the project p while a line is edited, and Ctrl-T to one out of it.
var bindCd = map[string]string{
	"bash": `bind -x '"\C-g": cd p'; bind -x '"\C-t": cd ..'`,
	"zsh":  `enter() { cd p; zle reset-prompt }; leave() { cd ..; zle reset-prompt }; zle -N enter; zle -N leave; bindkey '^G' enter '^T' leave`,
	"fish": `bind \cg 'cd p; commandline -f repaint'; bind \ct 'cd ..; commandline -f repaint'`,
}

func TestHook_PrintsNothingWhileALineIsEdited(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		defer w.setBehaviour("say", "localport: hello\n")()
		s := w.startWith(shellpty.Config{Shell: shell, RC: w.onCdRC(shell) + bindCd[shell]})
		keys := []struct {
			typed, project string
			messages       int
		}{
			{"ech\ao \"hi $PROJECT.\"\r", root, 1},
			{"ech\x14o \"hi $PROJECT.\"\r", "", 1},
			{"ech\a\x14\ao \"hi $PROJECT.\"\r", root, 3},
		}
		previous, projectAfter := "", map[string]string{"\a": root, "\x14": ""}
		for _, k := range keys {
			before := len(w.recordedExports())
			s.Type(k.typed)
			s.AwaitPrompt()
			screen := s.Screen()
			if shell == "bash" { // whose hook runs at the prompt
				k.messages, k.project = 1, previous
			}
			previous = projectAfter[k.typed[3:4]]
			line := strings.LastIndex(screen, `hi $PROJECT."`)
			if strings.Count(screen, "localport: hello") != k.messages || strings.Index(screen, "localport: hello") < line ||
				!strings.Contains(screen, "\nhi "+k.project+".\n") {
				t.Errorf("after %q the screen is\n%s", k.typed, screen)
			}
			for _, call := range w.recordedExports()[before:] {
				if slices.Contains(call.Args, "--hold") != (shell != "bash") {
					t.Errorf("export while a line is edited: %q", call.Args)
				}
			}
			s.Run("true") // Screen begins there
		}
		w.expectExports(s, cd(w.dir), 1)
		if out := s.Output(); out != "localport: hello" {
			t.Errorf("a command printed %q", out)
		}
	})
}
