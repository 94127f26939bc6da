package management_test

import (
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

func TestDeleteOriginator(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		var row gormstore.StoredEvent
		var events int64
		count := func() (n int64) {
			if err := s.db.Model(&gormstore.StoredEvent{}).Where("originator_id = ?", row.OriginatorID).Count(&n).Error; err != nil {
				t.Fatal(err)
			}
			return n
		}
		if err := s.db.First(&row).Error; err != nil {
			t.Fatal(err)
		}
		id := row.OriginatorID.String()
		if events = count(); events == 0 {
			t.Fatal("there are no events")
		}
		for _, wrong := range [][]string{{"TrainingSchool", id}, {"TrainingSchool", "x", "--yes"}, {"TrainingSchool"}} {
			if got := s.manage(t, append([]string{"delete_originator"}, wrong...)...); got.code != 2 || count() != events {
				t.Errorf("%v: %+v, %d events", wrong, got, count())
			}
		}
		if got := s.manage(t, "delete_originator", "Nobody", id, "--yes"); got.code != 1 || !strings.Contains(got.stderr, `"Nobody"`) {
			t.Errorf("%+v", got)
		}
		if got := s.manage(t, "delete_originator", "-n", "TrainingSchool", id); got.code != 0 ||
			!strings.Contains(got.stdout, "would have been deleted (dry-run)") || count() != events {
			t.Errorf("%+v, %d events", got, count())
		}
		if got := s.manage(t, "delete_originator", "--yes", "TrainingSchool", id); got.code != 0 ||
			!strings.Contains(got.stdout, "have been deleted.") || count() != 0 {
			t.Errorf("%+v, %d events", got, count())
		}
	})
}
