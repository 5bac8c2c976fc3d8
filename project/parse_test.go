package project

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

func TestParse_AllocatesTheTableOfKeysOnce(t *testing.T) {
	const keys, services = 1000, 50
	technology := TechnologyType{Name: "x"}
	few := Options{Technologies: []TechnologyType{technology}}
	for i := range keys {
		technology.Keys = append(technology.Keys, Key{Name: fmt.Sprint("k", i)})
	}
	many := Options{Technologies: []TechnologyType{technology}}
	var text strings.Builder
	for i := range services {
		fmt.Fprintf(&text, "[services.s%d]\ntechnology = \"x\"\nlocal_port = \"auto\"\n", i)
	}
	files := &Files{Root: "/root", Path: "/root/" + ConfigName, Config: []byte(text.String())}
	parse := func(o Options) int64 {
		return allocatedBytes(func() {
			if p, err := Parse(files, o); err != nil || len(p.Services) != services {
				t.Error(err)
			}
		})
	}
	parse(few) // compiles regular expressions
	table := keys * int64(unsafe.Sizeof(field{}))
	if added := parse(many) - parse(few); added > services/2*table {
		t.Errorf("%d keys add %d bytes to %d services; the table of them has %d bytes", keys, added, services, table)
	}
}

// allocatedBytes returns how much memory f allocates.
func allocatedBytes(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}
