package gormstore_test

import (
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// schemaDump is everything that a database says about its tables, as text.
func schemaDump(t testing.TB, db *gorm.DB) string { return testdb.Schema(t, db) }

// contentDump is every row of the tables, as text.
func contentDump(t testing.TB, db *gorm.DB) string {
	t.Helper()
	return testdb.Dump(t, db,
		"SELECT * FROM stored_events ORDER BY id",
		"SELECT * FROM snapshots ORDER BY uid",
		"SELECT * FROM notification_tracking ORDER BY uid",
	)
}

// wantSame fails the test unless two dumps are the same, and says how they
// differ.
func wantSame(t testing.TB, what, before, after string) {
	t.Helper()
	if before == after {
		return
	}
	b, a := strings.Split(before, "\n"), strings.Split(after, "\n")
	for i := range max(len(b), len(a)) {
		lineBefore, lineAfter := at(b, i), at(a, i)
		if lineBefore != lineAfter {
			t.Errorf("%s was changed; the first difference is in line %d:\nbefore %q\nafter  %q", what, i+1, lineBefore, lineAfter)
			return
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}
