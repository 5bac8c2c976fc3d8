package edit

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ownedLine is a line of a generated file, and the service that it belongs to; empty: none.
type ownedLine struct{ text, owner string }

// configText generates TOML files in all the ways that people write them, with the services "one", "two", "three 3" and perhaps others.
type configText struct {
	t     *rapid.T
	lines []ownedLine
	count int // of keys, so that none occurs twice
}

func (c *configText) pick(label string, choices ...string) string {
	return rapid.SampledFrom(choices).Draw(c.t, label)
}

func (c *configText) isSo(label string) bool { return rapid.Bool().Draw(c.t, label) }

func (c *configText) add(owner, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		c.lines = append(c.lines, ownedLine{line, owner})
	}
}

func (c *configText) space() string { return c.pick("space", "", " ", "\t", "  ") }

func (c *configText) comment() string {
	return c.pick("comment", "#", "# [services.one]", "# a = \"b\"", "#c '''", "# ünïcode \"\"\"", "## \t")
}

func (c *configText) value() string {
	return c.pick("value", `"text"`, "5432", "true", "1.5e3", `'C:\x'`, "[1, 2]", "[ # c\n\t\"a\", # [x]\n\t'b',\n]", "{ a = 1, b.c = [\"#\"] }", "{}", "[]",
		"\"\"\"\n[services.two]\n# no comment\n\n\"\"\"", "'''a\nb = 1\n\n[x]'''", `"\"#"`, "1979-05-27T07:32:00Z", `"""a"""`, `""`)
}

func (c *configText) keyValue(key string) string {
	return c.space() + key + c.space() + "=" + c.space() + c.value() + c.space() + c.pick("end", "", c.comment())
}

func (c *configText) newKey() string {
	c.count++
	return fmt.Sprintf(c.pick("key", "k%d", "\"k %d\"", "'k.%d'", "K-%d", "a%d . b"), c.count)
}

// between adds what may stand between two tables: blank lines, and comments that belong to no table, which end with a blank line.
func (c *configText) between() {
	for range rapid.IntRange(0, 2).Draw(c.t, "paragraphs") {
		c.add("", c.pick("blank", "", " ", "\t"))
		if c.isSo("paragraph") {
			c.add("", c.comment())
			c.add("", "")
		}
	}
}

// table adds a table with its comments, keys, and perhaps subtables.
func (c *configText) table(owner, name string) {
	if c.isSo("comment above") {
		c.add(owner, c.comment())
	}
	c.add(owner, c.space()+"["+c.space()+name+c.space()+"]"+c.space()+c.pick("end", "", c.comment()))
	for range rapid.IntRange(0, 3).Draw(c.t, "keys") {
		if c.isSo("inner comment") {
			c.add(owner, c.space()+c.comment())
		}
		if c.isSo("inner blank") {
			c.add(owner, c.space())
		}
		c.add(owner, c.keyValue(c.newKey()))
	}
}

func (c *configText) service(name, key string) {
	c.table(name, c.pick("services", "services", "\"services\"", "services ")+"."+c.space()+key)
	for _, sub := range []string{"health_check", "restart_policy"} {
		if c.isSo(sub) {
			if c.isSo("blank") {
				c.add(name, "")
			}
			c.table(name, "services."+key+"."+sub)
		}
	}
}

// generate returns the text of a file, and its lines with their owners.
func (c *configText) generate() (string, []ownedLine) {
	if c.isSo("schema") {
		c.add("", "#:schema ./schema.json")
	}
	if c.isSo("top") {
		c.add("", c.keyValue(c.newKey()))
	}
	keys := map[string]string{"one": "one", "two": "'two'", "three 3": `"three 3"`}
	for _, name := range rapid.Permutation([]string{"one", "two", "three 3"}).Draw(c.t, "services") {
		c.between()
		if c.isSo("other table") {
			c.table("", fmt.Sprintf("other%d", len(c.lines)))
			c.between()
		}
		if len(c.lines) > 0 && strings.HasPrefix(strings.TrimSpace(c.lines[len(c.lines)-1].text), "#") && c.lines[len(c.lines)-1].owner != name {
			c.add("", "") // a comment directly above a table would be that table's
		}
		c.service(name, keys[name])
	}
	c.between()
	lineEnd := c.pick("line end", "\n", "\r\n")
	texts := make([]string, len(c.lines))
	for i, line := range c.lines {
		texts[i] = line.text
	}
	return c.pick("BOM", "", "\ufeff") + strings.Join(texts, lineEnd) + c.pick("last line", "", lineEnd), c.lines
}

func drawConfig(t *rapid.T) (string, []ownedLine) {
	text, lines := (&configText{t: t}).generate()
	if _, err := parse([]byte(text)); err != nil {
		t.Fatalf("the generated file is not TOML: %v\n%s", err, text)
	}
	return text, lines
}

// valuesOf decodes a text.
func valuesOf(t *rapid.T, text []byte) map[string]any {
	values, err := decode(bytes.TrimPrefix(text, byteOrderMark))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return values
}

func checkLineEnds(t *rapid.T, before string, after []byte) {
	if strings.Contains(before, "\r\n") && strings.Count(string(after), "\n") != strings.Count(string(after), "\r\n") {
		t.Fatalf("line ends are mixed: %q", after)
	}
}

func TestDocument_BlocksAreTheWholeText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, _ := drawConfig(t)
		d, err := parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for _, b := range d.blocks {
			if b.start != at || b.end <= at {
				t.Fatalf("block %+v does not begin at %d", b, at)
			}
			at = b.end
		}
		if at != len(d.text) {
			t.Fatalf("the blocks end at %d of %d", at, len(d.text))
		}
	})
}

func TestAddService_LeavesEveryByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, _ := drawConfig(t)
		after, err := AddService([]byte(before), "web", webTable)
		if err != nil {
			t.Fatal(err)
		}
		start := commonPrefix(before, string(after))
		if !strings.HasSuffix(string(after), before[start:]) {
			t.Fatalf("more than an insertion:\n%q\n%q", before, after)
		}
		checkLineEnds(t, before, after)
		if len(valuesOf(t, after)["services"].(map[string]any)) != 4 {
			t.Fatalf("services in\n%s", after)
		}
		removed, err := RemoveService(after, "web")
		if err != nil || strings.TrimRight(string(removed), "\r\n\t ") != strings.TrimRight(before, "\r\n\t ") {
			t.Fatalf("added and removed: %v\n%q\n%q", err, before, removed)
		}
	})
}

func commonPrefix(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func TestRemoveService_RemovesExactlyItsLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, lines := drawConfig(t)
		name := rapid.SampledFrom([]string{"one", "two", "three 3"}).Draw(t, "service")
		after, err := RemoveService([]byte(before), name)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, line := range lines {
			if line.owner != name && strings.TrimSpace(line.text) != "" {
				want = append(want, line.text)
			}
		}
		var got []string
		for line := range strings.SplitSeq(strings.TrimPrefix(string(after), "\ufeff"), "\n") {
			if line = strings.TrimSuffix(line, "\r"); strings.TrimSpace(line) != "" {
				got = append(got, line)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("without %s:\n%s\n\nleft:\n%s\n\nwant:\n%s", name, before, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if strings.HasPrefix(before, "\ufeff") != bytes.HasPrefix(after, byteOrderMark) {
			t.Fatal("the byte order mark")
		}
		checkLineEnds(t, before, after)
		left := valuesOf(t, []byte(before))
		delete(left["services"].(map[string]any), name)
		if !reflect.DeepEqual(left, valuesOf(t, after)) {
			t.Fatalf("other values changed:\n%s\n\n%s", before, after)
		}
	})
}

func TestRemoveEmptyTable_RemovesOneStretch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, _ := drawConfig(t)
		set, err := SetKey([]byte(before), []string{"env", "A"}, `"b"`)
		if err != nil {
			t.Fatal(err)
		}
		without, err := RemoveKey(set, []string{"env", "A"})
		if err != nil {
			t.Fatal(err)
		}
		after, err := RemoveEmptyTable(without, "env")
		if err != nil || strings.TrimRight(string(after), "\r\n\t ") != strings.TrimRight(before, "\r\n\t ") {
			t.Fatalf("%v\n%q\n%q", err, before, after)
		}
		checkLineEnds(t, before, after)
	})
}

func TestSetKey_ChangesOneStretch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, _ := drawConfig(t)
		key := rapid.SampledFrom([][]string{
			{"linger"}, {"services", "one", "local_port"}, {"services", "two", "health_check", "type"}, {"services", "three 3", "a", "b"}, {"env", "A"},
		}).Draw(t, "key")
		after, err := SetKey([]byte(before), key, `"new"`)
		if err != nil {
			t.Fatal(err)
		}
		if start := commonPrefix(before, string(after)); !strings.HasSuffix(string(after), before[start:]) {
			t.Fatalf("more than an insertion:\n%q\n%q", before, after)
		}
		checkLineEnds(t, before, after)
		again, err := SetKey(after, key, `"other"`)
		if err != nil || string(again) != strings.Replace(string(after), `"new"`, `"other"`, 1) {
			t.Fatalf("replaced: %v\n%q\n%q", err, after, again)
		}
		if got := fmt.Sprint(tableAt(valuesOf(t, again), key[:len(key)-1])[key[len(key)-1]]); got != "other" {
			t.Fatalf("the value is %q", got)
		}
	})
}
