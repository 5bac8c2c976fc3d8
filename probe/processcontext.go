package probe

// ProcessContext is implemented by a Path whose project has a directory and an environment for what a check starts.
type ProcessContext interface {
	Dir() string       // the project's root
	Environ() []string // the whole environment of its children
}
