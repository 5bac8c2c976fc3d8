package filediff

import (
	"fmt"
	"strings"
	"testing"

	"github.com/localport-sh/localport/project"
)

func format(lines []Line) string {
	var b strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&b, "%d %s\n", line.Kind, line.Text)
	}
	return b.String()
}

func TestCompare_ShowsEachFile(t *testing.T) {
	before := []project.MaskedFile{
		{Name: ".localport.toml", Text: "a\r\nb\r\n", Digest: "1"},
		{Name: ".env", Text: "A=***\n", Digest: "2"},
		{Name: "key", Digest: "3"},
		{Name: "same", Text: "x\n", Digest: "4"},
		{Name: "gone", Digest: "5"},
		{Name: "long", Digest: "6"},
		{Name: "empty", Digest: emptyDigest},
	}
	after := []project.MaskedFile{
		{Name: ".localport.toml", Text: "a\r\nc\r\n", Digest: "1b"},
		{Name: ".localport.local.toml", Text: "new", Digest: "7"},
		{Name: ".env", Text: "A=***\n", Digest: "2b"},
		{Name: "key", Digest: "3b"},
		{Name: "same", Text: "x\n", Digest: "4"},
		{Name: "other", Digest: "8"},
		{Name: "long", Text: "too long to be kept\n", Digest: "6b"},
		{Name: "empty", Text: "x\n", Digest: "9"},
	}
	want := `1 --- .localport.toml
1 +++ .localport.toml
2 @@ -1,2 +1,2 @@
0  a
4 -b
3 +c
1 --- /dev/null
1 +++ .localport.local.toml
2 @@ -0,0 +1,1 @@
3 +new
5 \ No newline at end of file
5 .env: a secret changed, which is not shown
5 key changed; its contents are not shown
5 other is new; its contents are not shown
5 long changed; its contents are not shown
1 --- empty
1 +++ empty
2 @@ -0,0 +1,1 @@
3 +x
5 gone is not used any more, or gone
`
	lines := Compare(before, after)
	if got := format(lines); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := format(Limit(lines, 3)); got != "1 --- .localport.toml\n1 +++ .localport.toml\n5 18 more lines changed\n" {
		t.Errorf("limited to 3 lines:\n%s", got)
	}
	if lines := Compare(before, before); lines != nil {
		t.Errorf("no change: %v", lines)
	}
}
