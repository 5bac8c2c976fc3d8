package paste

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// shellCommand is a simple command of a shell: its words, as texts of a config, and the variables set for it.
type shellCommand struct {
	words     []string
	variables []Variable
}

// splitCommands splits the text of a POSIX shell (XCU 2.3) into simple commands. Quotes are removed, redirections and comments dropped, and
// every operator ends a command. Variables become those of a config; what else a shell expands is an error.
func splitCommands(text string) ([]shellCommand, error) {
	if !utf8.ValidString(text) {
		return nil, &Error{Reason: "the text is not UTF-8"}
	}
	s := &splitter{rest: strings.ReplaceAll(text, "\r\n", "\n")}
	for s.rest = cutPrompt(s.rest); s.rest != ""; {
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	s.endCommand()
	return s.commands, nil
}

// splitter is one run of splitCommands.
type splitter struct {
	rest     string
	commands []shellCommand
	words    []string
	word     strings.Builder
	inWord   bool // also for an empty word in quotes
	isTarget bool // the word is the target of a redirection
}

// step reads one character, or what belongs together.
func (s *splitter) step() error {
	r, size := utf8.DecodeRuneInString(s.rest)
	switch {
	case strings.HasPrefix(s.rest, "\\\n"):
		s.rest = s.rest[2:]
	case r == '\n':
		s.endCommand()
		s.rest = cutPrompt(s.rest[1:])
	case r == ' ' || r == '\t' || r == '\u00a0':
		s.endWord()
		s.rest = s.rest[size:]
	case r == '#' && !s.inWord:
		_, after, _ := strings.Cut(s.rest, "\n")
		s.rest = "\n" + after
	case r == '>' || r == '<':
		s.startRedirection()
	case strings.ContainsRune(";|()", r) || r == '&':
		s.endCommand()
		s.rest = s.rest[1:]
	case r == '\'' || r == '"':
		return s.readQuoted(byte(r))
	case strings.ContainsRune("“”‘’„", r):
		return &Error{Word: string(r), Reason: "a typographic quote", Advice: `write " or ' instead`}
	case r == '$':
		return s.readDollar("{'\"0123456789?@*#!-")
	case r == '`':
		return errCommandSubstitution(s.rest)
	case r == '\\' && len(s.rest) > 1:
		_, size := utf8.DecodeRuneInString(s.rest[1:])
		s.addLiteral(s.rest[1 : 1+size])
		s.rest = s.rest[1+size:]
	default:
		s.addLiteral(s.rest[:size])
		s.rest = s.rest[size:]
	}
	return nil
}

func (s *splitter) addLiteral(text string) {
	s.inWord = true
	s.word.WriteString(draft.EscapeTemplate(text))
}

// startRedirection reads an operator such as 2>&1 or >>; the word after it is dropped.
func (s *splitter) startRedirection() {
	if strings.Trim(s.word.String(), "0123456789") == "" { // the number of a descriptor
		s.word.Reset()
		s.inWord = false
	}
	s.endWord()
	s.rest = strings.TrimLeft(s.rest, "<>|&")
	s.isTarget = true
}

// readQuoted reads to the closing quote.
func (s *splitter) readQuoted(quote byte) error {
	start := s.rest
	s.inWord = true
	for s.rest = s.rest[1:]; s.rest != ""; {
		switch c := s.rest[0]; {
		case c == quote:
			s.rest = s.rest[1:]
			return nil
		case quote == '"' && c == '$':
			if err := s.readDollar("{0123456789?@*#!-"); err != nil {
				return err
			}
			continue
		case quote == '"' && c == '`':
			return errCommandSubstitution(s.rest)
		case quote == '"' && strings.HasPrefix(s.rest, "\\\n"):
			s.rest = s.rest[2:]
			continue
		case quote == '"' && c == '\\' && len(s.rest) > 1 && strings.IndexByte("$`\"\\", s.rest[1]) >= 0:
			s.rest = s.rest[1:]
		}
		_, size := utf8.DecodeRuneInString(s.rest)
		s.addLiteral(s.rest[:size])
		s.rest = s.rest[size:]
	}
	return &Error{Word: firstWord(start), Reason: "the closing quote is missing", Advice: "paste the whole command line"}
}

var variablePattern = project.LazyRegexp(`^\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(:-[^${}'"\\` + "`" + `]*)?\})`)

// readDollar reads a variable, or a dollar that is not expanded. A shell expands it before the characters in special too.
func (s *splitter) readDollar(special string) error {
	match := variablePattern().FindStringSubmatch(s.rest)
	switch {
	case match != nil:
		s.inWord = true
		s.word.WriteString("${" + match[1] + match[2] + match[3] + "}")
		s.rest = s.rest[len(match[0]):]
		return nil
	case strings.HasPrefix(s.rest, "$("):
		return errCommandSubstitution(s.rest)
	case len(s.rest) > 1 && strings.IndexByte(special, s.rest[1]) >= 0:
		return &Error{Word: firstWord(s.rest), Reason: "a config cannot expand this", Advice: "write its value instead"}
	}
	s.addLiteral("$")
	s.rest = s.rest[1:]
	return nil
}

func errCommandSubstitution(text string) error {
	return &Error{Word: firstWord(text), Reason: "a command inside the command line is not run", Advice: "write its output instead"}
}

func firstWord(text string) string {
	if fields := strings.Fields(text); len(fields) > 0 {
		return fields[0]
	}
	return text
}

func (s *splitter) endWord() {
	if s.inWord && !s.isTarget {
		s.words = append(s.words, s.word.String())
	}
	if s.inWord {
		s.isTarget = false
	}
	s.word.Reset()
	s.inWord = false
}

func (s *splitter) endCommand() {
	s.endWord()
	s.isTarget = false
	if len(s.words) > 0 {
		s.commands = append(s.commands, shellCommand{words: s.words})
	}
	s.words = nil
}

var (
	promptPattern = project.LazyRegexp(`^\s*(?:[\w.-]+@[\w.-]+[^\s$#%]*\s?[^\s$#%]*)?(?:[$%>❯➜»]|PS>)\s+`)
	// A line that begins with "# " is a comment unless a known program follows.
	rootPromptPattern = project.LazyRegexp(`^\s*(?:[\w.-]+@[\w.-]+[^\s#]*)?#\s+((?:kubectl|oc|k|ssh|autossh|socat|sudo)\s)`)
)

// cutPrompt removes the prompt of a shell at the beginning of a line.
func cutPrompt(line string) string {
	if match := rootPromptPattern().FindStringSubmatchIndex(line); match != nil {
		return line[match[2]:]
	}
	return line[len(promptPattern().FindString(line)):]
}

// Words that stand before a command and change nothing about a forward.
var (
	reservedWords = []string{"while", "until", "do", "if", "then", "else", "!", "{", "time"}
	wrappers      = []string{"sudo", "doas", "nohup", "exec", "command", "env", "nice", "setsid", "caffeinate", "winpty", "export", "watch", "proxychains", "proxychains4"}
	// wrapperValueFlags are the flags of wrappers that are followed by a value.
	wrapperValueFlags = []string{"-u", "-g", "-n"}
	// ignoredCommands are the commands that loops and scripts around a forward consist of.
	ignoredCommands = []string{"true", ":", "done", "fi", "}", "sleep", "wait", "cd", "set", "echo", "clear"}
)

var assignmentPattern = project.LazyRegexp(`^[A-Za-z_][A-Za-z0-9_]*=`)

// withoutWrappers returns the command without the words before it that change nothing, and with the variables that are set for it. It has no
// words if it does nothing that matters.
func (c shellCommand) withoutWrappers() shellCommand {
	words := c.words
	for len(words) > 0 && !isNamedURL(words) {
		first := programName(words[0])
		switch {
		case assignmentPattern().MatchString(words[0]):
			name, value, _ := strings.Cut(words[0], "=")
			c.variables = append(c.variables, Variable{Name: name, Value: value})
			words = words[1:]
		case slices.Contains(reservedWords, words[0]):
			words = words[1:]
		case slices.Contains(wrappers, first):
			words = cutWrapper(first, words[1:])
		case slices.Contains(ignoredCommands, first):
			words = nil
		default:
			c.words = words
			return c
		}
	}
	c.words = words
	return c
}

// programName returns the name of a program, which may be given by its path.
func programName(word string) string {
	if strings.HasPrefix(word, "/") || strings.HasPrefix(word, "./") || strings.HasPrefix(word, "~/") {
		word = path.Base(word)
	}
	return strings.TrimSuffix(word, ".exe")
}

// cutWrapper removes the flags of a wrapper.
func cutWrapper(name string, words []string) []string {
	for len(words) > 0 && strings.HasPrefix(words[0], "-") {
		hasValue := slices.Contains(wrapperValueFlags, words[0]) && (name != "sudo" || words[0] != "-n")
		words = words[1:]
		if hasValue && len(words) > 0 {
			words = words[1:]
		}
	}
	return words
}
