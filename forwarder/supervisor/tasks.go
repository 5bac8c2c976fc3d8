package supervisor

import "context"

// taskStarter returns a function that starts goroutines whose contexts derive from ctx. Its result stops one and waits for it.
func taskStarter(ctx context.Context) func(func(context.Context)) func() {
	return func(run func(context.Context)) func() {
		own, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			run(own)
		}()
		return func() { cancel(); <-done }
	}
}

// receiveEach calls on with each value of a channel, until ctx ends.
func receiveEach[T any](ctx context.Context, ch <-chan T, on func(T)) {
	for {
		select {
		case <-ctx.Done():
			return
		case value := <-ch:
			on(value)
		}
	}
}
