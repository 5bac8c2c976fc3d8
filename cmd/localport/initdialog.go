package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// dialog asks questions on the user's terminal. Ctrl-C ends the process, which has written nothing by then.
type dialog struct{ terminal *os.File }

// openDialog returns a dialog; nil if nobody is there to answer: without a terminal, or in CI.
func openDialog() *dialog {
	for _, file := range []*os.File{os.Stdin, os.Stderr} {
		if _, err := unix.IoctlGetTermios(int(file.Fd()), getTermios); err != nil {
			return nil
		}
	}
	if os.Getenv("CI") != "" {
		return nil
	}
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	return &dialog{terminal}
}

func (d *dialog) close() {
	if d != nil {
		_ = d.terminal.Close()
	}
}

func (d *dialog) printf(format string, args ...any) {
	fmt.Fprint(d.terminal, output.EscapeText(fmt.Sprintf(format, args...)))
}

// errNothingWritten is returned when the user has ended the input instead of answering.
var errNothingWritten = errors.New("the input has ended; nothing was written")

// ask returns the answer to a question, or what is suggested for an empty one.
func (d *dialog) ask(ctx context.Context, question, suggestion string) (string, error) {
	if suggestion != "" {
		question += " [" + suggestion + "]"
	}
	d.printf("%s: ", question)
	text, err := readAnswer(ctx, d.terminal)
	if errors.Is(err, io.EOF) {
		d.printf("\n")
		return "", errNothingWritten
	}
	if err != nil {
		return "", err
	}
	if text = strings.TrimSpace(text); text == "" {
		return suggestion, nil
	}
	return text, nil
}

// askValid repeats a question until check accepts the answer; its error says what is wrong with it.
func (d *dialog) askValid(ctx context.Context, question, suggestion string, check func(string) error) (string, error) {
	for {
		text, err := d.ask(ctx, question, suggestion)
		if err != nil {
			return "", err
		}
		if err = check(text); err == nil {
			return text, nil
		}
		d.printf("  %v\n", err)
	}
}

// The answers that an empty line gives to a question with yes or no.
const (
	answerYes = true
	answerNo  = false
)

// confirm returns the answer to a question with yes or no.
func (d *dialog) confirm(ctx context.Context, question string, emptyAnswer bool) (isYes bool, err error) {
	choices := map[bool]string{answerYes: " [Y/n]", answerNo: " [y/N]"}[emptyAnswer]
	_, err = d.askValid(ctx, question+choices, "", func(text string) error {
		switch strings.ToLower(text) {
		case "":
			isYes = emptyAnswer
		case "y", "yes":
			isYes = true
		case "n", "no":
			isYes = false
		default:
			return errors.New("answer y or n")
		}
		return nil
	})
	return isYes, err
}

// choose returns the index of one of the options; the first is suggested.
func (d *dialog) choose(ctx context.Context, question string, options []string) (int, error) {
	d.printf("%s\n", question)
	for i, option := range options {
		d.printf("  %d  %s\n", i+1, option)
	}
	index := 0
	_, err := d.askValid(ctx, "Number", "1", func(text string) error {
		number, err := strconv.Atoi(text)
		if err != nil || number < 1 || number > len(options) {
			return fmt.Errorf("answer a number from 1 to %d", len(options))
		}
		index = number - 1
		return nil
	})
	return index, err
}

// parseSelection returns the indexes that a text such as "1,3-5" or "all" selects of count numbered lines, in ascending order.
func parseSelection(text string, count int) ([]int, error) {
	isSelected := make([]bool, count)
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		first, last, err := parseRange(part, count)
		if err != nil {
			return nil, err
		}
		for i := first; i <= last; i++ {
			isSelected[i-1] = true
		}
	}
	var indexes []int
	for i, selected := range isSelected {
		if selected {
			indexes = append(indexes, i)
		}
	}
	if len(indexes) == 0 {
		return nil, errors.New(`answer numbers, such as 1,3-5, or "all"`)
	}
	return indexes, nil
}

func parseRange(text string, count int) (first, last int, err error) {
	if strings.EqualFold(text, "all") {
		return 1, count, nil
	}
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err = strconv.Atoi(from)
	if err == nil {
		last, err = strconv.Atoi(to)
	}
	if err != nil {
		return 0, 0, fmt.Errorf(`%q is no number: answer numbers, such as 1,3-5, or "all"`, text)
	}
	if first < 1 || last > count || first > last {
		return 0, 0, fmt.Errorf("%s is not from 1 to %d", text, count)
	}
	return first, last, nil
}
