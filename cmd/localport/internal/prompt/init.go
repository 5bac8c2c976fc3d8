package prompt

import "os"

// This init runs the hook's command, and the one that prints the hook, and exits before most packages of the program are initialised: a prompt needs neither the
// supervisor nor the probes, and every cd would pay for their initialisation.
//
// The order of initialisation is part of the language: of the packages whose imports are all initialised, the one with the smallest
// import path is next (https://go.dev/ref/spec#Program_initialization, since Go 1.21). The last import of this package to be initialised
// is net. After net, this package is next, because its path is smaller than net/http; whatever imports net/http, as the supervisor does,
// comes later. Packages that do not need net may come before. An import here therefore costs its own
// initialisation, and that of other packages that become ready before it. TestPrompt_InitialisesOnlyWhatItNeeds and the linter's rule
// "prompt" check this.
//
// A build that counts coverage starts to count in main, and runs export there.
func init() {
	switch {
	case os.Getenv("GOCOVERDIR") != "":
	case IsHookCommand(os.Args[1:]):
		os.Exit(Export(os.Args[2:]))
	case printHook(os.Args[1:]):
		os.Exit(0)
	}
}

// IsHookCommand reports whether args are "export SHELL …". Without a shell, "export" is another name of "config export".
func IsHookCommand(args []string) bool {
	return len(args) > 1 && args[0] == "export" && args[1] != "" && args[1][0] != '-'
}
