package shellhook

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed hook.tcsh
var hookTcsh string

type tcsh struct{ environmentCode }

func (tcsh) Name() string { return "tcsh" }

// Quote writes an empty word, because among arguments tcsh drops $”.
func (tcsh) Quote(value string) string {
	if value == "" {
		return "''"
	}
	return quoteTcsh(value)
}

// Watch defines the alias that reads the variables; the hook calls it, because it does not exist before the end of this line. The inner eval keeps a variable that is not set from being expanded: that is an error.
func (tcsh) Watch(names []string) string {
	uses, code := 0, "set __localport_now = ''"
	for _, name := range validNames(names) {
		uses = 2
		code += fmt.Sprintf("; set __localport_now = \"$__localport_now:q $?%s\"; if ($?%[1]s) eval 'set __localport_now = \"$__localport_now:q=$%[1]s:q\"'", name)
	}
	return fmt.Sprintf("set __localport_uses = %d; alias __localport_used %s;\n", uses, quoteTcsh(code))
}

func (tcsh) Set(name, value string) string { return statement("set ", name, " = "+quoteTcsh(value)) }

// Hook is one line, because that is what a command substitution makes of it.
func (tcsh) Hook(exe string) string {
	call := `if ("$__localport_diff:q" != "") setenv LOCALPORT_DIFF "$__localport_diff:q"; ` +
		`exec "$__localport_program:q" export tcsh --pid $$ --root "$__localport_root:q" --line "$__localport_line:q" ` +
		`--told "$__localport_told:q" --retry "$__localport_retry:q" --saves --tools $__localport_limit $__localport_earlier:q < /dev/null`
	return `if ("$tcsh" =~ 6.[01]* || "$tcsh" =~ 6.2[012].*) echo "localport: the hook needs tcsh 6.23 or newer"; ` +
		"set __localport_exe = " + quoteTcsh(exe) + "; set __localport_check = " + quoteTcsh(withoutComments(hookTcsh)) + "; " +
		"alias __localport_call " + Quote(call) + "; " + `alias __localport_prompt 'set __localport_status = $status; eval "$__localport_check:q"; set status = $__localport_status'; ` +
		"set __localport_user = \"`alias precmd`\"; " +
		`if (! ("$__localport_user:q" =~ *__localport_prompt*)) alias precmd "$__localport_user:q; __localport_prompt"; unset __localport_user;` + "\n"
}

// withoutComments removes the comments, which an interactive tcsh would execute, and joins the lines that a backslash continues.
func withoutComments(code string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(code, "\\\n", "")) {
		if statement := strings.TrimSpace(line); statement != "" && statement[0] != '#' {
			statement, _, _ = strings.Cut(statement, " # ")
			b.WriteString(statement + "\n")
		}
	}
	return b.String()
}

// quoteTcsh quotes a value as one word. In $'…' escapes denote bytes, as in C; only it can hold a newline in a command substitution. The
// other special characters are escaped too: ! is one inside all quotes, and backslash_quote changes what \ does. Bytes that are not ASCII stay as they are: an
// escape above 177 is a character in a UTF-8 locale.
func quoteTcsh(value string) string {
	var b strings.Builder
	b.WriteString("$'")
	for _, c := range []byte(value) {
		if c < ' ' || c == 0x7f || strings.IndexByte("!'\"\\$`", c) >= 0 {
			fmt.Fprintf(&b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
