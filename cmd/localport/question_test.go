package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/localport-sh/localport/forwarder/ssh/askpass"
)

func TestAskUser_HidesASecretTypedAtOnce(t *testing.T) {
	t.Parallel()
	for range 100 {
		user, terminal, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		screenCh := make(chan string, 1)
		go func() {
			screen := bufio.NewReader(user)
			question, _ := screen.ReadString(':')
			_, _ = io.WriteString(user, "open sesame\n")
			rest, _ := screen.ReadString('\n')
			screenCh <- question + rest
		}()
		if got, err := askUser(t.Context(), terminal, askpass.Question{Text: "Passphrase:"}); got != "open sesame" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if screen := <-screenCh; strings.Contains(screen, "sesame") {
			t.Fatalf("the terminal showed %q", screen)
		}
		_, _ = user.Close(), terminal.Close()
	}
}

func TestAskUser_CancelledQuestionTakesNoAnswer(t *testing.T) {
	t.Parallel()
	user, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = user.Close(), terminal.Close() }()
	for _, text := range []string{"Password:", "Really (yes/no)?"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got, err := askUser(ctx, terminal, askpass.Question{Text: text}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s %q, %v", text, got, err)
		}
	}
	go func() {
		_, _ = bufio.NewReader(user).ReadString('?') // the question cancelled last ends with this
		_, _ = io.WriteString(user, "yes\n")
	}()
	if got, err := askUser(t.Context(), terminal, askpass.Question{Text: "Now", Kind: "confirm"}); got != "yes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
