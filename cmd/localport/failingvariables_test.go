package main

import (
	"strings"
	"testing"
)

// A variable that cannot be set or restored costs no other one, and is named once, wherever it is in the order of the names.
func TestShell_ChangesTheOtherVariablesIfOneFails(t *testing.T) {
	for _, kind := range []string{"bash", "zsh"} { // in fish, no variable of the user is read-only
		for _, where := range []string{"outside", "inside"} {
			t.Run(kind+" "+where, func(t *testing.T) {
				t.Parallel()
				w := newTestEnv(t)
				fixed := []string{"AA", "MANPATH", "MM", "WAS_SET", "ZZ"}
				config := "linger = 0.1\n[env]\nAB = \"ours\"\nMN = \"ours\"\nzz = \"ours\"\n"
				for _, name := range fixed {
					config += name + " = \"ours text:${" + name + ":-}\"\n"
				}
				root := w.allowedProject(config)
				sh := w.shell(kind, w.home)
				sh.Run("export WAS_SET=outside MANPATH=/man")
				readOnly := "readonly " + strings.Join(fixed, " ")
				if where == "outside" {
					sh.Run(readOnly)
				}
				for _, round := range []string{"first", "second"} {
					sh.Run("cd " + root)
					out := sh.Output()
					if where == "inside" && round == "first" {
						sh.Run("export MANPATH=/x:$MANPATH; " + readOnly)
						out += sh.Output()
					}
					env := sh.Environ()
					for _, name := range []string{"AB", "MN", "zz"} {
						if env[name] != "ours" {
							t.Errorf("%s: %s=%q", round, name, env[name])
						}
					}
					sh.Run("cd " + w.home)
					out += sh.Output()
					sh.Run("true")
					out += sh.Output()
					for _, name := range fixed {
						want := map[string]int{"first": 1}[round]
						if n := strings.Count(out, "localport: "+name+" keeps its value: it is read-only in this shell"); n != want || strings.Contains(out, "readonly variable") {
							t.Errorf("%s: %s was named %d times:\n%s", round, name, n, out)
						}
					}
					env = sh.Environ()
					for _, name := range []string{"AB", "MN", "zz", "LOCALPORT_DIFF"} {
						if hasVariable(env, name) {
							t.Errorf("%s: after leaving %s=%q", round, name, env[name])
						}
					}
				}
			})
		}
	}
}
