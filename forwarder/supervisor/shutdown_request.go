package supervisor

// shutdownReason is why a supervisor is asked to shut down.
type shutdownReason int

const (
	shutdownUnused        shutdownReason = iota // there seem to be no leases; refused if there are
	shutdownRequested                           // by the user, whatever the leases; prompts do not start the project again
	shutdownDirectoryGone                       // the project directory was removed
)

// shutdownRequest asks awaitShutdown to shut down.
type shutdownRequest struct {
	reason   shutdownReason
	resultCh chan<- bool // receives whether the ports were closed
}
