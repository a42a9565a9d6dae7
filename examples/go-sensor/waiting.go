package main

import (
	"context"
	"math/rand/v2"
	"time"
)

type errorText string

func (e errorText) Error() string { return string(e) }

// backoff doubles from a quarter of a second to 15 seconds, with jitter.
type backoff struct{ failures int }

// sleep waits; early ends the pause.
func (b *backoff) sleep(ctx context.Context, early <-chan struct{}) {
	longest := min(250*time.Millisecond<<min(b.failures, 10), 15*time.Second)
	b.failures++
	timer := time.NewTimer(longest/2 + time.Duration(rand.Int64N(int64(longest/2))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-early:
		// A channel that stays closed must not make a loop of this.
		time.Sleep(50 * time.Millisecond)
	}
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// signalTo wakes a waiter; one signal is enough.
func signalTo(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}
