package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// userVariables are definitions of variables in each shell, by name. The project of the test sets all of them.
var userVariables = map[string]map[string]string{
	"bash": {
		"PLAIN": "PLAIN='not exported'", "EMPTY": "EMPTY=", "EXPORTED": "export EXPORTED=\"it's\"", "INT": "declare -i INT=5",
		"XINT": "declare -ix XINT=7", "UPPER": "declare -u UPPER=abc", "LIST": "LIST=(1 '2 3')", "NOLIST": "NOLIST=()",
		"SPARSE": "SPARSE=([3]=c [7]=g)", "TABLE": "declare -A TABLE=([k]='v w' ['a b']=c)", "BYTES": `BYTES=$'x\xff\n'\'`,
		"XBYTES": `export XBYTES=$'\xfe\x01'`, "REF": "declare -n REF=PLAIN", "DECLARED": "declare -i DECLARED", "SCALAR": "export SCALAR='$x `y` \\'",
		"LOWER": "declare -lx LOWER=ABC", "TRACED": "declare -t TRACED=1",
	},
	"zsh": {
		"PLAIN": "PLAIN='not exported'", "EMPTY": "EMPTY=", "EXPORTED": "export EXPORTED=\"it's\"", "INT": "typeset -i INT=5",
		"XINT": "typeset -ix XINT=7", "BASE": "typeset -i 16 BASE=255", "UPPER": "typeset -u UPPER=abc", "LEFT": "typeset -L 5 LEFT=abcdefgh",
		"LIST": "LIST=(1 '2 3')", "NOLIST": "NOLIST=()", "XLIST": "typeset -ax XLIST=(a b)", "UNIQUE": "typeset -U UNIQUE; UNIQUE=(a a b)",
		"TABLE": "typeset -A TABLE=(k 'v w' 'a b' c)", "BYTES": `BYTES=$'x\xff\n'\'`, "XBYTES": `export XBYTES=$'\xfe\x01'`,
		"TIED": "typeset -T TIED tied; TIED=a:b", "XTIED": "typeset -xT XTIED xtied; xtied=(c d)", "MANPATH": "manpath=(/a /b)",
		"SCALAR": "export SCALAR='$x `y` \\'",
	},
	"fish": {
		"PLAIN": "set -g PLAIN 'not exported'", "EMPTY": "set -g EMPTY ''", "EXPORTED": `set -gx EXPORTED "it's"`, "LIST": "set -g LIST 1 '2 3'",
		"NOLIST": "set -g NOLIST", "XLIST": "set -gx XLIST a b", "AS_PATH": "set -g --path AS_PATH /a /b", "XAS_PATH": "set -gx --path XAS_PATH /a /b",
		"BYTES": `set -g BYTES x\Xff\n\'`, "XBYTES": `set -gx XBYTES \Xfe\x01`, "UNIVERSAL": "set -U UNIVERSAL u v", "XUNIVERSAL": "set -Ux XUNIVERSAL u v",
		"A_PATH": "set -gx A_PATH x:y z", "BOTH": "set -U BOTH universal; set -g BOTH global", "SCALAR": "set -gx SCALAR '$x `y` \\\\'",
	},
}

// readOnlyVariables are variables that a project cannot set, and why.
var readOnlyVariables = map[string][][3]string{
	"bash": {{"FIXED", "readonly FIXED=1", "it is read-only in this shell"}, {"FIXED_LIST", "readonly -a FIXED_LIST=(1 2)", "it is read-only in this shell"}},
	"zsh": {
		{"FIXED", "readonly FIXED=1", "it is read-only in this shell"},
		{"FIXED_LIST", "typeset -ra FIXED_LIST=(1 2)", "it is read-only in this shell"},
		{"tied", ":", "it is an array that is tied to another variable"},
		{"SAVEHIST", ":", "this shell does not accept another"},
	},
	"fish": nil, // its read-only variables are reserved names
}

var definitionOf = map[string]string{"bash": "declare -p %s", "zsh": "typeset -p %s", "fish": "set -S %s"}

func TestShell_RestoresTheUsersVariables(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range userVariables[kind] {
				if !yield(name) {
					return
				}
			}
		})
		var config, setup, definitions strings.Builder
		config.WriteString("linger = 0.1\n[env]\n")
		for _, name := range append(slices.Clone(names), "UNSET") {
			fmt.Fprintf(&config, "%s = \"ours:%s\"\n", name, name)
			if name != "UNSET" {
				fmt.Fprintln(&setup, userVariables[kind][name])
			}
			fmt.Fprintf(&definitions, definitionOf[kind]+"\n", name)
		}
		for _, v := range readOnlyVariables[kind] {
			fmt.Fprintf(&config, "%s = \"ours\"\n", v[0])
			fmt.Fprintln(&setup, v[1])
			fmt.Fprintf(&definitions, definitionOf[kind]+"\n", v[0])
		}
		root, other := w.allowedProject(config.String()), w.allowedProject("[env]\nPLAIN = \"other\"\nEXPORTED = \"other\"\nLIST = \"other\"\n")
		sh := w.shell(kind, w.home)
		source := func(name, text string) {
			path := filepath.Join(w.home, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			sh.Run("source " + path)
		}
		describe := func() string { source("definitions", definitions.String()); return sh.Output() }
		source("setup", setup.String())
		before := describe()

		for _, round := range []string{"first", "second", "unset LOCALPORT_DIFF", "through another project", "a change"} {
			sh.Run("cd " + root)
			out := sh.Output()
			for _, v := range readOnlyVariables[kind] {
				if said := strings.Contains(out, "localport: "+v[0]+" keeps its value: "+v[2]); said != (round == "first") {
					t.Errorf("%s: entering printed\n%s", round, out)
				}
			}
			env := sh.Environ()
			for _, name := range append(slices.Clone(names), "UNSET") {
				if env[name] != "ours:"+name {
					t.Errorf("%s: inside %s is %q", round, name, env[name])
				}
			}
			switch round {
			case "unset LOCALPORT_DIFF":
				sh.Run(map[string]string{"fish": "set -e LOCALPORT_DIFF"}[kind] + map[string]string{"bash": "unset LOCALPORT_DIFF", "zsh": "unset LOCALPORT_DIFF"}[kind])
			case "through another project":
				sh.Run("cd " + other)
				if env := sh.Environ(); env["PLAIN"] != "other" || env["EXPORTED"] != "other" || env["LIST"] != "other" || hasVariable(env, "UNSET") {
					t.Errorf("in the other project: PLAIN=%q EXPORTED=%q LIST=%q UNSET=%q", env["PLAIN"], env["EXPORTED"], env["LIST"], env["UNSET"])
				}
			case "a change":
				text := strings.Replace(config.String(), `UNSET = "ours:UNSET"`, `UNSET = "ours again"`, 1)
				if err := os.WriteFile(filepath.Join(root, ".localport.toml"), []byte(strings.Replace(text, "ours:PLAIN", "ours again", 1)), 0o600); err != nil {
					t.Fatal(err)
				}
				w.mustRun(root, "allow")
				sh.Run("true")
				if env := sh.Environ(); env["PLAIN"] != "ours again" || env["UNSET"] != "ours again" {
					t.Errorf("after a change: PLAIN=%q UNSET=%q", env["PLAIN"], env["UNSET"])
				}
			}
			sh.Run("cd " + w.home)
			sh.Run("true")
			if after := describe(); after != before {
				t.Errorf("%s: after leaving\n%s\nbefore\n%s", round, after, before)
			}
			if env := sh.Environ(); hasVariable(env, "LOCALPORT_DIFF") || hasVariable(env, "PLAIN") {
				t.Errorf("%s: after leaving LOCALPORT_DIFF=%q PLAIN=%q", round, env["LOCALPORT_DIFF"], env["PLAIN"])
			}
		}
	})
}

func TestShell_KeepsWhatTheUserChangesInside(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root := w.allowedProject("linger = 0.1\n[env]\nCHANGED = \"ours\"\nLISTED = \"ours\"\nGONE = \"ours\"\n")
		sh := w.shell(kind, w.home)
		set := map[string][2]string{
			"bash": {"CHANGED=before; GONE=before", "CHANGED=mine; unset LISTED; LISTED=(a b); unset GONE"},
			"zsh":  {"CHANGED=before; GONE=before", "CHANGED=mine; unset LISTED; LISTED=(a b); unset GONE"},
			"fish": {"set -g CHANGED before; set -g GONE before", "set CHANGED mine; set -e LISTED; set -g LISTED a b; set -e GONE"},
		}[kind]
		sh.Run(set[0])
		sh.Run("cd " + root)
		sh.Run(set[1])
		for range 2 {
			sh.Run("cd " + w.home)
			sh.Run("true")
			list := map[string]string{"bash": `"${LISTED[1]}"`, "zsh": `"${LISTED[2]}"`, "fish": `"$LISTED[2]"`}[kind]
			if changed, gone, listed := sh.Eval(`"$CHANGED"`), sh.Eval(`"$GONE"`), sh.Eval(list); changed != "mine" || gone != "" || listed != "b" {
				t.Errorf("after leaving CHANGED=%q GONE=%q LISTED has %q", changed, gone, listed)
			}
			sh.Run("cd " + root) // which sets GONE and LISTED again, and restores them
			sh.Run(set[1])
		}
	})
}
