package paste_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/localport-sh/localport/project/paste"
)

var update = flag.Bool("update", false, "replace the wanted results in testdata by the actual ones")

// TestParse_UnderstandsWhatPeoplePaste reads testdata/pasted.txt: texts between lines of "===", each followed by what is made of it after a line of
// "---".
func TestParse_UnderstandsWhatPeoplePaste(t *testing.T) {
	t.Parallel()
	const path = "testdata/pasted.txt"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for block := range strings.SplitSeq(strings.TrimSuffix(string(data), "===\n"), "===\n") {
		text, _, _ := strings.Cut(block, "---\n")
		fmt.Fprintf(&got, "%s---\n%s===\n", text, describe(t, strings.TrimSuffix(text, "\n")))
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(data); got.String() != want && !*update {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

// describe returns the config that a text becomes, or the error.
func describe(t *testing.T, text string) string {
	result, err := paste.Parse([]string{text}, paste.Options{})
	if !strings.ContainsAny(text, " \n") {
		result, err = paste.ParseText(text, paste.Options{})
	}
	if pasteErr, ok := errors.AsType[*paste.Error](err); ok {
		return fmt.Sprintf("error: %v\nhint: %s\n", pasteErr, pasteErr.Advice)
	}
	if _, err := parseConfig(result); err != nil {
		t.Errorf("%s\n%s\n%v", text, render(result), err)
	}
	out := render(result)
	for _, secret := range result.Secrets {
		out += fmt.Sprintf(".env: %s=%s\n", secret.Name, secret.Value)
	}
	for _, note := range result.Notes {
		out += "note: " + note + "\n"
	}
	return out
}

// The shell has expanded the ~ of a pasted command line; a config that others use must not name this user's home directory.
func TestParse_WritesPathsBelowTheHomeDirectoryWithATilde(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"/home/you/.ssh/id": "~/.ssh/id", "/home/yours/id": "/home/yours/id", "id": "~/shop/id"} {
		result, err := paste.Parse([]string{"ssh", "-i", arg, "-L", "6379:10.0.0.5:6379", "bastion"}, paste.Options{Dir: "/home/you/shop", Home: "/home/you"})
		if err != nil {
			t.Fatal(err)
		}
		if got := connectionText(result, "key_file"); got != want {
			t.Errorf("%s: key_file = %q, want %q", arg, got, want)
		}
	}
}
