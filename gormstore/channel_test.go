package gormstore

import "testing"

// Like the keys of locks, the channels are a contract between all versions of
// this package that use one database.
func TestNotifyChannelGolden(t *testing.T) {
	t.Parallel()
	for at, want := range map[logKey]string{
		{schema: "public", table: "stored_events"}:                         "eventsourcing_48d186fb396090f3",
		{schema: "public", table: "stored_events", application: "Counter"}: "eventsourcing_48d186fb396090f3",
		{schema: "es", table: "stored_events"}:                             "eventsourcing_f298a965dd8b90b5",
		{schema: "public", table: "es_stored_events"}:                      "eventsourcing_9ebf48e5d7e84686",
	} {
		if got := at.channel(); got != want {
			t.Errorf("channel of %+v is %q, want %q", at, got, want)
		}
	}
}
