package application

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// intervals say after how many events of an aggregate a snapshot is taken, by
// the name of its definition; "" is for all that are not named.
type intervals map[string]int

// due reports whether a snapshot is to be taken at a version.
func (i intervals) due(definition string, version int64) bool {
	interval, named := i[definition]
	if !named {
		interval = i[""]
	}
	return interval > 0 && version > 0 && version%int64(interval) == 0
}

// parseIntervals reads "Dog=50,Visit=20", or one number for all.
func parseIntervals(setting environment.Setting) (intervals, error) {
	parsed := intervals{}
	for part := range strings.SplitSeq(setting.Value, ",") {
		definition, number, named := strings.Cut(strings.TrimSpace(part), "=")
		if !named {
			definition, number = "", definition
		}
		definition = strings.TrimSpace(definition)
		interval, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
		_, twice := parsed[definition]
		if err != nil || interval < 1 || twice || named && definition == "" {
			return nil, setting.Wrong(`must be a whole number from 1, or "Name=number" for each aggregate once, with commas between`)
		}
		parsed[definition] = int(interval)
	}
	return parsed, nil
}

// check refuses intervals given in code that make no sense.
func (i intervals) check() error {
	for definition, interval := range i {
		if interval < 1 {
			return fmt.Errorf("application: snapshotting interval %d of %q must be at least 1", interval, definition)
		}
	}
	return nil
}

// isUnreadable reports whether a snapshot cannot be read for a reason in
// itself.
func isUnreadable(err error) bool {
	_, mapping := errors.AsType[*persistence.MappingError](err)
	_, payload := errors.AsType[*eventtype.PayloadError](err)
	return mapping || payload
}

// logSkippedSnapshot reports a snapshot that cannot be used. The events say the
// same, so the next snapshot replaces it. What follows from a change of the
// program is the same for all snapshots of a definition and is reported once;
// what is wrong with one snapshot is reported once for its originator.
func (a *Application) logSkippedSnapshot(ctx context.Context, definition string, snapshot persistence.StoredEvent, err error) {
	key := snapshot.OriginatorID.String()
	level := slog.LevelWarn
	if other, ok := errors.AsType[*mapper.StateTypeError](err); ok {
		if other.Stored == "" { // every snapshot that an earlier release took
			level = slog.LevelDebug
		}
		key = definition + " state type"
	} else if _, ok := errors.AsType[*eventtype.VersionError](err); ok {
		key = definition + " schema version"
	} else if _, ok := errors.AsType[*mapper.UnknownTopicError](err); ok {
		key = definition + " topic"
	}
	if level > slog.LevelDebug && !a.reported.first(key) {
		return
	}
	a.logger.Log(ctx, level, "snapshot was passed over; the aggregate is read from older snapshots or its events, "+
		"and the next snapshot replaces it; more of the same kind are not reported", "application", a.name,
		"definition", definition, "originator", snapshot.OriginatorID, "version", snapshot.OriginatorVersion, "error", err)
}

// notTaken reports a snapshot that a save could not take. A state that cannot
// be stored, such as one that is too large, is reported once for its aggregate,
// and one that lacks fields once for its definition.
func (a *Application) notTaken(ctx context.Context, definition string, id uuid.UUID, version int64, err error) {
	if _, lost := errors.AsType[*mapper.StateTypeError](err); lost && !a.reported.first(definition+" lost fields") {
		return
	}
	if (errors.Is(err, persistence.ErrData) || isUnreadable(err)) && !a.reported.first("state "+id.String()) {
		return
	}
	a.logger.WarnContext(ctx, "snapshot was not taken; the events are saved", "application", a.name,
		"definition", definition, "originator", id, "version", version, "error", err)
}

// reports remembers what was reported. It is safe for concurrent use.
type reports struct {
	mu   sync.Mutex // protects seen
	seen map[string]bool
}

// maxReports bounds the memory of reports: after so many it begins again.
const maxReports = 10_000

// first reports whether it is called with this key for the first time.
func (r *reports) first(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[key] {
		return false
	}
	if r.seen == nil || len(r.seen) == maxReports {
		r.seen = map[string]bool{}
	}
	r.seen[key] = true
	return true
}

// warnOfUnknownIntervals reports intervals whose name is that of no definition
// of the application. It is called at the first save, when all repositories
// have been made. Those of a setting for all applications are reported once by
// the applications of a system, and only if none of them has the definition.
func (a *Application) warnOfUnknownIntervals(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(a.intervals)) {
		if name == "" || len(a.repositoriesOf(name)) > 0 {
			continue
		}
		isSettled := a.intervalIsSettled.Load()
		if !a.intervalsShared || isSettled == nil || !(*isSettled)(name) {
			a.logger.WarnContext(ctx, "snapshotting interval has no effect: no repository has a definition of that name",
				"application", a.name, "definition", name)
		}
	}
}
