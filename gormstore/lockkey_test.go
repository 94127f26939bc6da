package gormstore

import "testing"

// The keys of the locks are a contract between all versions of this package
// that use one database at the same time: two versions with different keys
// would not wait for each other, and lose events. The values were calculated
// from the documented rule by another program; a change of any of them must
// never be released.
func TestLockKeyGolden(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		parts []string
		want  int64
	}{
		{[]string{"order", "public", "stored_events", "TrainingSchool"}, -4984515810854983186},
		{[]string{"order", "public", "stored_events", "trainingschool"}, -3254746624023138927},
		{[]string{"order", "public", "stored_events", "Hundeschule Köln"}, -5847084669833882384},
		{[]string{"order", "es", "stored_events", "TrainingSchool"}, -3846145067159751829},
		{[]string{"order", "public", "snapshots", "TrainingSchool"}, -993902799578501625},
		{[]string{"order", "public", "stored_events"}, -4206858502680599834},
		{[]string{"position", "public", "notification_tracking", "Counters", "TrainingSchool"}, -7329797128719566695},
		{[]string{"migrate", "public"}, -5207684931495276969},
		{nil, 5627299878016463852},
		// Not the same as the next: its length precedes every part.
		{[]string{"ab", "c"}, 1880538303246037946},
		{[]string{"a", "bc"}, -578085170675297651},
	} {
		if got := lockKey(test.parts...); got != test.want {
			t.Errorf("lockKey(%q) = %d, want %d", test.parts, got, test.want)
		}
	}
}
