package main

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// clientStream starts a client at each interval until stop, whether or not the ones before have ended, and collects their results.
type clientStream[T any] struct {
	startTime time.Time
	stopCh    chan struct{}
	clients   sync.WaitGroup

	mu      sync.Mutex
	results []T
}

// clientInterval is the usual interval: fifty clients a second.
const clientInterval = 20 * time.Millisecond

func startClientStream[T any](interval time.Duration, client func() T) *clientStream[T] {
	s := &clientStream[T]{startTime: time.Now(), stopCh: make(chan struct{})}
	s.clients.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-s.stopCh:
				return
			case <-tick.C:
				s.clients.Go(func() {
					result := client()
					s.mu.Lock()
					defer s.mu.Unlock()
					s.results = append(s.results, result)
				})
			}
		}
	})
	return s
}

// count returns how many of the results so far match.
func (s *clientStream[T]) count(isMatch func(T) bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, result := range s.results {
		if isMatch(result) {
			n++
		}
	}
	return n
}

// stop waits for the clients that have been started and returns all results.
func (s *clientStream[T]) stop() []T {
	close(s.stopCh)
	s.clients.Wait()
	return s.results
}

// greetingClients are clients of a server started by serve.
type greetingClients struct{ *clientStream[greetingResult] }

type greetingResult struct {
	startTime, endTime time.Time
	answer             string
	err                error
}

func startGreetingClients(interval time.Duration, addr string) greetingClients {
	return greetingClients{startClientStream(interval, func() greetingResult {
		startTime := time.Now()
		answer, err := ask(addr, "you")
		return greetingResult{startTime, time.Now(), answer, err}
	})}
}

// countAnswered returns how many clients that started after t have been answered.
func (c greetingClients) countAnswered(t time.Time) int {
	return c.count(func(r greetingResult) bool { return r.startTime.After(t) && r.err == nil })
}

func (r greetingResult) isGreeting() bool { return r.answer == "hello you\n" }

// countRefused returns how many clients found the port closed, and how many that started after t were not answered.
func countRefused(results []greetingResult, t time.Time) (refused, failed int) {
	for _, r := range results {
		if errors.Is(r.err, syscall.ECONNREFUSED) {
			refused++
		}
		if r.startTime.After(t) && !r.isGreeting() {
			failed++
		}
	}
	return refused, failed
}

// describeFailures describes the results of clients that were not answered.
func describeFailures(results []greetingResult) (texts []string) {
	for _, r := range results {
		if !r.isGreeting() {
			texts = append(texts, fmt.Sprintf("%q %v from %v on, for %v", r.answer, r.err, r.startTime.Format("05.000"), r.endTime.Sub(r.startTime)))
		}
	}
	return texts
}
