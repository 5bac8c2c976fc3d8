package project

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// quoted returns the node's text for a message: masked, in quotes, and truncated.
func (n *node) quoted() string {
	if n.isSecret {
		return strconv.Quote(mask)
	}
	return quoteMasked(n.text, n.doc.secrets)
}

// typeError returns the error about a value of the wrong type.
func (n *node) typeError(what string) error {
	return fmt.Errorf("must be %s, not %s%s", what, n.kind, n.quotingAdvice(what))
}

// quotingAdvice returns the end of the message about a value that lacks quotes, or must not have them.
func (n *node) quotingAdvice(want string) string {
	switch n.kind {
	case integerKind, floatKind, boolKind, dateKind:
		if want == "a string" {
			return "; put it in quotes"
		}
	case stringKind:
		_, err := strconv.Atoi(n.text)
		isInteger, isBool := err == nil, n.text == "true" || n.text == "false"
		isLiteral := bytes.HasPrefix(n.doc.data[n.valueOffset+1:], []byte(n.text)) // not ${…}, which needs the quotes
		if isLiteral && (want == wantInteger && isInteger || want == wantBool && isBool) {
			return "; remove the quotes"
		}
	}
	return ""
}

// What a value must be, in the words of messages.
const (
	wantInteger = "an integer"
	wantBool    = "true or false"
	wantStrings = `an array of strings such as ["a", "b"]`
)

func (n *node) asString() (string, error) {
	switch {
	case n.kind != stringKind:
		return "", n.typeError("a string")
	case n.text == "":
		return "", errors.New("must not be empty")
	}
	return n.text, nil
}

func (n *node) asInteger() (int64, error) {
	if n.kind != integerKind {
		return 0, n.typeError(wantInteger)
	}
	return strconv.ParseInt(n.text, 0, 64) // with base 0 Go's notation is TOML's, underscores included
}

func (n *node) asFloat() (float64, error) {
	switch n.kind {
	case integerKind:
		i, err := n.asInteger()
		return float64(i), err
	case floatKind:
		return strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64)
	}
	return 0, n.typeError("a number")
}

// textReader returns a reader of a string that is not empty.
func textReader(target func(*Service) *string) reader {
	return func(s *Service, n *node) (err error) {
		*target(s), err = n.asString()
		return err
	}
}

// argumentReader returns a reader of an argument for a program, which must not look like an option.
func argumentReader(target func(*Service) *string) reader {
	return func(s *Service, n *node) (err error) {
		if *target(s), err = n.asString(); strings.HasPrefix(*target(s), "-") {
			return fmt.Errorf(`%s must not begin with "-"`, n.quoted())
		}
		return err
	}
}

var blankPattern = LazyRegexp(`[\s\x00-\x1f\x7f]`)

// wordReader returns a reader of an argument without spaces, such as a name or a host.
func wordReader(target func(*Service) *string) reader {
	return func(s *Service, n *node) error {
		if err := argumentReader(target)(s, n); err != nil {
			return err
		}
		if blankPattern().MatchString(*target(s)) {
			return fmt.Errorf("%s must not contain spaces or control characters", n.quoted())
		}
		return nil
	}
}

// choiceReader returns a reader of a string that must be one of values.
func choiceReader(target func(*Service) *string, values []string) reader {
	return func(s *Service, n *node) error {
		value, err := n.asString()
		if err != nil {
			return err
		}
		if !slices.Contains(values, value) {
			hint := ""
			if nearest := NearestName(value, values); nearest != "" {
				hint = didYouMean(nearest)
			}
			return fmt.Errorf("invalid %s %s: must be %s%s", n.name, n.quoted(), joinAlternatives(values), hint)
		}
		*target(s) = value
		return nil
	}
}

func boolReader(target func(*Service) *bool) reader {
	return func(s *Service, n *node) error {
		if n.kind != boolKind {
			return n.typeError(wantBool)
		}
		*target(s) = n.text == "true"
		return nil
	}
}

func countReader(minimum int64, target func(*Service) *int) reader {
	return func(s *Service, n *node) error {
		i, err := n.asInteger()
		if err == nil && (i < minimum || i > math.MaxInt32) {
			err = fmt.Errorf("must be between %d and %d", minimum, math.MaxInt32)
		}
		if err == nil {
			*target(s) = int(i)
		}
		return err
	}
}

func durationReader(target func(*Service) *time.Duration) reader {
	return func(s *Service, n *node) error {
		d, err := n.asDuration()
		if err == nil {
			*target(s) = d
		}
		return err
	}
}

var errDuration = errors.New(`must be a positive duration such as "30s" or "5m", or a number of seconds`)

func (n *node) asDuration() (time.Duration, error) {
	switch n.kind {
	case integerKind, floatKind:
		f, err := n.asFloat()
		if err != nil {
			return 0, errDuration
		}
		return durationOfSeconds(f)
	case stringKind:
		return ParseDuration(n.text)
	}
	return 0, errDuration
}

// ParseDuration parses "30s" or a number of seconds. The result is always positive.
func ParseDuration(text string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return durationOfSeconds(f)
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, errDuration
}

func durationOfSeconds(f float64) (time.Duration, error) {
	d := f * float64(time.Second)
	if !(d >= 1 && d < math.MaxInt64) { // so that NaN fails too
		return 0, errDuration
	}
	return time.Duration(d), nil
}

// listReader returns a reader of an array of strings, which may be empty.
func listReader(target func(*Service) *[]string) reader {
	return func(s *Service, n *node) error {
		if n.kind != arrayKind {
			return n.typeError(wantStrings)
		}
		values := make([]string, 0, len(n.items))
		var bad itemErrors
		for _, item := range n.items {
			value, err := item.asString()
			bad = bad.append(item, err)
			values = append(values, value)
		}
		*target(s) = values
		return bad.errOrNil()
	}
}

// itemErrors are errors about nodes below the one that is read.
type itemErrors []itemError

type itemError struct {
	node *node
	err  error
}

func (b itemErrors) Error() string { return b[0].err.Error() }

func (b itemErrors) append(n *node, err error) itemErrors {
	if err == nil {
		return b
	}
	return append(b, itemError{n, err})
}

// errOrNil returns nil if there are no errors.
func (b itemErrors) errOrNil() error {
	if len(b) == 0 {
		return nil
	}
	return b
}

// fileReader returns a reader of a file's path, which it makes absolute.
func fileReader(target func(*Service) *string) reader {
	return func(s *Service, n *node) error {
		name, err := n.asString()
		if err != nil {
			return err
		}
		files := n.doc.files
		path, err := expandPath(files.Root, name)
		if err != nil {
			return err
		}
		if in := locate(files.Root, path).relPath; in != "" && files.ReferencedFiles != nil {
			if _, covered := files.ReferencedFiles[in]; !covered {
				return errors.New(`a path inside the project must not contain ${…}: "localport allow" could not cover the file`)
			}
		}
		*target(s) = path
		return nil
	}
}
