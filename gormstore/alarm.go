package gormstore

import (
	"context"
	"sync"
	"time"
)

// alarms bound how long statements may take, at less cost than a timer for each
// of them: to start a timer that is the next one of the process wakes a thread,
// which a lone writer would pay with a twentieth of its speed. One timer is
// enough, because bounds are long and hardly ever reached: it looks for what is
// overdue when the earliest bound that it was set to is over.
type alarms struct {
	mu    sync.Mutex // protects what follows
	set   map[*alarm]struct{}
	timer *time.Timer
	next  time.Time // when the timer fires, or zero
}

// alarm calls ring unless it is stopped before it is due. It must be stopped.
type alarm struct {
	alarms  *alarms
	ring    func()
	release func()    // called when it is stopped, where not nil
	due     time.Time // protected by alarms.mu
}

// after has ring called in its own goroutine after d.
func (a *alarms) after(d time.Duration, ring func()) *alarm {
	one := &alarm{alarms: a, ring: ring}
	one.postpone(d)
	return one
}

// prepared is an alarm that is set by its first postpone.
func (a *alarms) prepared(ring func()) *alarm { return &alarm{alarms: a, ring: ring} }

// bounded is context.WithTimeout with an alarm. The error of the context is
// context.Canceled, and its cause context.DeadlineExceeded.
func (a *alarms) bounded(ctx context.Context, d time.Duration) (context.Context, *alarm) {
	ctx, cancel := context.WithCancelCause(ctx)
	one := a.after(d, func() { cancel(context.DeadlineExceeded) })
	one.release = func() { cancel(nil) }
	return ctx, one
}

// postpone makes the alarm due in d from now.
func (one *alarm) postpone(d time.Duration) {
	a := one.alarms
	a.mu.Lock()
	defer a.mu.Unlock()
	one.due = time.Now().Add(d)
	if a.set == nil {
		a.set = map[*alarm]struct{}{}
	}
	a.set[one] = struct{}{}
	a.arm(one.due)
}

// stop ends the alarm. It may ring at the same moment.
func (one *alarm) stop() {
	if one.release != nil {
		defer one.release()
	}
	one.alarms.mu.Lock()
	defer one.alarms.mu.Unlock()
	delete(one.alarms.set, one)
}

// arm has the timer fire at a time or before. Its caller holds mu.
func (a *alarms) arm(at time.Time) {
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

// look rings what is due, and sets the timer to the earliest of the others.
func (a *alarms) look() {
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
		go one.ring() // it may want mu
	}
}
