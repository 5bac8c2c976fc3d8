package ssh

import (
	"testing"

	"github.com/localport-sh/localport/testdata/syncbuf"
)

func TestSharedLog_IsInTheLogOfEachServiceOnce(t *testing.T) {
	var log sharedLog
	var one, again, two, three syncbuf.Buffer
	log.addWriter("one", &one)
	log.startMaster()
	log.writeLine("banner")
	log.writeLine("warning")
	log.addWriter("two", &two)
	log.removeWriter(&one)
	log.writeLine("refused")
	log.addWriter("one", &again) // its tunnel was opened again
	log.writeLine("closed")
	log.startMaster()
	log.addWriter("three", &three)
	log.writeLine("new")
	const before = "output of the shared ssh so far:\n"
	for _, c := range []struct {
		name, want string
		got        *syncbuf.Buffer
	}{
		{"one", "banner\nwarning\n", &one},
		{"one again", before + "refused\nclosed\nnew\n", &again},
		{"two", before + "banner\nwarning\nrefused\nclosed\nnew\n", &two},
		{"three", "new\n", &three},
	} {
		if c.got.String() != c.want {
			t.Errorf("%s has %q, want %q", c.name, c.got.String(), c.want)
		}
	}
}

func TestSharedLog_KeepsTheLastLines(t *testing.T) {
	var log sharedLog
	var first, late syncbuf.Buffer
	log.addWriter("first", &first)
	for range 3 * maxSharedLines {
		log.writeLine("x")
	}
	log.addWriter("late", &late)
	if n := len(late.String()) - len("output of the shared ssh so far:\n"); n != 2*maxSharedLines {
		t.Errorf("%d bytes of lines", n)
	}
}
