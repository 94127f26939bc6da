package system

import (
	"context"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// heldLeader is a Leader whose readers may be kept from the newest events.
type heldLeader interface {
	// Hold is that of capability.LogHoldReader.
	Hold(ctx context.Context, recent time.Duration) (*persistence.LogHold, error)
}

// longHold is how long a transaction may keep followers from newer events
// before they tell of it.
const longHold = 5 * time.Second

// holdOf is a transaction that has kept readers of a leader from its newest
// events for long, or may have, or nil.
func holdOf(ctx context.Context, leader Leader, recent time.Duration) (*persistence.LogHold, error) {
	l, ok := leader.(heldLeader)
	if !ok {
		return nil, nil
	}
	hold, err := l.Hold(ctx, recent)
	if hold == nil || time.Since(hold.Since) < longHold { // it is zero if it is not known
		return nil, err
	}
	return hold, err
}

// holdWarning is what the followers of one leader have warned of last.
type holdWarning struct {
	mu   sync.Mutex // protects what follows
	last persistence.LogHold
	at   time.Time
}

// warnAgain is after what time a warning of the same transaction is repeated.
const warnAgain = 10 * time.Minute

// isNews reports whether to warn of a hold.
func (w *holdWarning) isNews(hold persistence.LogHold) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	same := hold.PID == w.last.PID && hold.Prepared == w.last.Prepared && hold.Since.Sub(w.last.Since).Abs() < time.Second
	if same && time.Since(w.at) < warnAgain {
		return false
	}
	w.last, w.at = hold, time.Now()
	return true
}

// warnIfHeld warns of a transaction that has kept followers from the newest
// events of a leader for long. It asks nothing if they were seen to read all of
// them.
func (f *followerLoop) warnIfHeld(ctx context.Context) {
	leader, ok := f.leader.(*localLeader)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	hold, err := holdOf(ctx, leader, longHold)
	// A follower tells of errors of the database itself.
	if err != nil || hold == nil || !leader.holds.isNews(*hold) {
		return
	}
	f.app.Logger().WarnContext(ctx, "an open transaction keeps followers from newer events; commit it or end it",
		"leader", leader.Name(), "transaction", hold.String())
}
