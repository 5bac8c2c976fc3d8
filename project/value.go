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

// quoted is the node's text for a message.
func (n *node) quoted() string {
	if n.secret {
		return strconv.Quote(masked)
	}
	return quoted(n.text, n.doc.secrets)
}

// want is the error about a value of the wrong type.
func (n *node) want(what string) error {
	return fmt.Errorf("must be %s, not %s%s", what, n.kind, n.quotingAdvice(what))
}

// quotingAdvice is the end of the message about a value that only has quotes too many or too few.
func (n *node) quotingAdvice(want string) string {
	switch n.kind {
	case integerKind, floatKind, boolKind, dateKind:
		if want == "a string" {
			return "; put it in quotes"
		}
	case stringKind:
		_, err := strconv.Atoi(n.text)
		isInteger, isBool := err == nil, n.text == "true" || n.text == "false"
		isLiteral := bytes.HasPrefix(n.doc.data[n.at+1:], []byte(n.text)) // not ${…}, which needs the quotes
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

func (n *node) string() (string, error) {
	switch {
	case n.kind != stringKind:
		return "", n.want("a string")
	case n.text == "":
		return "", errors.New("must not be empty")
	}
	return n.text, nil
}

func (n *node) integer() (int64, error) {
	if n.kind != integerKind {
		return 0, n.want(wantInteger)
	}
	return strconv.ParseInt(n.text, 0, 64) // with base 0 Go's notation is TOML's, underscores included
}

func (n *node) float() (float64, error) {
	switch n.kind {
	case integerKind:
		i, err := n.integer()
		return float64(i), err
	case floatKind:
		return strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64)
	}
	return 0, n.want("a number")
}

// text reads any string but the empty one.
func text(at func(*Service) *string) reader {
	return func(s *Service, n *node) (err error) {
		*at(s), err = n.string()
		return err
	}
}

// argument reads what becomes an argument of a tool: it must not be taken for an option.
func argument(at func(*Service) *string) reader {
	return func(s *Service, n *node) (err error) {
		if *at(s), err = n.string(); strings.HasPrefix(*at(s), "-") {
			return fmt.Errorf(`%s must not begin with "-"`, n.quoted())
		}
		return err
	}
}

var blank = lazily(`[\s\x00-\x1f\x7f]`)

// word reads an argument without spaces: a name, a host.
func word(at func(*Service) *string) reader {
	return func(s *Service, n *node) error {
		if err := argument(at)(s, n); err != nil {
			return err
		}
		if blank().MatchString(*at(s)) {
			return fmt.Errorf("%s must not contain spaces or control characters", n.quoted())
		}
		return nil
	}
}

// choice reads one of the values.
func choice(at func(*Service) *string, values []string) reader {
	return func(s *Service, n *node) error {
		value, err := n.string()
		if err != nil {
			return err
		}
		if !slices.Contains(values, value) {
			hint := ""
			if near := Nearest(value, values); near != "" {
				hint = didYouMean(near)
			}
			return fmt.Errorf("invalid %s %s: must be %s%s", n.name, n.quoted(), oneOf(values), hint)
		}
		*at(s) = value
		return nil
	}
}

func boolean(at func(*Service) *bool) reader {
	return func(s *Service, n *node) error {
		if n.kind != boolKind {
			return n.want(wantBool)
		}
		*at(s) = n.text == "true"
		return nil
	}
}

func count(least int64, at func(*Service) *int) reader {
	return func(s *Service, n *node) error {
		i, err := n.integer()
		if err == nil && (i < least || i > math.MaxInt32) {
			err = fmt.Errorf("must be between %d and %d", least, math.MaxInt32)
		}
		if err == nil {
			*at(s) = int(i)
		}
		return err
	}
}

func duration(at func(*Service) *time.Duration) reader {
	return func(s *Service, n *node) error {
		d, err := n.duration()
		if err == nil {
			*at(s) = d
		}
		return err
	}
}

var errDuration = errors.New(`must be a positive duration such as "30s" or "5m", or a number of seconds`)

func (n *node) duration() (time.Duration, error) {
	switch n.kind {
	case integerKind, floatKind:
		f, err := n.float()
		if err != nil {
			return 0, errDuration
		}
		return seconds(f)
	case stringKind:
		return ParseDuration(n.text)
	}
	return 0, errDuration
}

// ParseDuration reads a duration as the user writes it, "30s" or a number of seconds. It is always more than zero.
func ParseDuration(text string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return seconds(f)
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, errDuration
}

func seconds(f float64) (time.Duration, error) {
	d := f * float64(time.Second)
	if !(d >= 1 && d < math.MaxInt64) { // so that NaN fails too
		return 0, errDuration
	}
	return time.Duration(d), nil
}

// list reads an array of strings, which may be empty.
func list(at func(*Service) *[]string) reader {
	return func(s *Service, n *node) error {
		if n.kind != arrayKind {
			return n.want(wantStrings)
		}
		values := make([]string, 0, len(n.items))
		var bad badItems
		for _, item := range n.items {
			value, err := item.string()
			bad = bad.with(item, err)
			values = append(values, value)
		}
		*at(s) = values
		return bad.err()
	}
}

// badItems are errors about nodes below the one that is read.
type badItems []badItem

type badItem struct {
	node *node
	err  error
}

func (b badItems) Error() string { return b[0].err.Error() }

func (b badItems) with(n *node, err error) badItems {
	if err == nil {
		return b
	}
	return append(b, badItem{n, err})
}

// err is nil where there are none.
func (b badItems) err() error {
	if len(b) == 0 {
		return nil
	}
	return b
}

// file reads the name of a file and makes it absolute.
func file(at func(*Service) *string) reader {
	return func(s *Service, n *node) error {
		name, err := n.string()
		if err != nil {
			return err
		}
		files := n.doc.files
		path, err := expandPath(files.Root, name)
		if err != nil {
			return err
		}
		if in := locate(files.Root, path).name; in != "" && files.Named != nil {
			if _, covered := files.Named[in]; !covered {
				return errors.New(`a path inside the project must not contain ${…}: "localport allow" could not cover the file`)
			}
		}
		*at(s) = path
		return nil
	}
}
