package natsstore_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

const kennels = "Kennels"

var errUndone = errors.New("undone")

// inTransaction is a store with its recorder, whose transactions are tested.
type inTransaction struct {
	*natsstore.Store
	r persistence.ProcessRecorder
}

func newInTransaction(t testing.TB, conn *nats.Conn) inTransaction {
	t.Helper()
	config := single
	store := newStore(t, conn, config)
	r, err := store.ProcessRecorder(training)
	expect.NoError(t, err)
	return inTransaction{store, r}
}

func (s inTransaction) move(ctx context.Context, from, to int64) error {
	return s.r.MovePosition(ctx, from, persistence.Tracking{ApplicationName: kennels, NotificationID: to})
}

func (s inTransaction) insert(ctx context.Context, name string, first int64, n int) error {
	_, err := s.r.InsertEvents(ctx, small(name, int(first)-1+n)[first-1:])
	return err
}

// versions returns the versions of an originator.
func (s inTransaction) versions(t testing.TB, ctx context.Context, name string, want persistence.EventRange) (versions []int64) {
	t.Helper()
	for e, err := range s.r.SelectEvents(ctx, school.DogID(name), want) {
		expect.NoError(t, err)
		versions = append(versions, e.OriginatorVersion)
	}
	return versions
}

func (s inTransaction) wantVersions(t testing.TB, ctx context.Context, name string, want ...int64) {
	t.Helper()
	if got := s.versions(t, ctx, name, persistence.EventRange{}); !slices.Equal(got, want) {
		t.Errorf("%s has the versions %v, want %v", name, got, want)
	}
}

func (s inTransaction) wantPosition(t testing.TB, ctx context.Context, want int64) {
	t.Helper()
	if got, err := s.r.MaxTrackingID(ctx, kennels); got != want || err != nil {
		t.Errorf("the position is %d, and the error %v, want %d", got, err, want)
	}
}

// TestTransaction stores all that a transaction stages, sees it in the
// transaction, and nothing of what was undone.
func TestTransaction(t *testing.T) {
	t.Parallel()
	s := newInTransaction(t, connect(t, startServer(t).ClientURL()))
	expect.NoError(t, s.insert(t.Context(), "Fido", 1, 3))
	var ended context.Context
	err := s.Transaction(t.Context(), func(ctx context.Context) error {
		ended = ctx
		expect.NoError(t, s.insert(ctx, "Fido", 4, 2))
		expect.NoError(t, s.insert(ctx, "Rex", 1, 1))
		expect.NoError(t, s.move(ctx, 0, 7))
		for want, r := range map[*[]int64]persistence.EventRange{
			{1, 2, 3, 4, 5}: {},
			{3, 4}:          {From: 3, Before: 5},
			{5}:             {From: 5},
			{5, 4}:          {Descending: true, Limit: 2},
			{4, 3, 2}:       {Before: 5, Descending: true, Limit: 3},
			{2, 3, 4}:       {From: 2, Limit: 3},
			{1}:             {Limit: 1},
		} {
			if got := s.versions(t, ctx, "Fido", r); !slices.Equal(got, *want) {
				t.Errorf("inside, %+v has the versions %v, want %v", r, got, *want)
			}
		}
		s.wantPosition(t, ctx, 7)
		s.wantPosition(t, t.Context(), 0)
		s.wantVersions(t, t.Context(), "Rex")

		_, ok := errors.AsType[*persistence.ConflictError](s.insert(ctx, "Rex", 1, 1))
		_, gap := errors.AsType[*persistence.ConflictError](s.insert(ctx, "Rex", 3, 1))
		_, stored := errors.AsType[*persistence.ConflictError](s.insert(ctx, "Daisy", 2, 1))
		if !ok || !gap || !stored {
			t.Errorf("conflicts with what is staged: %v, %v, %v, want all of them", ok, gap, stored)
		}
		expect.ErrorIs(t, s.move(ctx, 0, 8), persistence.ErrPositionMoved)
		err := s.Transaction(ctx, func(ctx context.Context) error {
			expect.NoError(t, s.insert(ctx, "Rex", 2, 1))
			expect.NoError(t, s.move(ctx, 7, 9))
			return errUndone
		})
		if !errors.Is(err, errUndone) {
			t.Errorf("the inner transaction: %v, want an error that is %v", err, errUndone)
		}
		return s.Transaction(ctx, func(ctx context.Context) error { return s.move(ctx, 7, 8) })
	})
	expect.NoError(t, err)
	s.wantVersions(t, t.Context(), "Fido", 1, 2, 3, 4, 5)
	s.wantVersions(t, t.Context(), "Rex", 1)
	s.wantPosition(t, t.Context(), 8)
	if err := s.insert(ended, "Fido", 6, 1); !errors.Is(err, persistence.ErrProgramming) {
		t.Errorf("after the end: got the error %v, want an ErrProgramming", err)
	}
	err = s.Transaction(t.Context(), func(ctx context.Context) error {
		expect.NoError(t, s.insert(ctx, "Fido", 6, 1))
		return errUndone
	})
	if !errors.Is(err, errUndone) {
		t.Errorf("got the error %v, want that of the function", err)
	}
	if log := wholeLog(t, s.r); len(log) != 6 {
		t.Errorf("the log has %d events, want 6", len(log))
	}
}

// TestTransactionsExcludeEachOther runs a transaction inside of another one,
// which has read what the inner one changes. The outer one stores nothing.
func TestTransactionsExcludeEachOther(t *testing.T) {
	t.Parallel()
	url := startServer(t).ClientURL()
	for name, test := range map[string]struct {
		inner, outer func(t *testing.T, s inTransaction, ctx context.Context) error
		moved        bool
	}{
		"a position": {moved: true,
			inner: func(t *testing.T, s inTransaction, ctx context.Context) error { return s.move(ctx, 0, 1) },
			outer: func(t *testing.T, s inTransaction, ctx context.Context) error { return s.move(ctx, 0, 2) }},
		"a position that is only locked": {moved: true,
			inner: func(t *testing.T, s inTransaction, ctx context.Context) error { return s.move(ctx, 0, 1) },
			outer: func(t *testing.T, s inTransaction, ctx context.Context) error { return s.insert(ctx, "Rex", 1, 1) }},
		"settings": {moved: true,
			inner: func(t *testing.T, s inTransaction, ctx context.Context) error {
				return s.r.(capability.SettingsRecorder).WriteSettings(ctx, kennels, capability.FollowerSettings{PausedBy: "a test"})
			},
			outer: func(t *testing.T, s inTransaction, ctx context.Context) error { return s.move(ctx, 0, 2) }},
		"an originator": {
			inner: func(t *testing.T, s inTransaction, ctx context.Context) error { return s.insert(ctx, "Fido", 1, 1) },
			outer: func(t *testing.T, s inTransaction, ctx context.Context) error { return s.insert(ctx, "Fido", 1, 2) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := single
			config.Namespace = nats.NewInbox()[len(nats.InboxPrefix):]
			open := func() inTransaction {
				store := newStore(t, connect(t, url), config)
				r, err := store.ProcessRecorder(training)
				expect.NoError(t, err)
				return inTransaction{store, r}
			}
			s, other := open(), open()
			err := s.Transaction(t.Context(), func(ctx context.Context) error {
				if test.moved {
					_, err := s.r.LockPosition(ctx, kennels)
					expect.NoError(t, err)
				}
				expect.NoError(t, test.outer(t, s, ctx))
				return other.Transaction(t.Context(), func(ctx context.Context) error { return test.inner(t, other, ctx) })
			})
			moved := errors.Is(err, persistence.ErrPositionMoved)
			if !errors.Is(err, persistence.ErrRetryTransaction) || moved != test.moved {
				t.Errorf("got the error %v, want an ErrRetryTransaction", err)
			}
			s.wantVersions(t, t.Context(), "Rex")
			if log := wholeLog(t, s.r); len(log) > 1 {
				t.Errorf("the log has %d events, want at most 1", len(log))
			}
		})
	}
}

// TestCommitWithoutAnswer loses the answer to a commit. It is sent again, and
// recognised as stored.
func TestCommitWithoutAnswer(t *testing.T) {
	t.Parallel()
	url := startServer(t).ClientURL()
	silent := connect(t, url)
	_, err := silent.SubscribeSync(lost + ".>")
	expect.NoError(t, err)
	loses := &losingDialer{subject: "Nats-Batch-Commit", answer: true}
	s := newInTransaction(t, connect(t, url, nats.SetCustomDialer(loses)))
	expect.NoError(t, s.insert(t.Context(), "Fido", 1, 1))
	loses.next.Store(true)
	committed := false
	err = s.Transaction(t.Context(), func(ctx context.Context) error {
		persistence.OnCommit(ctx, func(context.Context) { committed = true })
		return errors.Join(s.insert(ctx, "Fido", 2, 1), s.move(ctx, 0, 1))
	})
	if err != nil || !committed || loses.next.Load() {
		t.Errorf("got the error %v; committed %v, the answer was lost %v", err, committed, !loses.next.Load())
	}
	s.wantVersions(t, t.Context(), "Fido", 1, 2)
	s.wantPosition(t, t.Context(), 1)
}

// TestTransactionLimits refuses what a transaction on NATS cannot do.
func TestTransactionLimits(t *testing.T) {
	t.Parallel()
	s := newInTransaction(t, connect(t, startServer(t).ClientURL()))
	other, err := s.ProcessRecorder("Other")
	expect.NoError(t, err)
	snapshots, err := s.SnapshotRecorder(training)
	expect.NoError(t, err)
	err = s.Transaction(t.Context(), func(ctx context.Context) error {
		expect.NoError(t, s.insert(ctx, "Fido", 1, 1))
		if _, err := other.InsertEvents(ctx, small("Rex", 1)); !errors.Is(err, persistence.ErrNotSupported) {
			t.Errorf("another application: got the error %v, want an ErrNotSupported", err)
		}
		if _, err := snapshots.InsertEvents(ctx, small("Fido", 1)); !errors.Is(err, persistence.ErrNotSupported) {
			t.Errorf("a snapshot: got the error %v, want an ErrNotSupported", err)
		}
		return nil
	})
	expect.NoError(t, err)
	status := capability.FollowerStatus{ApplicationName: training, UpstreamApplicationName: kennels, State: "running"}
	err = s.Transaction(t.Context(), func(ctx context.Context) error {
		return errors.Join(s.insert(ctx, "Fido", 2, 1), capability.Of(s).Statuses.RecordStatus(ctx, status))
	})
	if !errors.Is(err, persistence.ErrNotSupported) {
		t.Errorf("a status and an event: got the error %v, want an ErrNotSupported", err)
	}
	s.wantVersions(t, t.Context(), "Fido", 1)
}

// TestForeignTransaction refuses a save in the transaction of a database: it
// would stay if that is rolled back.
func TestForeignTransaction(t *testing.T) {
	t.Parallel()
	s := newInTransaction(t, connect(t, startServer(t).ClientURL()))
	db := testdb.SQLiteFile(t)
	expect.NoError(t, gormstore.AutoMigrate(db))
	err := gormstore.New(db).Transaction(t.Context(), func(ctx context.Context) error {
		s.wantVersions(t, ctx, "Fido") // a read is not part of it
		return s.insert(ctx, "Fido", 1, 1)
	})
	if !errors.Is(err, persistence.ErrProgramming) {
		t.Errorf("got the error %v, want an ErrProgramming", err)
	}
	s.wantVersions(t, t.Context(), "Fido")
}

// TestClaimsExcludeEachOther has two runners look who makes the calls of an
// Effect, and claim them. One of them has the claim.
func TestClaimsExcludeEachOther(t *testing.T) {
	t.Parallel()
	url := startServer(t).ClientURL()
	s, other := newInTransaction(t, connect(t, url)), newInTransaction(t, connect(t, url))
	claim := func(s inTransaction, process string, between func()) error {
		return s.Transaction(t.Context(), func(ctx context.Context) error {
			statuses, err := capability.Of(s).Statuses.FollowerStatuses(ctx)
			if err != nil || len(statuses) > 0 {
				t.Errorf("got the statuses %v and the error %v, want none", statuses, err)
			}
			between()
			return capability.Of(s).Statuses.RecordStatus(ctx, capability.FollowerStatus{ApplicationName: training, UpstreamApplicationName: kennels,
				State: "running", Process: process})
		})
	}
	err := claim(s, "first", func() { expect.NoError(t, claim(other, "second", func() {})) })
	if !errors.Is(err, persistence.ErrRetryTransaction) {
		t.Errorf("got the error %v, want an ErrRetryTransaction", err)
	}
	statuses, err := capability.Of(s).Statuses.FollowerStatuses(t.Context())
	if err != nil || len(statuses) != 1 || statuses[0].Process != "second" {
		t.Errorf("got the statuses %v and the error %v, want that of the second one", statuses, err)
	}
}
