package project

import (
	"fmt"
	"maps"
)

// itemErrors are errors about nodes below the one that is read.
type itemErrors []itemError

type itemError struct {
	node *node
	err  error
}

func (e itemErrors) Error() string { return e[0].err.Error() }

// parseAll parses each node; its error holds those of all.
func parseAll[T any](nodes []*node, parse func(*node) (T, error)) ([]T, error) {
	values := make([]T, len(nodes))
	var failures itemErrors
	for i, n := range nodes {
		var err error
		if values[i], err = parse(n); err != nil {
			failures = append(failures, itemError{n, err})
		}
	}
	if failures != nil {
		return values, failures
	}
	return values, nil
}

// listOf returns a parser of an array, which may be empty, whose items parse parses.
func listOf(parse func(*node) (string, error)) func(*node) ([]string, error) {
	return listLike(wantStrings, parse)
}

// listLike is listOf with the words that say what the value must be.
func listLike(want string, parse func(*node) (string, error)) func(*node) ([]string, error) {
	return func(n *node) ([]string, error) {
		if n.kind != arrayKind {
			return nil, n.typeError(want)
		}
		return parseAll(n.children, parse)
	}
}

// asCommandLine reads an array of strings, of which the first, the program, must not be empty.
func (n *node) asCommandLine() ([]string, error) {
	if n.kind == arrayKind && len(n.children) == 0 {
		return nil, errEmpty
	}
	return listLike(wantCommandLine, func(item *node) (string, error) {
		if item.kind == stringKind && item.index > 0 {
			return item.text, nil
		}
		return item.asString()
	})(n)
}

// asNumberList reads a number or an array of numbers, none of them negative.
func (n *node) asNumberList() ([]int, error) {
	items := []*node{n}
	if n.kind == arrayKind {
		items = n.children
	}
	return parseAll(items, func(item *node) (int, error) {
		i, err := item.asInteger()
		if err == nil && (i < 0 || i > 1<<30) {
			err = fmt.Errorf("%d is out of range", i)
		}
		return int(i), err
	})
}

// asTable reads a table whose values parse parses; its entries are added to those of before. want says in messages what it must be.
func (n *node) asTable(want string, before map[string]string, parse func(*node) (string, error)) (map[string]string, error) {
	if n.kind != tableKind {
		return nil, fmt.Errorf("%w%s", n.typeError(want), n.tableAdvice())
	}
	texts, err := parseAll(n.children, parse)
	values := map[string]string{}
	maps.Copy(values, before)
	for i, m := range n.children {
		values[m.name] = texts[i]
	}
	return values, err
}
