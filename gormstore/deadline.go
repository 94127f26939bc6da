package gormstore

import (
	"context"
	"errors"
	"sync"
	"time"
)

// deadlines bound how long statements may take, at less cost than a timer for
// each of them: starting a timer that becomes the earliest one of the process
// wakes a thread, which costs a lone writer about 5% of its speed. One timer is
// enough, because deadlines are long and hardly ever reached. It fires at the
// earliest deadline that it was set to, and looks for all that are over.
type deadlines struct {
	mu    sync.Mutex // protects what follows
	set   map[*deadline]struct{}
	timer *time.Timer
	next  time.Time // when the timer fires, or zero
}

// deadline calls fire unless it is stopped before it is due. It must be
// stopped.
type deadline struct {
	all     *deadlines
	fire    func()
	release func()    // called when it is stopped, where not nil
	due     time.Time // protected by all.mu
}

// after calls fire in its own goroutine after d.
func (a *deadlines) after(d time.Duration, fire func()) *deadline {
	one := &deadline{all: a, fire: fire}
	one.extend(d)
	return one
}

// prepared returns a deadline that is set by its first extend.
func (a *deadlines) prepared(fire func()) *deadline { return &deadline{all: a, fire: fire} }

// withTimeout is context.WithTimeout with a deadline of ours. The error of the
// context is context.Canceled, and its cause context.DeadlineExceeded.
func (a *deadlines) withTimeout(ctx context.Context, d time.Duration) (context.Context, *deadline) {
	ctx, cancel := context.WithCancelCause(ctx)
	one := a.after(d, func() { cancel(context.DeadlineExceeded) })
	one.release = func() { cancel(nil) }
	return ctx, one
}

// extend makes the deadline due in d from now.
func (one *deadline) extend(d time.Duration) {
	a := one.all
	a.mu.Lock()
	defer a.mu.Unlock()
	one.due = time.Now().Add(d)
	if a.set == nil {
		a.set = map[*deadline]struct{}{}
	}
	a.set[one] = struct{}{}
	a.arm(one.due)
}

// stop removes the deadline. It may fire at the same moment.
func (one *deadline) stop() {
	if one.release != nil {
		defer one.release()
	}
	one.all.mu.Lock()
	defer one.all.mu.Unlock()
	delete(one.all.set, one)
}

// arm has the timer fire at a time or before. Its caller holds mu.
func (a *deadlines) arm(at time.Time) {
	if !a.next.IsZero() && !at.Before(a.next) {
		return
	}
	a.next = at
	if a.timer == nil {
		a.timer = time.AfterFunc(time.Until(at), a.look)
		return
	}
	a.timer.Reset(time.Until(at))
}

// look fires what is due, and sets the timer to the earliest of the others.
func (a *deadlines) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = time.Time{}
	now := time.Now()
	for one := range a.set {
		if one.due.After(now) {
			a.arm(one.due)
			continue
		}
		delete(a.set, one)
		go one.fire() // it may want mu
	}
}

// ownEnd is the text of an error that is due to a context which this package
// has ended. The caller's own has not: it must not find context.Canceled.
type ownEnd struct{ text string }

func (e *ownEnd) Error() string { return e.text }

// withoutOwnEnd hides context.Canceled in the error of a wait that this package
// has ended. Other errors stay as they are.
func withoutOwnEnd(err error) error {
	if errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return &ownEnd{err.Error()}
	}
	return err
}
