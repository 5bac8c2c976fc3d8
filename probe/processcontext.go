package probe

// ProcessContext is implemented by a Dialer that knows the directory and the environment for processes of checks.
type ProcessContext interface {
	Dir() string       // the project's root
	Environ() []string // the whole environment of its children
}
