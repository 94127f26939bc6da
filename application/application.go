package application

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Application is a boundary of commands and queries over one log of events. Embed it in a struct of your own that has
// them as methods. It is safe for concurrent use; the aggregates that it saves and loads are not.
type Application struct {
	name        string
	environment *persistence.Environment
	logger      *slog.Logger
	factory     persistence.Factory
	ownsFactory bool
	mapper      *persistence.Mapper
	recorder    persistence.ProcessRecorder
	events      *persistence.EventStore
	snapshots   *persistence.SnapshotStore // nil where snapshotting is off
	intervals   intervals

	intervalsChecked sync.Once
	cache            cacheSettings
	storesStates     string // the setting that has states of aggregates stored or copied
	log              *NotificationLog
	former           formerNames
	closed           atomic.Bool
	reported         reports

	mu         sync.RWMutex // protects what follows
	kept       map[string][]keeper
	afterwards []*hook
}

// hook is a function with an identity, to be found again.
type hook struct {
	call func(context.Context, []persistence.Recording)
}

// keeper is what an application knows of its repositories, without their types.
type keeper interface {
	// saved learns of an aggregate whose events were committed.
	saved(change domain.Changes)
	// forget drops what is cached of an originator.
	forget(id uuid.UUID)
	// snapshotAt stores a snapshot of an originator at a version.
	snapshotAt(ctx context.Context, id uuid.UUID, version int64) error
}

// New makes an application. Its name stands in front of its settings in the environment and in every row that it
// stores, so it must not change later; at most 32 characters.
//
// Settings come from options first, then from the environment (see the package documentation). All mistakes in them are
// reported together. New does not touch the database: the tables may be created later.
func New(name string, options ...Option) (*Application, error) {
	c := newConfig(name, options)
	a, err := c.build()
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Name is the application's name.
func (a *Application) Name() string { return a.name }

// Base is the application itself. Structs that embed an Application have it too, which is how the package system finds
// the Application in them.
func (a *Application) Base() *Application { return a }

// Environment is where the application's settings come from, for settings of the user's own.
func (a *Application) Environment() *persistence.Environment { return a.environment }

// Mapper turns the application's events into stored events and back.
func (a *Application) Mapper() *persistence.Mapper { return a.mapper }

// Recorder keeps the application's stored events and positions.
func (a *Application) Recorder() persistence.ProcessRecorder { return a.recorder }

// Events is the store of the application's events.
func (a *Application) Events() *persistence.EventStore { return a.events }

// Snapshots is the store of the application's snapshots, or nil where snapshotting is off.
func (a *Application) Snapshots() *persistence.SnapshotStore { return a.snapshots }

// NotificationLog is the application's log in sections, for followers in other services.
func (a *Application) NotificationLog() *NotificationLog { return a.log }

// Factory is what made the application's recorders.
func (a *Application) Factory() persistence.Factory { return a.factory }

// Save stores the pending events of all changes in one atomic write and returns them in order, with their positions.
// Nil changes are ignored, and so is a change that is given again; saving nothing is a success and returns nil. The metadata in ctx (see WithMetadata) are
// added to every event.
//
// When Save fails nothing is stored and the pending events remain, so that the same save can be tried again. A version
// conflict is a *persistence.ConflictError: somebody else changed the aggregate since it was loaded; see
// Repository.Update. After persistence.ErrOutcomeUnknown the save may be repeated: a save that finds its own events
// stored is a success.
//
// Where ctx carries a transaction the events are part of it, and snapshots, caches and followers wait for its commit. A
// rollback makes the events pending again. Snapshots that cannot be taken are logged; they never make a save fail.
func (a *Application) Save(ctx context.Context, changes ...domain.Changes) ([]persistence.Recording, error) {
	if isProcessing(ctx) {
		return nil, ErrSaveInPolicy
	}
	return a.record(ctx, changes, a.events.Put)
}

type putFunc func(context.Context, []domain.Event) ([]persistence.Recording, error)

func (a *Application) record(ctx context.Context, changes []domain.Changes, put putFunc) ([]persistence.Recording, error) {
	if a.closed.Load() {
		return nil, a.closedError()
	}
	w := collect(ctx, changes)
	if err := w.foreign(a.name); err != nil {
		return nil, err
	}
	if err := a.CheckFormerNames(ctx); err != nil {
		return nil, err
	}
	a.intervalsChecked.Do(func() { a.warnOfUnknownIntervals(ctx) })
	recordings, err := put(ctx, w.events)
	if err != nil {
		a.forget(w.events)
		return nil, err
	}
	if len(recordings) == 0 {
		return nil, nil
	}
	w.markSaved()
	persistence.OnRollback(ctx, func(context.Context) {
		w.markUnsaved()
		a.forget(w.events)
	})
	persistence.OnCommit(ctx, func(ctx context.Context) { a.committed(ctx, w, recordings) })
	return recordings, nil
}

// work is one save: the changes, and the events of each.
type work struct {
	changes []domain.Changes
	pending [][]domain.Event
	events  []domain.Event
}

func collect(ctx context.Context, changes []domain.Changes) *work {
	metadata := MetadataFrom(ctx)
	w := &work{}
	for i, change := range changes {
		if isNil(change) || isAmong(changes[:i], change) {
			continue
		}
		pending := change.PendingEvents()
		w.changes = append(w.changes, change)
		w.pending = append(w.pending, pending)
		for _, event := range pending {
			event.Metadata = metadata.Merge(event.Metadata)
			w.events = append(w.events, event)
		}
	}
	return w
}

// foreign finds an aggregate that was loaded from another application. Bare
// events may be from anywhere, as those of an import are.
func (w *work) foreign(application string) error {
	for i, change := range w.changes {
		if _, bare := change.(domain.Events); bare {
			continue
		}
		for _, event := range w.pending[i] {
			if event.Application != "" && event.Application != application {
				return &ForeignAggregateError{Application: application, LoadedFrom: event.Application, ID: event.OriginatorID}
			}
		}
	}
	return nil
}

// isNil also recognises a nil pointer in the interface, which a command that found nothing to change may return.
func isNil(change domain.Changes) bool {
	if change == nil {
		return true
	}
	v := reflect.ValueOf(change)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// isAmong finds a change that was given before, as a policy does that collects one aggregate at two places. Its events
// are saved once. Bare events have no identity.
func isAmong(changes []domain.Changes, change domain.Changes) bool {
	if !reflect.TypeOf(change).Comparable() {
		return false
	}
	return slices.ContainsFunc(changes, func(other domain.Changes) bool { return other == change })
}

func (w *work) markSaved() {
	for i, change := range w.changes {
		change.MarkSaved(len(w.pending[i]))
	}
}

func (w *work) markUnsaved() {
	for i, change := range w.changes {
		change.MarkUnsaved(w.pending[i])
	}
}

// committed does what follows a commit: caches, snapshots, and whoever waits for new events. Nothing of it can make
// the save fail any more.
func (a *Application) committed(ctx context.Context, w *work, recordings []persistence.Recording) {
	a.mu.RLock()
	afterwards := a.afterwards
	a.mu.RUnlock()
	for i, change := range w.changes {
		if len(w.pending[i]) > 0 {
			a.keep(ctx, change, w.pending[i])
		}
	}
	for _, h := range afterwards {
		h.call(ctx, recordings)
	}
}

// keep updates the cache and takes the snapshots that are due. Bare events belong to no aggregate that could be kept.
func (a *Application) keep(ctx context.Context, change domain.Changes, events []domain.Event) {
	if _, bare := change.(domain.Events); bare {
		return
	}
	schema, ok := a.mapper.SchemaOf(events[0].Topic)
	if !ok {
		return
	}
	keepers := a.keepers(schema.Name())
	for _, k := range keepers {
		k.saved(change)
	}
	if a.snapshots != nil && len(keepers) > 0 {
		a.takeDueSnapshots(ctx, keepers[0], schema.Name(), events)
	}
}

// takeDueSnapshots takes the snapshots that are due at the events of one change,
// but none that would be deleted again at once.
func (a *Application) takeDueSnapshots(ctx context.Context, k keeper, definition string, events []domain.Event) {
	var due []domain.Event
	for _, event := range events {
		if a.intervals.due(definition, event.OriginatorVersion) {
			due = append(due, event)
		}
	}
	if kept := a.snapshots.Kept(); kept > 0 && len(due) > kept {
		due = due[len(due)-kept:]
	}
	for _, event := range due {
		if err := k.snapshotAt(ctx, event.OriginatorID, event.OriginatorVersion); err != nil {
			a.notTaken(ctx, definition, event.OriginatorID, event.OriginatorVersion, err)
		}
	}
}

// keepers are the repositories of a definition.
func (a *Application) keepers(definition string) []keeper {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.kept[definition]
}

// forget drops what is cached of the events' originators.
func (a *Application) forget(events []domain.Event) {
	for _, event := range events {
		a.forgetOriginator(event.OriginatorID)
	}
}

// OnRecorded has f called with the recordings of every save, in this process, after its commit. It is how followers
// are woken: f must return soon, and must not save. The function that is returned takes f back; a save at the same moment
// may still call it.
func (a *Application) OnRecorded(f func(context.Context, []persistence.Recording)) (remove func()) {
	h := &hook{call: f}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.afterwards = append(slices.Clip(a.afterwards), h)
	return func() { a.removeHook(h) }
}

func (a *Application) removeHook(h *hook) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.afterwards = slices.DeleteFunc(slices.Clone(a.afterwards), func(other *hook) bool { return other == h })
}

// Logger is where the application, and what runs it, report what nobody else learns of.
func (a *Application) Logger() *slog.Logger { return a.logger }

// Close ends the use of the application; saving and loading then fail with persistence.ErrClosed. It closes the store
// that the application opened by environment, not one that it was given. Closing again does nothing.
func (a *Application) Close() error {
	if a.closed.Swap(true) || !a.ownsFactory {
		return nil
	}
	return a.factory.Close()
}

// ready reports why the application cannot be used.
func (a *Application) ready(ctx context.Context) error {
	if a.closed.Load() {
		return a.closedError()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return a.CheckFormerNames(ctx)
}

func (a *Application) closedError() error {
	return &persistence.Error{Class: persistence.ErrClosed, Op: "application " + a.name}
}
