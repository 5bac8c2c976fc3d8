package process

// ExitObserver learns how a process ends that is no child of the caller. Its methods must not be called concurrently.
type ExitObserver struct{ exitObserver }
