package supervisor

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/wait"
)

// TestWatchStatus_CoalescesChanges counts a number up and looks at which numbers a watcher gets, and when.
func TestWatchStatus_CoalescesChanges(t *testing.T) {
	for name, c := range map[string]struct {
		readTime      time.Duration // how long the watcher takes to read a status
		last          int64         // there is a new number every 10 ms, up to this one
		stateChangeAt int64         // the number that is a change of a state
		want          []int         // the numbers that it reads
	}{
		"fast watcher":                  {0, 100, 0, []int{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}},
		"slow watcher":                  {time.Second, 100, 0, []int{0, 100}},
		"fast watcher, a state changes": {0, 19, 13, []int{0, 10, 13, 19}},
		"slow watcher, a state changes": {12500 * time.Microsecond, 29, 13, []int{0, 11, 18, 29}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var changes, stateChanges wait.Broadcast
				var number atomic.Int64
				ctx, cancel := context.WithCancel(t.Context())
				var got []int
				watchErrCh := make(chan error, 1)
				go func() {
					watchErrCh <- watchStatus(ctx, &changes, &stateChanges, nil, func() (api.Status, error) {
						got = append(got, int(number.Load()))
						return api.Status{}, nil
					}, func(api.Status) error {
						time.Sleep(c.readTime)
						return nil
					})
				}()
				synctest.Wait()
				for number.Load() < c.last {
					time.Sleep(10*time.Millisecond - time.Nanosecond) // just before the watcher's interval ends
					n := number.Add(1)
					changes.Announce()
					if n == c.stateChangeAt {
						stateChanges.Announce()
					}
					time.Sleep(time.Nanosecond)
					synctest.Wait()
				}
				time.Sleep(time.Minute) // nothing more is sent
				cancel()
				if err := <-watchErrCh; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("the watcher got %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestWatchStatus_EndsWithTheSupervisor(t *testing.T) {
	var changes, stateChanges wait.Broadcast
	endedCh := make(chan struct{})
	err := watchStatus(t.Context(), &changes, &stateChanges, endedCh, func() (api.Status, error) { return api.Status{}, nil },
		func(api.Status) error { close(endedCh); return nil })
	if !errors.Is(err, api.ErrEnding) {
		t.Errorf("got %v, want api.ErrEnding", err)
	}
}
