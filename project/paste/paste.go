// Package paste reads the command lines of other tools that open port forwards, as people paste them, and returns the services that do the same:
// kubectl port-forward, oc, ssh, autossh and socat, and LocalPort's own short forms.
package paste

import (
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project/draft"
)

// Options say which names and ports a service must not reuse, and what paths are relative to.
type Options struct {
	// Name is that of the only service, or what the names of several begin with; empty: it is derived. It is also read from nameFlag.
	Name string
	// IsNameTaken reports whether another service has a name; nil: none has.
	IsNameTaken func(name string) bool
	// Ports chooses the local ports. A note says so if a service gets another one than was pasted. nil: every port from 1024 is free.
	Ports *draft.LocalPorts
	// Flags are flags without a value of the command that reads the words, such as "--save". Like nameFlag, they may stand wherever the program
	// whose command line was pasted takes a flag.
	Flags []string
	// OtherFlags are the other flags of that command, for messages: they have to stand before the words.
	OtherFlags []string
	// Dir is what relative paths of files are relative to; empty: they are kept, and relative to the project's root.
	Dir string
	// Home is the user's home directory: a path below it is written with ~, because a config is shared. It may be empty.
	Home string
}

// Result is what was read.
type Result struct {
	Services []draft.Service
	// WrittenNames are the names that were written, by Options.Name, nameFlag or NAME URL; none: the names are derived.
	WrittenNames []string
	// Flags are those of Options.Flags that are among the words.
	Flags []string
	// Notes say what has no effect, or another one than in the original, each as one sentence without a full stop.
	Notes []string
	// Secrets are passwords that the services mention as ${NAME}. They belong into .env, never into the config. The values are as in .env
	// before quoting.
	Secrets []Variable
	// Env are entries for [env]: the URL with the service's own address.
	Env draft.Table
}

// Variable is a variable of .env or of a shell.
type Variable struct{ Name, Value string }

// Error says which word is not understood, why, and what to write.
type Error struct {
	Word   string // empty: the whole text
	Reason string
	Advice string // a sentence for a hint; may be empty
}

func (e *Error) Error() string {
	if e.Word == "" {
		return e.Reason
	}
	return fmt.Sprintf("%q: %s", e.Word, e.Reason)
}

// Examples are the forms that Parse takes.
var Examples = []string{
	"svc/postgres 5432 -n db",
	"kubectl port-forward deploy/api 8080:80",
	"ssh -L 6379:10.0.0.5:6379 bastion",
	"tcp db.internal:5432",
	"db postgres://app@db.internal/shop",
}

// Parse reads the arguments of a command, which the user's shell has split: one of the Examples, or a whole command line as one argument. The
// error is an *Error.
func Parse(args []string, o Options) (Result, error) {
	if len(args) == 1 && strings.ContainsAny(args[0], " \t\n") {
		return ParseText(args[0], o)
	}
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = draft.EscapeTemplate(arg)
	}
	return parseCommands([]shellCommand{{words: words}}, o)
}

// ParseText reads the text of one or more command lines, and flags of the command that reads it. The error is an *Error.
func ParseText(text string, o Options, flags ...string) (Result, error) {
	commands, err := splitCommands(text)
	if err != nil {
		return Result{}, err
	}
	return parseCommands(commands, o, flags...)
}

// maxForwards is how many forwards are read: with more, the text is something else.
const maxForwards = 200

func parseCommands(commands []shellCommand, o Options, flags ...string) (Result, error) {
	if o.Ports == nil {
		o.Ports = &draft.LocalPorts{}
	}
	r := &reader{options: o}
	if o.Name != "" {
		if err := r.setName(o.Name); err != nil {
			return Result{}, err
		}
	}
	if err := r.readWithoutFlags(flags, rejectWords); err != nil {
		return Result{}, err
	}
	var unknown *Error
	var exported []Variable
	for _, command := range commands {
		command = command.withoutWrappers()
		if err := checkWords(command.words); err != nil {
			return Result{}, err
		}
		if len(command.words) == 0 {
			exported = append(exported, command.variables...)
			continue
		}
		command.variables = slices.Concat(exported, command.variables)
		isKnown, err := r.readCommand(command)
		switch {
		case err != nil:
			return Result{}, err
		case !isKnown && unknown == nil:
			unknown = unknownCommandError(command.words[0])
		case !isKnown:
			r.note("%q has no effect", command.words[0])
		}
		if len(r.pending) > maxForwards {
			return Result{}, &Error{Reason: fmt.Sprintf("more than %d forwards", maxForwards), Advice: "paste fewer command lines at once"}
		}
	}
	switch {
	case len(r.pending) == 0 && unknown != nil:
		return Result{}, unknown
	case len(r.pending) == 0:
		return Result{}, &Error{Reason: "nothing to forward", Advice: "write for example: " + Examples[0]}
	case unknown != nil:
		r.note("%q has no effect", unknown.Word)
	}
	return r.finish(), nil
}

func rejectWords(words []string) error {
	if len(words) == 0 {
		return nil
	}
	return &Error{Word: words[0], Reason: "only flags of localport may follow \"-\"", Advice: "remove it, or add it to the standard input"}
}

// checkWords rejects empty words, and the dashes that text processors make of "-" and "--".
func checkWords(words []string) error {
	const advice = "check that the variable that you use there is set"
	for i, word := range words {
		switch {
		case word == "" && i == 0:
			return &Error{Reason: "the first word is empty", Advice: advice}
		case word == "":
			return &Error{Word: words[i-1], Reason: "an empty word follows", Advice: advice}
		}
		if strings.HasPrefix(word, "–") || strings.HasPrefix(word, "—") {
			return &Error{Word: word, Reason: "a typographic dash", Advice: "write - or -- instead"}
		}
	}
	return nil
}

func unknownCommandError(word string) *Error {
	e := &Error{Word: word, Reason: "unknown kind of forward", Advice: "write for example: " + strings.Join([]string{Examples[0], Examples[2], Examples[3]}, ", or: ")}
	switch programName(word) {
	case "gcloud", "aws", "tsh", "az", "cloud-sql-proxy", "cloud_sql_proxy":
		e.Reason = "its forwards are services of technology \"command\""
		e.Advice = "\"localport recipes\" prints such services for Cloud SQL, AWS, IAP, Teleport and Azure"
	case "kubefwd", "kftray", "telepresence":
		e.Reason = "only kubectl's and ssh's command lines are understood"
	}
	return e
}

// reader collects the services of one text.
type reader struct {
	options Options
	pending []pendingService
	result  Result
}

// pendingService is a service whose name and port are not decided yet.
type pendingService struct {
	technology   string
	base         string // of the name
	localPort    int    // the wanted one; draft.Auto: any
	localAddress string // empty: 127.0.0.1 and ::1
	remotePort   string // a number, or a port's name; empty: none
	connection   draft.Table
	target       *urlTarget // nil: it was not given as a URL
}

// service returns the service with its name and its local port.
func (d *pendingService) service(name string, localPort int) draft.Service {
	svc := draft.Service{Name: name}
	svc.Set("technology", d.technology)
	svc.Set("local_port", draft.LocalPortValue(localPort))
	svc.Set("local_address", d.localAddress)
	if number, err := parsePort(d.remotePort); err == nil {
		svc.Set("remote_port", number)
	} else {
		svc.Set("remote_port", d.remotePort)
	}
	svc.Set("connection", d.connection)
	return svc
}

// note adds a note, once.
func (r *reader) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(r.result.Notes, text) {
		r.result.Notes = append(r.result.Notes, text)
	}
}

// readCommand adds the services of a command. It reports whether it knows such commands.
func (r *reader) readCommand(c shellCommand) (isKnown bool, err error) {
	first, rest := c.words[0], c.words[1:]
	switch name := programName(first); {
	case isNamedURL(c.words):
		return true, r.readWithoutFlags(rest, func(words []string) error { return r.readNamedURL(first, words) })
	case slices.Contains(kubectlPrograms, name):
		return true, r.readKubectl(c, rest)
	case name == "minikube" || name == "microk8s" || name == "k3s":
		if len(rest) > 0 && rest[0] == "kubectl" {
			return true, r.readKubectl(c, slices.DeleteFunc(slices.Clone(rest[1:]), func(w string) bool { return w == "--" }))
		}
		return false, nil
	case name == "ssh":
		return true, r.readSSH(rest, first)
	case name == "autossh":
		return true, r.readAutossh(rest)
	case name == "socat":
		return true, r.readSocat(rest)
	case first == "tcp":
		return true, r.readWithoutFlags(rest, r.readTCP)
	case first == portForwardVerb || startsLikeKubectl(c.words):
		return true, r.readKubectl(c, c.words)
	case strings.HasPrefix(first, "-"):
		return true, r.readLeadingFlag(c)
	case isHostPort(first):
		return true, r.readWithoutFlags(c.words, r.readTCP)
	case strings.Contains(first, "://"):
		return true, r.readWithoutFlags(c.words, r.readURL)
	}
	return false, nil
}

// readLeadingFlag reads a command that begins with a flag: kubectl's, or ssh's.
func (r *reader) readLeadingFlag(c shellCommand) error {
	if strings.HasPrefix(c.words[0], "--") || slices.ContainsFunc(c.words, isResource) {
		return r.readKubectl(c, c.words)
	}
	return r.readSSH(c.words, c.words[0])
}

// finish decides the names and the ports.
func (r *reader) finish() Result {
	names := newNames(r.options)
	for i := range r.pending {
		d := &r.pending[i]
		name := names.choose(d, len(r.pending))
		svc := d.service(name, r.chooseLocalPort(name, d))
		if d.target != nil {
			r.finishTarget(&svc, d.target)
		}
		r.result.Services = append(r.result.Services, svc)
	}
	return r.result
}

// chooseLocalPort decides the local port of a service. That of a reverse service is a server's, not ours.
func (r *reader) chooseLocalPort(name string, d *pendingService) int {
	if d.connection.Get("reverse") != nil {
		return d.localPort
	}
	port, reason := r.options.Ports.Choose(name, d.localAddress, d.localPort)
	if reason != "" {
		r.note("local port %d of %s becomes %s: %s", d.localPort, name, draft.FormatValue(draft.LocalPortValue(port)), reason)
	}
	return port
}
