package management_test

import (
	"strings"
	"testing"
)

// check compares the source of the ids with the log, and counts that problem.
func TestCheckComparesSequenceWithLog(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 5)
		if got := s.manage(t, "check", "TrainingSchool"); got.code != 0 {
			t.Errorf("before: %+v, want code 0", got)
		}
		lower := "UPDATE sqlite_sequence SET seq = 2 WHERE name = 'stored_events'"
		if s.db.Name() == "postgres" {
			lower = "SELECT setval('stored_events_id_seq', 2)"
		}
		if err := s.db.Exec(lower).Error; err != nil {
			t.Fatal(err)
		}
		got := s.manage(t, "check", "TrainingSchool")
		if got.code != 1 || !strings.Contains(got.stdout, "is at 2, and the highest id is 5") ||
			!strings.HasSuffix(got.stdout, "1 application checked: 1 problem.\n") {
			t.Errorf("%+v, want code 1, stdout to contain %q and stdout to end with %q", got, "is at 2, and the highest id is 5", "1 application checked: 1 problem.\n")
		}
	})
}
