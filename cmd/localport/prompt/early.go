package prompt

import "os"

// This runs the hook's command before most of the program is initialised, and exits. A start of the program initialises
// every package in it, Kubernetes' client and all the probes' among them, and at a prompt that would cost more than the
// prompt's own work.
//
// It rests on the language: packages are initialised in the order of their import paths, each as soon as all that it
// imports is (https://go.dev/ref/spec#Program_initialization, since Go 1.21). So this package comes before every one
// that waits for something with a later path than whatever this one waits for last, and before those of this module that
// come after it. It follows that an import here costs twice: by itself, and by what it lets in before. The test
// TestAPromptInitialisesNothingItHasNoUseFor holds both down.
//
// A program that counts what it covers does so from main on, and runs export from there.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "export" && os.Getenv("GOCOVERDIR") == "" {
		os.Exit(Export(os.Args[2:]))
	}
}
