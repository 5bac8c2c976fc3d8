package memtrim

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// residentFileKB returns RssFile of this process: the resident pages of mapped files, in kB.
func residentFileKB(t *testing.T) (kb int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "RssFile:")
	if _, err := fmt.Sscan(after, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}

func TestTrim_ReducesResidentPages(t *testing.T) {
	before := residentFileKB(t)
	Trim()
	after := residentFileKB(t)
	t.Logf("%d kB before, %d kB after", before, after)
	if after >= before {
		t.Error("no memory was released")
	}
}

func TestParseDroppableMapping(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-00c92000 r-xp 00000000 fe:00 9978457                            /bin/x":  true,
		"00c92000-015cf000 r--p 00892000 fe:00 9978457                            /bin/x":  true,
		"015cf000-01673000 rw-p 011cf000 fe:00 9978457                            /bin/x":  false,
		"00400000-00c92000 r--p 00000000 fe:00 9978457                            /bin/xy": false,
		"00400000-00c92000 r-xp 00000000 fe:00 9978457                            /lib/y":  true,
		"00400000-00c92000 rwxp 00000000 fe:00 9978457                            /lib/y":  false,
		"7ffd5000-7ffd7000 r-xp 00000000 00:00 0                                  [vdso]":  false,
		"c000000000-c000400000 rw-p 00000000 00:00 0":                                      false,
		"00400000-00c92000 r--s 00000000 fe:00 9978457                            /bin/x":  false,
		"": false,
	} {
		if from, to, ok := parseDroppableMapping(line, "/bin/x"); ok != want || ok && (from == 0 || to <= from) {
			t.Errorf("%q: %x-%x, %t", line, from, to, ok)
		}
	}
}
