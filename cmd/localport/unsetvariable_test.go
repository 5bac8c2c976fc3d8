package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/ports"
)

// unsetConfig has an entry of [env] that refers to a variable that is not set, one whose value the user probably does not mean, and a correct one.
const unsetConfig = "[env]\nUNSET = \"${NOT_SET_ANYWHERE}\"\nUNBRACED = \"$HOME/data\"\nCORRECT = \"yes\"\n"

// unsetMessages returns what is said about the first two entries of unsetConfig.
func (w *testEnv) unsetMessages(root string, line int) (unset, unbraced string) {
	file := filepath.Join(root, ".localport.toml")
	return fmt.Sprintf("%s:%d:9: env.UNSET: variable NOT_SET_ANYWHERE is not set in the environment or in .env", file, line),
		fmt.Sprintf(`%s:%d:12: env.UNBRACED: "$HOME" is not replaced: write ${HOME} for the variable, or "$$HOME" for the text itself`, file, line+1)
}

func TestUnsetVariable_CommandsSayTheSame(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config := tcpConfig("api", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.project(config + unsetConfig)
	unset, unbraced := w.unsetMessages(root, strings.Count(config, "\n")+2)
	w.env = append(w.env, "LOCALPORT_LEASE_PID="+fmt.Sprint(os.Getpid()))
	for _, test := range []struct {
		command  string
		code     int
		isOutput bool // the correct entry is in the output
	}{
		{"config validate", 3, false},
		{"allow", 0, false},
		{"env", 3, true},
		{"start", 0, false},
		{"env", 3, true},
		{"env --format json", 3, true},
		{"restart", 0, false},
		{"exec -- echo started", 125, false},
		{"env --lease", 3, true},
		{"lease", 3, true},
	} {
		o := w.localport(root, strings.Fields(test.command)...)
		if o.code != test.code || strings.Count(o.stderr, unset+"\n") != 1 || strings.Count(o.stderr, "warning: "+unbraced+"\n") != 1 ||
			strings.Contains(o.stdout, "CORRECT") != test.isOutput || strings.Contains(o.stdout, "started") || strings.Contains(o.stdout, "UNSET") {
			t.Errorf("%s: exit %d\n%s%s", test.command, o.code, o.stdout, o.stderr)
		}
	}
	w.env = append(w.env, "NOT_SET_ANYWHERE=set")
	for _, command := range []string{"config validate", "allow", "env", "restart", "exec -- echo started"} {
		if o := w.localport(root, strings.Fields(command)...); o.code != 0 || strings.Contains(o.stderr, "NOT_SET_ANYWHERE") || strings.Count(o.stderr, unbraced) != 1 {
			t.Errorf("with the variable: %s: exit %d\n%s%s", command, o.code, o.stdout, o.stderr)
		}
	}
}

// A prompt says it once, when the project is entered, and sets the other variables.
func TestUnsetVariable_PromptsSayItOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"bash", "zsh", "fish"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			config := tcpConfig("api", ports.FreePort(t), serve(t, "127.0.0.1:0"))
			root := w.allowedProject(config + unsetConfig)
			unset, unbraced := w.unsetMessages(root, strings.Count(config, "\n")+2)
			sh := w.shell(kind, w.home)
			sh.Run("cd " + root)
			out := sh.Output()
			sh.Run("true")
			out += sh.Output()
			sh.Run("cd " + root + "/. && true")
			out += sh.Output()
			joined := strings.NewReplacer("\r", "", "\n", "").Replace(out) // the terminal breaks long lines
			if strings.Count(joined, unset) != 1 || strings.Count(joined, "localport: warning: "+unbraced) != 1 {
				t.Errorf("printed\n%s\nwant, once each\n%s\n%s", out, unset, unbraced)
			}
			env := sh.Environ()
			if env["CORRECT"] != "yes" || env["UNBRACED"] != "$HOME/data" || hasVariable(env, "UNSET") {
				t.Errorf("CORRECT=%q UNBRACED=%q UNSET=%q", env["CORRECT"], env["UNBRACED"], env["UNSET"])
			}
		})
	}
}

// A service that cannot be configured keeps the project from starting: each command, and the prompt once, names the variable.
func TestUnsetVariable_OfAService(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project(fmt.Sprintf("[services.api]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = 80\nconnection.remote_host = \"${NOT_SET_ANYWHERE}\"\n", ports.FreePort(t)))
	want := filepath.Join(root, ".localport.toml") + ":5:26: services.api.connection.remote_host: variable NOT_SET_ANYWHERE is not set in the environment or in .env"
	for _, test := range []struct {
		command string
		code    int
	}{{"config validate", 3}, {"allow", 0}, {"env", 3}, {"start", 3}, {"exec -- echo started", 125}} {
		if o := w.localport(root, strings.Fields(test.command)...); o.code != test.code || strings.Count(o.stderr, want+"\n") != 1 || o.stdout != "" {
			t.Errorf("%s: exit %d\n%s%s", test.command, o.code, o.stdout, o.stderr)
		}
	}
	sh := w.shell("bash", w.home)
	sh.Run("cd " + root)
	out := sh.Output()
	sh.Run("true")
	out += sh.Output()
	if strings.Count(strings.NewReplacer("\r", "", "\n", "").Replace(out), want) != 1 {
		t.Errorf("the prompt printed\n%s", out)
	}
}
