package service

import "sync"

// progress is what the attempt to open a tunnel waits for, as its driver says. What an attempt has started for several services may report after
// the attempt has ended: such a report is ignored.
type progress struct {
	mu      sync.Mutex   // guards the fields below
	attempt *openAttempt // whose reports count; nil: no attempt is in progress
	text    string       // masked; empty: not known
}

func (p *progress) currentText() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text
}

func (p *progress) start(a *openAttempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempt, p.text = a, ""
}

// set sets the text of an attempt, and reports whether it has changed.
func (p *progress) set(a *openAttempt, text string) (hasChanged bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.attempt != a || p.text == text {
		return false
	}
	p.text = text
	return true
}

// end clears the text of an attempt, and reports whether it has changed.
func (p *progress) end(a *openAttempt) (hasChanged bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.attempt != a {
		return false
	}
	hasChanged = p.text != ""
	p.attempt, p.text = nil, ""
	return hasChanged
}

// Progress is what the attempt to open a tunnel waits for, as its driver says; empty if there is none, or the driver says nothing.
func (s *Service) Progress() string { return s.progress.currentText() }

// setProgress is called by an attempt.
func (s *Service) setProgress(a *openAttempt, text string) {
	if s.progress.set(a, s.host.Mask(text)) {
		s.host.OnChange()
	}
}

// endProgress is called by an attempt when it ends.
func (s *Service) endProgress(a *openAttempt) {
	if s.progress.end(a) {
		s.host.OnChange()
	}
}
