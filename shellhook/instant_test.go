package shellhook_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// instantPrompt does what powerlevel10k's instant prompt does to other hooks: it sends all output to the file OUTPUT until the first prompt
// hooks have run, with __p9k_instant_prompt_active set meanwhile, and prints it then with a warning.
const instantPrompt = `
zmodload zsh/sched
exec {instant_fd_1}>&1 {instant_fd_2}>&2 1>OUTPUT 2>&1
typeset -gi __p9k_instant_prompt_active=1
instant_end() {
  unset __p9k_instant_prompt_active
  exec 1>&$instant_fd_1 2>&$instant_fd_2 {instant_fd_1}>&- {instant_fd_2}>&-
  [[ ! -s OUTPUT ]] || { print "WARNING: console output during zsh initialization"; cat OUTPUT }
}
instant_first() {
  sched +0 instant_end
  precmd_functions=(${precmd_functions:#instant_first})
}
precmd_functions=(instant_first $precmd_functions)
`

func TestHook_ZshPrintsNothingDuringAnInstantPrompt(t *testing.T) {
	for name, say := range map[string]string{
		"message of export": "localport: 2 services, 1 not ready\n",
		"read-only name":    "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root := w.project("p")
			want := strings.TrimSpace(say)
			rc := strings.ReplaceAll(instantPrompt, "OUTPUT", filepath.Join(shellpty.NewDir(t), "output")) + w.rc("zsh")
			if say == "" {
				rc += "typeset -r PROJECT=mine\n"
				want = "localport: PROJECT keeps its value: it is read-only in this shell"
			}
			clear := w.setBehaviour("say", say)
			s := w.startWith(shellpty.Config{Shell: "zsh", RC: rc, Dir: root})
			clear()
			if out := s.Screen(); strings.TrimSpace(out) != "[1]>" {
				t.Errorf("the first prompt printed %q", out)
			}
			if calls := w.recordedExports(); len(calls) != 1 {
				t.Errorf("%d exports before the first prompt, want 1", len(calls))
			}
			s.Run("true")
			if out := s.Output(); out != want {
				t.Errorf("the second prompt printed %q, want %q", out, want)
			}
			w.expectQuiet(s)
		})
	}
}
