package gormstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Retry runs fn in a transaction, as Transaction does, and runs the whole of it
// again if another transaction is the reason that nothing of it was stored:
// after a conflict (persistence.IsConflict), a deadlock or a serialization
// failure (persistence.ErrRetryTransaction, also of fn's own statements), or a
// database that could not be reached (persistence.ErrUnavailable).
//
// fn may be called several times, so it must load the aggregates that it
// changes, and have no effects outside of the transaction except by
// persistence.OnCommit. Between the calls Retry waits, for a random time that
// grows with each. When it has called fn so many times as tries says, or when ctx
// ends, it returns the last error. 5 tries are few only if many writers change
// the same aggregate; a number below 1 counts as 1.
//
// Any other error is returned at once, and so is a conflict of
// Repository.UpdateAt, whose version comes from the caller. One that leaves open what is stored
// (persistence.ErrOutcomeUnknown) is never followed by another try, and neither
// is a lock timeout, which has been waited for long enough. In a ctx that
// carries a transaction, which Retry could not repeat, it returns a
// persistence.ErrProgramming without calling fn.
func Retry(ctx context.Context, db *gorm.DB, tries int, fn func(ctx context.Context, tx *gorm.DB) error) error {
	s := transactor(db)
	if carried, _ := ctx.Value(sharedKey{}).(*txScope); carried != nil {
		return &persistence.Error{Class: persistence.ErrProgramming, Op: "gormstore: retry a transaction",
			Hint: "the context carries a transaction, which would have to be repeated as a whole: " +
				"use Transaction here, and Retry for the outer one"}
	}
	for try := 1; ; try++ {
		err := s.transaction(ctx, fn)
		if err == nil || !s.repeatable(err) {
			return err
		}
		if try >= tries {
			return fmt.Errorf("gormstore: a transaction failed at each of %d tries: %w", try, err)
		}
		if !sleep(ctx, rand.N(firstRetryWait<<min(try-1, retryDoublings))) {
			return withCause(ctx, err)
		}
	}
}

// The wait after the first try is below firstRetryWait, and doubles so many
// times at most.
const (
	firstRetryWait = 20 * time.Millisecond
	retryDoublings = 6
)

// repeatable reports whether a transaction that failed may succeed if all of it
// is run again. The error may be a driver's, of a statement of the caller's
// own.
func (s *Store) repeatable(err error) bool {
	if errors.Is(err, persistence.ErrOutcomeUnknown) {
		return false
	}
	if conflict, ok := errors.AsType[*persistence.ConflictError](err); ok && conflict.Stale {
		return false
	}
	return persistence.IsConflict(err) || errors.Is(err, persistence.ErrRetryTransaction) || errors.Is(err, persistence.ErrUnavailable) ||
		!errors.Is(err, persistence.ErrPersistence) && s.dialect.isServerError(err) && s.infoOf(err).class == persistence.ErrRetryTransaction
}

// sleep waits, and reports whether ctx has not ended meanwhile.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil // of two channels that are ready, select takes any
	}
}
