package prompt

import "os"

// This runs the hook's command before most of the program is initialised, and exits. A start of the program initialises
// every package in it, Kubernetes' client and all the probes among them, which a prompt has no use for.
//
// It rests on the language: of the packages whose imports are all initialised, the one with the smallest path is next
// (https://go.dev/ref/spec#Program_initialization, since Go 1.21). So what waits for net/http, as Kubernetes' client and
// the supervisor do, comes after this package, which does without. What was ready while this one still waited for its
// own imports comes before it; the last of those is net. An import here therefore costs twice: by itself, and by what it
// lets in before. TestPrompt_InitialisesOnlyWhatItNeeds and the linter's rule "prompt" hold that down.
//
// A program that counts what it covers does so from main on, and runs export from there.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "export" && os.Getenv("GOCOVERDIR") == "" {
		os.Exit(Export(os.Args[2:]))
	}
}
