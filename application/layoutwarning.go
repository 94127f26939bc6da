package application

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// warnOfMixedLayouts warns, before the first save, if the newest event of the
// log is not in the layout that the application writes. The Python library
// cannot read events in the layout of this module. An event that cannot be read
// is no reason to warn: it is in the way of its readers, and not of this save.
//
// Other saves do not wait for it, as they may have the connection that it waits
// for.
func (a *Application) warnOfMixedLayouts(ctx context.Context) {
	if a.layoutChecked.Swap(true) {
		return
	}
	newest, err := persistence.NewestNotificationID(ctx, a.recorder)
	if err != nil || newest == 0 {
		return
	}
	page, err := a.recorder.SelectNotifications(ctx, persistence.NotificationRange{After: newest - 1, Limit: 1})
	if err != nil || len(page) == 0 || !a.mapper.HasOtherLayout(page[0].StoredEvent) {
		return
	}
	found, written, hint := "the Python layout", "that of this module", "if Python programs still read the log, "+
		"set TRANSCODER_TOPIC="+topicPythonTranscoder+" or give the option WithPythonLayout"
	if a.mapper.WritesPythonLayout() {
		found, written, hint = written, found, "Python programs cannot read the events that are stored, nor their aggregates"
	}
	a.logger.WarnContext(ctx, "the log is about to have two layouts: its newest event is in "+found+
		", and this application writes "+written+"; "+hint, "application", a.name, "notification", page[0].ID)
}
