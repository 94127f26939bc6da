package copylog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/checker"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/natsstore/internal/logcopy"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// ToNATS copies the log of an application from a database to NATS, and compares
// both. progress, which may be nil, is called with the id up to which the log
// was copied.
func ToNATS(ctx context.Context, from *gormstore.Store, to *natsstore.Store, application string, progress func(id int64)) error {
	recorder, err := from.ProcessRecorder(application)
	if err != nil {
		return err
	}
	if err := logcopy.Copy(ctx, to, recorder, application, progress); err != nil {
		return err
	}
	return Compare(ctx, from, to, application)
}

// ToGORM copies the log of an application from NATS to a database, whose tables
// must exist, and compares both. The database must have no other events with
// the same ids, such as those of another application: its tables have one
// sequence of ids for all. progress, which may be nil, is called with the id up
// to which the log was copied.
func ToGORM(ctx context.Context, from *natsstore.Store, to *gormstore.Store, application string, progress func(id int64)) error {
	recorder, err := from.ProcessRecorder(application)
	if err != nil {
		return err
	}
	stored, err := to.ProcessRecorder(application)
	if err != nil {
		return err
	}
	after, err := stored.NewestNotificationID(ctx)
	if err != nil {
		return err
	}
	for {
		page, err := recorder.SelectNotifications(ctx, persistence.NotificationRange{After: after, Limit: pageSize})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		if err := insert(to.DB().WithContext(ctx), application, page); err != nil {
			return fmt.Errorf("copylog: %s: copy the events from id %d on to a database; it must have no events with these ids: %w",
				application, page[0].ID, err)
		}
		after = page[len(page)-1].ID
		if progress != nil {
			progress(after)
		}
	}
	if err := raiseSequence(to.DB().WithContext(ctx)); err != nil {
		return fmt.Errorf("copylog: %s: raise the sequence of the ids: %w", application, err)
	}
	return Compare(ctx, from, to, application)
}

// pageSize is how many events are inserted in one transaction.
const pageSize = 500

// insert stores rows with their ids, all or none.
func insert(db *gorm.DB, application string, page []persistence.Notification) error {
	rows := make([]gormstore.StoredEvent, len(page))
	for i, n := range page {
		rows[i] = gormstore.StoredEvent{ID: n.ID, ApplicationName: application, OriginatorID: gormstore.UUID(n.OriginatorID),
			OriginatorVersion: n.OriginatorVersion, Topic: n.Topic, State: n.State}
	}
	return db.Transaction(func(tx *gorm.DB) error { return tx.CreateInBatches(rows, 100).Error })
}

// raiseSequence raises the sequence of PostgreSQL above the ids that were
// inserted. SQLite does so by itself.
func raiseSequence(db *gorm.DB) error {
	if db.Name() != "postgres" {
		return nil
	}
	statement := &gorm.Statement{DB: db}
	if err := statement.Parse(&gormstore.StoredEvent{}); err != nil {
		return err
	}
	table := statement.Quote(statement.Schema.Table)
	return db.Exec("SELECT setval(pg_get_serial_sequence(?, 'id'), MAX(id)) FROM "+table+" HAVING MAX(id) IS NOT NULL", table).Error
}

// Difference says that two logs are not the same. It is an ErrIntegrity.
type Difference struct {
	Application string
	// NotificationID is the first id at which they differ, or 0.
	NotificationID int64
	// Problem says how, or what a check has found.
	Problem string
}

func (e *Difference) Error() string {
	place := ""
	if e.NotificationID > 0 {
		place = fmt.Sprintf(" at id %d", e.NotificationID)
	}
	return fmt.Sprintf("copylog: %s: the logs differ%s: %s; use the one that was copied from", e.Application, place, e.Problem)
}

// Unwrap makes the error an ErrIntegrity.
func (e *Difference) Unwrap() error { return persistence.ErrIntegrity }

// Compare reads the log of an application in two stores, and checks both for
// violations of what is guaranteed. It returns a *Difference for the first
// thing that is not the same.
func Compare(ctx context.Context, a, b persistence.Factory, application string) error {
	var recorders []persistence.ProcessRecorder
	for _, store := range []persistence.Factory{a, b} {
		recorder, err := store.ProcessRecorder(application)
		if err != nil {
			return err
		}
		recorders = append(recorders, recorder)
	}
	if err := compareLogs(ctx, recorders[0], recorders[1], application); err != nil {
		return err
	}
	return compareChecks(ctx, recorders[0], recorders[1], application)
}

// compareChecks checks both stores. What is found in both is no fault of the
// copy; the command check says more of it.
func compareChecks(ctx context.Context, a, b persistence.ProcessRecorder, application string) error {
	found := map[string]int{}
	for _, recorder := range []persistence.ProcessRecorder{a, b} {
		problems, err := checker.Check(ctx, checker.Target{Application: application, Recorder: recorder})
		if err != nil {
			return err
		}
		for _, problem := range problems {
			found[problem.String()]++
		}
	}
	for problem, times := range found {
		if times == 1 {
			return &Difference{Application: application, Problem: "one of them has a violation: " + problem}
		}
	}
	return nil
}

func compareLogs(ctx context.Context, a, b persistence.ProcessRecorder, application string) error {
	for after := int64(0); ; {
		want := persistence.NotificationRange{After: after, Limit: persistence.MaxPage}
		x, err := a.SelectNotifications(ctx, want)
		y, err2 := b.SelectNotifications(ctx, want)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		for i := range min(len(x), len(y)) {
			if !isSame(x[i], y[i]) {
				return &Difference{Application: application, NotificationID: min(x[i].ID, y[i].ID), Problem: "other events"}
			}
			after = x[i].ID
		}
		switch {
		case len(x) != len(y):
			longer := slices.Concat(x[min(len(x), len(y)):], y[min(len(x), len(y)):])
			return &Difference{Application: application, NotificationID: longer[0].ID, Problem: "one of them ends before it"}
		case len(x) == 0:
			return nil
		}
	}
}

func isSame(x, y persistence.Notification) bool {
	return x.ID == y.ID && x.OriginatorID == y.OriginatorID && x.OriginatorVersion == y.OriginatorVersion &&
		x.Topic == y.Topic && string(x.State) == string(y.State)
}
