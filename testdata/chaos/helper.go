package chaos

import (
	"fmt"
	"testing"
)

// helperError is what a test helper said when it gave up.
type helperError string

func (e helperError) Error() string { return string(e) }

// helperTB lets helpers that were made for tests run outside of one: a failure is a panic with a helperError, and what
// is to be cleaned up is kept until end.
type helperTB struct {
	testing.TB // nil: only the methods below are used
	cleanups   []func()
}

func (*helperTB) Helper()                        {}
func (*helperTB) Logf(string, ...any)            {}
func (t *helperTB) Cleanup(fn func())            { t.cleanups = append(t.cleanups, fn) }
func (t *helperTB) Fatal(args ...any)            { panic(helperError(fmt.Sprint(args...))) }
func (t *helperTB) Fatalf(f string, args ...any) { panic(helperError(fmt.Sprintf(f, args...))) }
func (t *helperTB) Skip(args ...any)             { t.Fatal(args...) }
func (t *helperTB) Skipf(f string, args ...any)  { t.Fatalf(f, args...) }

func (t *helperTB) end() {
	for len(t.cleanups) > 0 {
		last := t.cleanups[len(t.cleanups)-1]
		t.cleanups = t.cleanups[:len(t.cleanups)-1]
		last()
	}
}

// guard runs fn and returns the helperError that it gave up with.
func guard(fn func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			gaveUp, ok := r.(helperError)
			if !ok {
				panic(r)
			}
			err = gaveUp
		}
	}()
	fn()
	return nil
}
