package application

import (
	"context"
	"errors"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// warnOfMixedStates warns, before the first save, if the newest event of the log
// is not stored as the application stores events. The Python library cannot read
// events in the layout of this module, nor those that are compressed or
// encrypted otherwise than its own. An event that cannot be opened for a reason
// in itself is no reason to warn: it is in the way of its readers, and not of
// this save.
//
// Other saves do not wait for it, as they may have the connection that it waits
// for.
func (a *Application) warnOfMixedStates(ctx context.Context) {
	if a.statesChecked.Swap(true) {
		return
	}
	newest, err := a.recorder.NewestNotificationID(ctx)
	if err != nil || newest == 0 {
		return
	}
	page, err := a.recorder.SelectNotifications(ctx, persistence.NotificationRange{After: newest - 1, Limit: 1})
	if err != nil || len(page) == 0 {
		return
	}
	event := page[0].StoredEvent
	if err := a.mapper.CanOpen(event); err != nil {
		if errors.Is(err, persistence.ErrNewerProgram) {
			a.logger.WarnContext(ctx, "the newest event of the log was stored with settings that this application does not have, and "+
				"programs that have them may be unable to read what it stores", "application", a.name, "notification", page[0].ID, "error", err)
		}
		return
	}
	layout, python := a.mapper.LayoutOf(event), a.mapper.WritesPythonLayout()
	if layout.Python != python {
		a.warnOfMixedLayouts(ctx, page[0].ID, python)
		return
	}
	if compressor, _ := a.mapper.Settings(); python && compressor != "" && !layout.Compressed {
		a.logger.WarnContext(ctx, "the newest event of the log is not compressed, and this application compresses; a Python program "+
			"with the settings of that event cannot read what it stores: remove COMPRESSOR_TOPIC, or set it in all programs",
			"application", a.name, "notification", page[0].ID)
	}
}

func (a *Application) warnOfMixedLayouts(ctx context.Context, newest int64, python bool) {
	found, written, hint := "the Python layout", "that of this module", "if Python programs still read the log, "+
		"set TRANSCODER_TOPIC="+topicPythonTranscoder+" or give the option WithPythonLayout"
	if python {
		found, written, hint = written, found, "Python programs cannot read the events that are stored, nor their aggregates"
	}
	a.logger.WarnContext(ctx, "the log is about to have two layouts: its newest event is in "+found+
		", and this application writes "+written+"; "+hint, "application", a.name, "notification", newest)
}
