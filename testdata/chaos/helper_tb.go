package chaos

import (
	"fmt"
	"testing"
)

// helperError is the text with which a test helper failed its test.
type helperError string

func (e helperError) Error() string { return string(e) }

// helperTB is a testing.TB for test helpers that run outside a test. Fatal and Skip panic with a helperError, which
// catchHelperError turns into an error. Cleanup functions run in runCleanups.
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

func (t *helperTB) runCleanups() {
	for len(t.cleanups) > 0 {
		last := t.cleanups[len(t.cleanups)-1]
		t.cleanups = t.cleanups[:len(t.cleanups)-1]
		last()
	}
}

// catchHelperError runs fn and returns the helperError that it panics with, nil if it does not panic.
func catchHelperError(fn func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			failure, ok := r.(helperError)
			if !ok {
				panic(r)
			}
			err = failure
		}
	}()
	fn()
	return nil
}
