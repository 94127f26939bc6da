package system_test

import (
	"context"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A program that does not take the lock of the position moves it while a batch
// is processed. Then the follower fails, says why, and neither stores nor parks
// anything of the batch. SQLite has one writer at a time, so it cannot happen
// there.
func TestPositionMovedDuringABatch(t *testing.T) {
	t.Parallel()
	const insert = "INSERT INTO notification_tracking (application_name, upstream_application_name, notification_id) " +
		"VALUES ('F', 'TrainingSchool', ?)"
	for name, foreign := range map[string]struct {
		statement  string
		id, tricks int
	}{
		"a row within the batch":    {insert, 3, 3},
		"the last row of the batch": {insert, 5, 3},
		"a row beyond the batch":    {insert, 9, 3},
		"a batch of one event":      {insert, 2, 0},
		"an update":                 {"UPDATE notification_tracking SET notification_id = ?", 3, 3},
		"a deletion":                {"DELETE FROM notification_tracking WHERE notification_id < ?", 9, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := migrated(t, testdb.OpenPostgres(t))
			p := newParker(t, db, ignore)
			p.SetBatchTime(time.Hour) // all events are in one batch
			register(t, p.dogs, 0, "Rex")
			if _, err := p.CatchUp(t.Context(), called("F"), nil); err != nil {
				t.Fatal(err)
			}
			register(t, p.dogs, foreign.tricks, "Fido")
			calls := 0
			p.f.become(func(ctx context.Context, event domain.Event, processing *collector) error {
				if calls++; calls == 1 {
					if err := db.Exec(foreign.statement, foreign.id).Error; err != nil {
						return err
					}
				}
				return count(ctx, event, processing)
			})
			_, err := p.CatchUp(t.Context(), called("F"), nil)
			expect.ErrorIs(t, err, persistence.ErrPositionMoved)
			if want := foreign.tricks + 1; calls != want {
				t.Errorf("a batch of %d events was processed, want %d", calls, want)
			}
			if got := tricksCounted(t, db, "sit"); got != 0 {
				t.Errorf("%d effects were stored, want none", got)
			}
			p.wantParked(t, 0)
		})
	}
}
