package shellhook_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"

	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// A bash version is a number: 302 is 3.2. never is that of a construct that an older bash cannot parse: it then rejects the whole file, so that
// no check of the version helps.
const (
	oldestBash = 302
	never      = 9999
)

// bashChecker finds constructs of a bash file that need a newer bash than where they are known to run.
type bashChecker struct {
	guards        map[string]int // variables that are empty unless bash has that version
	entries       map[string]int // functions, with the version that all their callers know of
	calls         map[string]int // found in this pass
	faults        []string
	text          string
	isAlternative bool // in the word of ${x[@]+word}, where the array is not empty
}

// reviewed are constructs whose guard the checker does not understand: the function, the construct, and why it is safe.
var reviewed = map[string]string{
	"__localport_set: unset -n":       "only a reference has the flag n, and 4.3 has the first references",
	"__localport_restore: declare -g": "the branch before it is taken if __localport_options is empty",
}

var (
	versionCheck  = regexp.MustCompile(`^\(\(BASH_VERSINFO\[0\] \* 100 \+ BASH_VERSINFO\[1\] >= (\d+)\)\)$`)
	unicodeEscape = regexp.MustCompile(`\\[uU]`)
	newVariables  = map[string]int{"BASHPID": 400, "BASH_ARGV0": 500, "EPOCHREALTIME": 500, "EPOCHSECONDS": 500, "SRANDOM": 501, "PS0": 404}
	newBuiltins   = map[string]int{"mapfile": 400, "readarray": 400, "compopt": 400}
	newFlags      = map[string]map[rune]int{
		"declare": {'g': 402, 'A': 400, 'n': 403, 'l': 400, 'u': 400, 'I': 500},
		"unset":   {'n': 403},
		"wait":    {'n': 403, 'f': 500, 'p': 501},
		"read":    {'N': 401, 'i': 400},
		"test":    {'v': 402, 'R': 403},
	}
)

// checkBash returns the faults of a bash file.
func checkBash(t *testing.T, text string) []string {
	t.Helper()
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash), syntax.KeepComments(true)).Parse(strings.NewReader(text), "hook.bash")
	if err != nil {
		t.Fatal(err)
	}
	c := &bashChecker{guards: make(map[string]int), text: text}
	syntax.Walk(file, func(node syntax.Node) bool {
		if clause, isIf := node.(*syntax.IfClause); isIf && len(clause.Cond) == 1 {
			if m := versionCheck.FindStringSubmatch(c.source(clause.Cond[0])); m != nil {
				version, _ := strconv.Atoi(m[1])
				for _, stmt := range clause.Then {
					if call, isCall := stmt.Cmd.(*syntax.CallExpr); isCall {
						for _, assign := range call.Assigns {
							c.guards[assign.Name.Value] = version
						}
					}
				}
			}
		}
		return true
	})
	entries := make(map[string]int)
	for range 10 {
		c.entries, c.calls, c.faults = entries, make(map[string]int), nil
		c.stmts(file.Stmts, oldestBash, "")
		entries = c.calls
	}
	return c.faults
}

func (c *bashChecker) source(node syntax.Node) string {
	return strings.TrimSuffix(c.text[node.Pos().Offset():node.End().Offset()], ";")
}

func (c *bashChecker) needs(node syntax.Node, version, known int, function, construct string) {
	if version <= known || reviewed[function+": "+construct] != "" {
		return
	}
	c.faults = append(c.faults, fmt.Sprintf("%s: %s: %s needs bash %d, known is %d: %s", node.Pos(), function, construct, version, known, c.source(node)))
}

// stmts checks statements that run one after the other, and known grows behind "[[ … ]] || return".
func (c *bashChecker) stmts(stmts []*syntax.Stmt, known int, function string) {
	for _, stmt := range stmts {
		c.stmt(stmt, known, function)
		if list, isList := stmt.Cmd.(*syntax.BinaryCmd); isList && list.Op == syntax.OrStmt && strings.TrimPrefix(c.source(list.Y), `\`) == "return" {
			known = max(known, c.implied(list.X, true))
		}
	}
}

func (c *bashChecker) stmt(stmt *syntax.Stmt, known int, function string) {
	for _, redirect := range stmt.Redirs {
		c.leaf(redirect, known, function)
	}
	switch cmd := stmt.Cmd.(type) {
	case *syntax.Block:
		c.stmts(cmd.Stmts, known, function)
	case *syntax.Subshell:
		c.stmts(cmd.Stmts, known, function)
	case *syntax.BinaryCmd:
		if cmd.Op == syntax.PipeAll {
			c.needs(cmd, never, known, function, "|&")
		}
		c.stmt(cmd.X, known, function)
		switch cmd.Op {
		case syntax.AndStmt:
			known = max(known, c.implied(cmd.X, true))
		case syntax.OrStmt:
			known = max(known, c.implied(cmd.X, false))
		}
		c.stmt(cmd.Y, known, function)
	case *syntax.IfClause:
		c.ifClause(cmd, known, function)
	case *syntax.WhileClause:
		c.stmts(cmd.Cond, known, function)
		c.stmts(cmd.Do, known, function)
	case *syntax.ForClause:
		c.leaf(cmd.Loop, known, function)
		c.stmts(cmd.Do, known, function)
	case *syntax.CaseClause:
		c.leaf(cmd.Word, known, function)
		for _, item := range cmd.Items {
			if item.Op != syntax.Break {
				c.needs(item, never, known, function, item.Op.String())
			}
			c.stmts(item.Stmts, known, function)
		}
	case *syntax.FuncDecl:
		entry, isCalled := c.entries[cmd.Name.Value]
		if !isCalled {
			entry = oldestBash
		}
		c.stmt(cmd.Body, entry, cmd.Name.Value)
	case *syntax.TestClause:
		c.test(cmd.X, known, function)
	default:
		c.leaf(cmd, known, function)
	}
}

func (c *bashChecker) ifClause(clause *syntax.IfClause, known int, function string) {
	c.stmts(clause.Cond, known, function)
	then, otherwise := known, known
	if len(clause.Cond) == 1 {
		then = max(known, c.implied(clause.Cond[0], true))
		otherwise = max(known, c.implied(clause.Cond[0], false))
	}
	c.stmts(clause.Then, then, function)
	if clause.Else != nil {
		c.ifClause(clause.Else, otherwise, function)
	}
}

func (c *bashChecker) test(expr syntax.TestExpr, known int, function string) {
	switch expr := expr.(type) {
	case *syntax.ParenTest:
		c.test(expr.X, known, function)
	case *syntax.UnaryTest:
		if op := expr.Op.String(); op == "-v" || op == "-R" {
			c.needs(expr, never, known, function, "[[ "+op)
		}
		c.test(expr.X, known, function)
	case *syntax.BinaryTest:
		c.test(expr.X, known, function)
		switch expr.Op {
		case syntax.AndTest:
			known = max(known, c.impliedByTest(expr.X, true))
		case syntax.OrTest:
			known = max(known, c.impliedByTest(expr.X, false))
		}
		c.test(expr.Y, known, function)
	case *syntax.Word:
		c.leaf(expr, known, function)
	}
}

// implied returns the version that is known if a statement succeeds or fails.
func (c *bashChecker) implied(stmt *syntax.Stmt, isTrue bool) int {
	if stmt.Negated {
		isTrue = !isTrue
	}
	switch cmd := stmt.Cmd.(type) {
	case *syntax.TestClause:
		return c.impliedByTest(cmd.X, isTrue)
	case *syntax.BinaryCmd:
		if cmd.Op == syntax.AndStmt || cmd.Op == syntax.OrStmt {
			x, y := c.implied(cmd.X, isTrue), c.implied(cmd.Y, isTrue)
			if (cmd.Op == syntax.AndStmt) == isTrue {
				return max(x, y)
			}
			return min(x, y)
		}
	case *syntax.ArithmCmd:
		if m := versionCheck.FindStringSubmatch(c.source(cmd)); m != nil && isTrue {
			version, _ := strconv.Atoi(m[1])
			return version
		}
	}
	return oldestBash
}

func (c *bashChecker) impliedByTest(expr syntax.TestExpr, isTrue bool) int {
	switch expr := expr.(type) {
	case *syntax.ParenTest:
		return c.impliedByTest(expr.X, isTrue)
	case *syntax.UnaryTest:
		switch op := expr.Op.String(); {
		case op == "!":
			return c.impliedByTest(expr.X, !isTrue)
		case op == "-n" && isTrue, op == "-z" && !isTrue:
			return max(oldestBash, c.guards[strings.TrimPrefix(c.source(expr.X), "$")])
		}
	case *syntax.BinaryTest:
		switch op := expr.Op.String(); op {
		case "&&", "||":
			x, y := c.impliedByTest(expr.X, isTrue), c.impliedByTest(expr.Y, isTrue)
			if (op == "&&") == isTrue {
				return max(x, y)
			}
			return min(x, y)
		case "==", "!=": // of something that is not empty, and a guard
			if (op == "==") == isTrue && strings.HasSuffix(c.source(expr.X), "$-") {
				return max(oldestBash, c.guards[strings.TrimPrefix(c.source(expr.Y), "$")])
			}
		}
	}
	return oldestBash
}

// leaf checks words, redirections and simple commands, with the command substitutions in them.
func (c *bashChecker) leaf(node syntax.Node, known int, function string) {
	syntax.Walk(node, func(node syntax.Node) bool {
		switch node := node.(type) {
		case *syntax.CmdSubst:
			c.cmdSubst(node, known, function)
			return false
		case *syntax.CoprocClause:
			c.needs(node, never, known, function, "coproc")
		case *syntax.Redirect:
			if node.Op == syntax.AppAll {
				c.needs(node, never, known, function, "&>>")
			}
			if node.N != nil && strings.HasPrefix(node.N.Value, "{") {
				c.needs(node, never, known, function, "{variable}>")
			}
		case *syntax.ParamExp:
			c.paramExp(node, known, function)
			if node.Exp != nil && node.Index != nil && node.Exp.Op == syntax.AlternateUnset {
				c.isAlternative = true
				c.leaf(node.Exp.Word, known, function)
				c.isAlternative = false
				return false
			}
		case *syntax.SglQuoted:
			if node.Dollar && unicodeEscape.MatchString(node.Value) {
				c.needs(node, 402, known, function, `$'\u'`)
			}
		case *syntax.DeclClause:
			words := []string{node.Variant.Value}
			for _, arg := range node.Args {
				words = append(words, c.source(arg))
			}
			c.command(node, words, known, function)
		case *syntax.CallExpr:
			var words []string
			for _, word := range node.Args {
				words = append(words, c.source(word))
			}
			c.command(node, words, known, function)
		}
		return true
	})
}

// cmdSubst refuses what the parser of bash 3.2 takes for the end of $(…): the parenthesis of a case pattern, and quotes in a comment.
func (c *bashChecker) cmdSubst(subst *syntax.CmdSubst, known int, function string) {
	for _, stmt := range subst.Stmts {
		syntax.Walk(stmt, func(node syntax.Node) bool {
			switch node := node.(type) {
			case *syntax.CaseClause:
				c.needs(node, never, known, function, "case in $(…)")
			case *syntax.Comment:
				if strings.ContainsAny(node.Text, "'\"`()") {
					c.needs(node, never, known, function, "a quote in a comment in $(…)")
				}
			}
			return true
		})
	}
	c.stmts(subst.Stmts, known, function)
}

func (c *bashChecker) paramExp(expansion *syntax.ParamExp, known int, function string) {
	if expansion.Param != nil {
		c.needs(expansion, newVariables[expansion.Param.Value], known, function, "$"+expansion.Param.Value)
	}
	if index := expansion.Index; index != nil && expansion.Exp == nil && !c.isAlternative && !expansion.Excl && !expansion.Length && strings.ContainsAny(c.source(index), "@*") {
		c.needs(expansion, 404, known, function, "${x[@]} of an array that may be empty, under set -u")
	}
	if exp := expansion.Exp; exp != nil {
		switch exp.Op {
		case syntax.UpperFirst, syntax.UpperAll, syntax.LowerFirst, syntax.LowerAll:
			c.needs(expansion, 400, known, function, "${x"+exp.Op.String()+"}")
		case syntax.OtherParamOps:
			c.needs(expansion, 404, known, function, "${x@…}")
		}
	}
	if expansion.Index != nil && strings.HasPrefix(c.source(expansion.Index), "-") {
		c.needs(expansion, 403, known, function, "${x[-1]}")
	}
	if expansion.Slice != nil && expansion.Slice.Length != nil && strings.HasPrefix(c.source(expansion.Slice.Length), "-") {
		c.needs(expansion, 402, known, function, "${x:0:-1}")
	}
}

// command checks a simple command. Words are as written.
func (c *bashChecker) command(node syntax.Node, words []string, known int, function string) {
	for len(words) > 0 && (words[0] == `\builtin` || words[0] == "builtin" || words[0] == "command") {
		words = words[1:]
	}
	if len(words) == 0 {
		return
	}
	name := strings.TrimPrefix(words[0], `\`)
	if before, isCalled := c.calls[name]; strings.HasPrefix(name, "__localport_") && (!isCalled || known < before) {
		c.calls[name] = known
	}
	c.needs(node, newBuiltins[name], known, function, name)
	switch name {
	case "typeset", "local":
		if name == "local" && len(words) > 1 && words[1] == "-" {
			c.needs(node, 404, known, function, "local -")
		}
		c.flags(node, "declare", words[1:], known, function)
	case "[":
		c.flags(node, "test", words[1:], known, function)
	case "printf":
		for i, word := range words {
			if strings.Contains(word, "%(") {
				c.needs(node, 402, known, function, "printf %(…)T")
			}
			if word == "-v" && i+1 < len(words) && strings.Contains(words[i+1], "[") {
				c.needs(node, 401, known, function, "printf -v x[i]")
			}
		}
	default:
		c.flags(node, name, words[1:], known, function)
	}
}

func (c *bashChecker) flags(node syntax.Node, name string, words []string, known int, function string) {
	for _, word := range words {
		if word == "--" || !strings.HasPrefix(word, "-") {
			if name == "test" {
				continue
			}
			return
		}
		for _, flag := range word[1:] {
			c.needs(node, newFlags[name][flag], known, function, fmt.Sprintf("%s -%c", name, flag))
		}
	}
}

// bashStatements returns what localport export prints, with values that need quotes.
func bashStatements(t *testing.T) string {
	t.Helper()
	shell, err := shellhook.Lookup("bash")
	if err != nil {
		t.Fatal(err)
	}
	value := "it's \"a\" $x `y`\n\\ ü"
	return shell.Set(shellhook.RootVariable, value) + shell.Save("NAME", value, false) + shell.Save("NAME", value, true) + shell.Export("NAME", value) +
		shell.Restore("NAME", nil) + shell.Restore("NAME", &value) + shell.Unset("NAME") + shell.Watch([]string{"A", "B"}) + shell.Left()
}

// The hook for bash is also that of macOS, whose bash is 3.2: it has nothing newer, except where the version is known.
func TestHook_BashFilesAreReadByBash32(t *testing.T) {
	var text strings.Builder
	for _, path := range []string{"hook.bash", "oncd.bash"} { // as one text, in which --on-cd prints them
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(data)
	}
	text.WriteString(bashStatements(t))
	for _, fault := range checkBash(t, text.String()) {
		t.Error(fault)
	}
}

func TestBashChecker_RefusesNewConstructs(t *testing.T) {
	const guard = "new=''\nif ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)); then\n  new=1\nfi\n"
	for line, isFault := range map[string]bool{
		`echo "${x@A}"`:                                                                true,
		`[[ -z $new ]] || echo "${x@A}"`:                                               false,
		`[[ -n $new ]] || echo "${x@A}"`:                                               true,
		`[[ -n $new && ${x@A} == r ]]`:                                                 false,
		`if [[ -n $new ]]; then : "${x@A}"; fi`:                                        false,
		`if [[ -z $new ]]; then :; else : ${x@A}; fi`:                                  false,
		`if [[ -z $new ]]; then : "${x@A}"; fi`:                                        true,
		`f() { [[ -n $new ]] || return; : ${x@A}; }`:                                   false,
		`__localport_f() { : ${x@A}; }; [[ -z $new ]] || __localport_f`:                false,
		`__localport_f() { : ${x@A}; }; [[ -z $new ]] || __localport_f; __localport_f`: true,
		`[[ -z $new ]] || [[ -v x ]]`:                                                  true,
		`[[ -z $new || -R x ]]`:                                                        true,
		`[[ -z $new ]] || [ -v x ]`:                                                    false,
		`declare -g x`:                                                                 true,
		`\builtin declare -g x`:                                                        true,
		`declare -A x`:                                                                 true,
		`\local -n x`:                                                                  true,
		`\local -`:                                                                     true,
		`echo "${x,,}" "${y^}"`:                                                        true,
		`mapfile -t x`:                                                                 true,
		`[[ -z $new ]] || true |& cat`:                                                 true,
		`[[ -z $new ]] || true &>>x`:                                                   true,
		`echo "${x[-1]}"`:                                                              true,
		`echo "${x[@]}"`:                                                               true,
		`echo ${x[@]+"${x[@]}"}`:                                                       false,
		`printf '%(%s)T' -1`:                                                           true,
		`printf -v "$x" %s y`:                                                          false,
		`x=$(case y in z) ;; esac)`:                                                    true,
		"x=$(true # it's\n)":                                                           true,
		`case x in y) ;& z) ;; esac`:                                                   true,
		`echo "$BASHPID"`:                                                              true,
		`exec {fd}>x`:                                                                  true,
		`unset -n x`:                                                                   true,
		`x+=(y); [[ a == [b]* ]] && : <<<z`:                                            false,
	} {
		if faults := checkBash(t, guard+line+"\n"); (len(faults) > 0) != isFault {
			t.Errorf("%s: %q", line, faults)
		}
	}
}

// oldBash are start-up texts in which the hook, HOOK, does what it does in older versions of bash, as far as this one tells.
var oldBash = map[string]string{
	"compat32":    "BASH_COMPAT=3.2\nHOOK",
	"compat42":    "BASH_COMPAT=4.2\nHOOK",
	"before 5.1":  "LOOK 's/>= 501/>= 9999/'",
	"before 4.4":  "LOOK 's/>= [45]0[14]/>= 9999/'",
	"4.3 set -eu": "set -eu; LOOK 's/>= [45]0[14]/>= 9999/'",
}

func TestHook_InOlderBash(t *testing.T) {
	for name, rc := range oldBash {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root, sub := w.project("p"), w.mkdir("p/sub")
			hook := strings.TrimSuffix(strings.TrimSpace(w.rc("bash")), `)"`)
			rc = strings.ReplaceAll(strings.ReplaceAll(rc, "HOOK", w.rc("bash")), "LOOK", hook+" | sed") + map[bool]string{true: `)"`}[strings.Contains(rc, "LOOK")] + "\n"
			for setting, restored := range map[string]string{
				"":                                 `unset`,
				"PROJECT=\"it's mine\"":            `declare -- PROJECT="it's mine"`,
				"export PROJECT='a  b'":            `declare -x PROJECT="a  b"`,
				"PROJECT=('a b' '' c)":             `declare -a PROJECT=([0]="a b" [1]="" [2]="c")`,
				"PROJECT=x; set -f":                `declare -- PROJECT="x"`,
				"PROJECT=x; IFS=:; set +o history": `declare -- PROJECT="x"`,
			} {
				s := w.startWith(shellpty.Config{Shell: "bash", RC: setting + "\n" + rc + rc})
				if out := s.Screen(); strings.TrimSpace(out) != "[1]>" {
					t.Errorf("%s: starting printed %q", setting, out)
				}
				w.expectExports(s, cd(sub), 1)
				if got := projectOfShell(s); got != root {
					t.Errorf("%s: PROJECT is %q, want %q", setting, got, root)
				}
				w.expectQuiet(s)
				if got := s.Run("! sh -c 'exit 3' || sh -c 'exit 4' || (exit 7) || true"); got != 0 {
					t.Errorf("%s: exit status %d", setting, got)
				}
				w.expectExports(s, "cd ..", 0)
				w.expectExports(s, cd(w.dir), 1)
				if got := s.Eval(`"$(declare -p PROJECT 2>/dev/null || echo unset)"`); got != restored {
					t.Errorf("%s: restored as %s", setting, got)
				}
				for range 4 {
					w.expectQuiet(s)
				}
			}
		})
	}
}

// bash 4.3 and older print an array as a string in quotes, of which declare -p makes the array.
func TestHook_RestoresAnArrayOfBash43(t *testing.T) {
	w := newTestEnv(t)
	s := w.startWith(shellpty.Config{Shell: "bash", RC: w.rc("bash") + "__localport_options=''; __localport_arrays=''\n"})
	s.Run(`__localport_was_X="declare -a X='([0]=\"a b\" [1]=\"it'\\''s\" [2]=\"='\\''(\")'"; X=other; __localport_restore X`)
	if got, want := s.Eval(`"$(declare -p X)"`), `declare -a X=([0]="a b" [1]="it's" [2]="='(")`; got != want {
		t.Errorf("restored as %s, want %s", got, want)
	}
}
