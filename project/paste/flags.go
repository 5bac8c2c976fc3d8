package paste

import (
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project"
)

// nameFlag gives the services a name. No program whose command lines are read has such a flag.
const nameFlag = "--name"

// takeFlag reads a flag of the command that reads the words, where a flag of the pasted program may stand. It returns how many words it takes: 0 if
// the first word is no such flag.
func (r *reader) takeFlag(words []string) (count int, err error) {
	name, value, hasValue := strings.Cut(words[0], "=")
	switch {
	case slices.Contains(r.options.Flags, words[0]):
		r.result.Flags = append(r.result.Flags, words[0])
		return 1, nil
	case slices.Contains(r.options.Flags, name):
		return 0, &Error{Word: words[0], Reason: "this flag has no value", Advice: "write " + name}
	case name != nameFlag:
		return 0, nil
	case hasValue && value != "":
		return 1, r.setName(value)
	case hasValue || len(words) == 1 || strings.HasPrefix(words[1], "-"):
		return 0, &Error{Word: words[0], Reason: "it needs a value", Advice: "write the name of the service after it: " + nameFlag + " NAME"}
	}
	return 2, r.setName(words[1])
}

func (r *reader) setName(name string) error {
	r.options.Name = name
	r.result.WrittenNames = append(r.result.WrittenNames, name)
	return checkName(name)
}

// checkName rejects what no service can be called.
func checkName(name string) error {
	if serviceName(name) != strings.ToLower(name) {
		return &Error{Word: name, Reason: "invalid service name", Advice: `use letters, digits, "-" and "_", and begin with a letter`}
	}
	return nil
}

// readWithoutFlags reads words of our own short forms, which have no other flags than those of takeFlag.
func (r *reader) readWithoutFlags(words []string, read func(words []string) error) error {
	var rest []string
	for len(words) > 0 {
		count, err := r.takeFlag(words)
		switch {
		case err != nil:
			return err
		case words[0] == "--":
			return read(slices.Concat(rest, words[1:]))
		case count == 0 && len(words[0]) > 1 && words[0][0] == '-':
			return r.unknownFlagError(words[0], "", nil)
		case count == 0:
			rest = append(rest, words[0])
			count = 1
		}
		words = words[count:]
	}
	return read(rest)
}

// unknownFlagError suggests the flag that is most similar, of the program whose command line it is or of ours. program is empty for a short form of ours.
func (r *reader) unknownFlagError(word, program string, known []string) error {
	reason := "unknown flag"
	if program != "" {
		reason += " of " + program
	}
	own := slices.Concat(r.options.Flags, []string{nameFlag})
	name, _, _ := strings.Cut(word, "=")
	if slices.Contains(r.options.OtherFlags, name) {
		return &Error{Word: word, Reason: reason, Advice: fmt.Sprintf("%s is a flag of localport: write it before the pasted command", name)}
	}
	advice := "flags of localport that may stand here: " + strings.Join(own, ", ")
	switch nearest := project.NearestName(name, slices.Concat(own, known, r.options.OtherFlags)); {
	case slices.Contains(r.options.OtherFlags, nearest):
		advice = fmt.Sprintf("did you mean %q? Write it before the pasted command", nearest)
	case nearest != "":
		advice = fmt.Sprintf("did you mean %q?", nearest)
	case len(known) > 0:
		advice = program + " --help lists its flags"
	}
	return &Error{Word: word, Reason: reason, Advice: advice}
}
