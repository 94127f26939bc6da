package management_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

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
				t.Errorf("%v: %+v, %d events, want code 2 and %v", wrong, got, count(), events)
			}
		}
		if got := s.manage(t, "delete_originator", "Nobody", id, "--yes"); got.code != 1 || !strings.Contains(got.stderr, `"Nobody"`) {
			t.Errorf("%+v, want code 1 and stderr to contain %q", got, `"Nobody"`)
		}
		if got := s.manage(t, "delete_originator", "-n", "TrainingSchool", id); got.code != 0 ||
			!strings.Contains(got.stdout, "would have been deleted (dry-run)") || count() != events {
			t.Errorf("%+v, %d events, want code 0, stdout to contain %q and %v", got, count(), "would have been deleted (dry-run)", events)
		}
		if got := s.manage(t, "delete_originator", "--yes", "TrainingSchool", id); got.code != 0 ||
			!strings.Contains(got.stdout, "have been deleted.") || count() != 0 {
			t.Errorf("%+v, %d events, want code 0, stdout to contain %q and 0", got, count(), "have been deleted.")
		}
	})
}

// A follower in another database than its leader is ahead of the log after the
// newest events were deleted. It goes on after followers continue, without loss
// and without an event twice, whether or not the log has grown meanwhile.
func TestContinueAfterDeletion(t *testing.T) {
	t.Parallel()
	for _, grown := range []bool{false, true} {
		t.Run(fmt.Sprintf("grown=%t", grown), func(t *testing.T) {
			each(t, func(t *testing.T, s *service) {
				other := newSQLite(t)
				s.env = append(s.env, "OTHER_DATABASE="+other.address)
				s.train(t, "TrainingSchool", 3)
				s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
				s.manage(t, "followers", "continue", "Elsewhere").want(t, 0, "Elsewhere is at an event that exists; nothing is to be done.\n", "")
				var newest gormstore.StoredEvent
				if err := s.db.Where("application_name = 'TrainingSchool'").Order("id DESC").First(&newest).Error; err != nil {
					t.Fatal(err)
				}
				if got := s.manage(t, "delete_originator", "--yes", "TrainingSchool", uuid.UUID(newest.OriginatorID).String()); got.code != 0 {
					t.Fatalf("%+v, want code 0", got)
				}
				got := s.manage(t, "sync_followers", "-v", "2", "Elsewhere")
				if got.code != 1 || !strings.Contains(got.stderr, "run followers continue") {
					t.Errorf("ahead: %+v, want code 1 and stderr to contain %q", got, "run followers continue")
				}
				processed := 0
				if grown {
					s.train(t, "TrainingSchool", 5)
					processed = 5
					if got := s.manage(t, "sync_followers", "Elsewhere"); got.code != 1 {
						t.Errorf("the follower has gone on by itself: %+v, want code 1", got)
					}
				}
				const done = "Elsewhere goes on after 2 in the log of TrainingSchool, instead of 3; there are no events in between"
				s.manage(t, "followers", "continue", "-n", "Elsewhere").want(t, 0, done+" (dry-run).\n", "")
				s.manage(t, "followers", "continue", "Elsewhere").want(t, 0, done+".\n", "")
				if !grown {
					s.train(t, "TrainingSchool", 1)
					processed = 1
				}
				got = s.manage(t, "sync_followers", "-v", "2", "Elsewhere")
				if want := "\t " + map[int]string{1: "1 event", 5: "5 events"}[processed] + " from TrainingSchool processed\n"; got.code != 0 || !strings.HasSuffix(got.stdout, want) {
					t.Errorf("%+v, want %q", got, want)
				}
			})
		})
	}
}
