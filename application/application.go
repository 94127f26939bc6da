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
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/saving"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// Application is a boundary of commands and queries over one log of events.
// Embed it in your own struct that has them as methods. It is safe for
// concurrent use; the aggregates that it saves and loads are not.
type Application struct {
	name        string
	environment *environment.Environment
	logger      *slog.Logger
	observer    *telemetry.Observer // never nil
	factory     persistence.Factory
	ownsFactory bool
	mapper      *mapper.Mapper
	recorder    persistence.ProcessRecorder
	events      *mapper.EventStore
	snapshots   *mapper.SnapshotStore // nil where snapshotting is off
	intervals   intervals

	capabilities         capability.Store // of factory
	recorderCapabilities capability.Recorder

	intervalsChecked  sync.Once
	intervalsShared   bool                              // they are settings of all applications
	intervalIsSettled atomic.Pointer[func(string) bool] // nil before system.New
	statesChecked     atomic.Bool
	cache             cacheSettings
	storesStates      string // the setting that has states of aggregates stored or copied
	former            formerNames
	misspelt          atomic.Pointer[[]bridge.Misspelling] // nil if none, or once they were taken
	closed            atomic.Bool
	reported          reports

	mu           sync.RWMutex             // protects what follows
	repositories map[string][]*aggregates // by definition
	saveHooks    []*saveHook
}

// saveHook is a function with an identity, to be found again.
type saveHook struct {
	call func(context.Context, []mapper.Recording)
}

// New makes an application. Its name is the prefix of its settings in the
// environment and part of every row that it stores, so it must not change
// later; at most 32 characters.
//
// Settings come from options first, then from the environment (see the package
// documentation). All mistakes in them are reported together. New does not
// touch the database: the tables may be created later.
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

// Saved is what a save has stored. The zero Saved is that of a save of nothing.
type Saved struct {
	// Position is that of the last event in the application's log. A follower
	// that has processed the log up to there has processed all the events.
	Position int64
	// Events are the events with their positions, in the order in which they
	// were stored.
	Events []domain.Event
}

func savedOf(recordings []mapper.Recording) Saved {
	if len(recordings) == 0 {
		return Saved{}
	}
	events := make([]domain.Event, len(recordings))
	for i := range recordings {
		events[i] = recordings[i].Event
	}
	return Saved{Position: recordings[len(recordings)-1].Notification.ID, Events: events}
}

// Save stores the pending events of all changes in one atomic write and returns
// them with their positions. Nil changes are ignored, and so is a change that
// is given again; a save of nothing is a success. The metadata in ctx (see
// WithMetadata) are added to every event.
//
// If Save fails, nothing is stored and the events stay pending, so that the
// same save can be tried again. A version conflict is a
// *persistence.ConflictError: another writer has changed the aggregate since it
// was loaded; see Repository.Update. Two copies of one aggregate that have both
// changed are an ErrProgramming. After persistence.ErrOutcomeUnknown the
// save may be repeated: a save that finds its own events stored is a success.
//
// If ctx carries a transaction, the events are part of it, and snapshots,
// caches and followers wait for its commit. A rollback makes the events pending
// again. In the handler of a follower the events commit together with the
// follower's position. Snapshots that cannot be taken are logged; they never
// make a save fail.
func (a *Application) Save(ctx context.Context, changes ...domain.Changes) (Saved, error) {
	recordings, err := a.save(ctx, changes)
	return savedOf(recordings), err
}

func (a *Application) save(ctx context.Context, changes []domain.Changes) ([]mapper.Recording, error) {
	if a.closed.Load() {
		return nil, a.closedError()
	}
	w := collect(changes)
	if err := w.foreign(a.name); err != nil {
		return nil, err
	}
	if err := w.copies(a.name); err != nil {
		return nil, err
	}
	if err := a.checkFormerNames(ctx); err != nil {
		return nil, err
	}
	a.warnOfMisspelt()
	a.intervalsChecked.Do(func() { a.warnOfUnknownIntervals(ctx) })
	if len(w.events) == 0 { // as for most events that a follower handles
		return nil, ctx.Err()
	}
	a.warnOfMixedStates(ctx)
	handled := handlingFrom(ctx)
	if handled != nil && handled.saves != nil {
		handled.saves.Saving(view{a})
	}
	stored := false
	defer func() {
		if !stored { // or not known to be, if put panics
			a.forget(w.events)
		}
	}()
	recordings, err := a.put(ctx, w)
	if err != nil {
		return nil, err
	}
	stored = true
	w.markSaved()
	if handled != nil && handled.saves != nil {
		handled.saves.Saved()
	}
	txscope.OnRollback(ctx, func(context.Context) {
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

func collect(changes []domain.Changes) *work {
	w := &work{}
	for i, change := range changes {
		if isNil(change) || containsChange(changes[:i], change) {
			continue
		}
		pending := change.PendingEvents()
		w.changes = append(w.changes, change)
		w.pending = append(w.pending, pending)
		w.events = append(w.events, pending...)
	}
	return w
}

// metadataOf returns the metadata that ctx and the observer add to the events
// of a save.
func (a *Application) metadataOf(ctx context.Context) domain.Metadata {
	given := MetadataFrom(ctx)
	if a.observer.Metadata == nil {
		return given
	}
	return merged(a.observer.Metadata(ctx), given)
}

// addMetadata adds metadata to the events. Their own are not replaced.
func (w *work) addMetadata(metadata domain.Metadata) {
	for i := range w.events {
		w.events[i].Metadata = merged(metadata, w.events[i].Metadata)
	}
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
				return foreign(application, event)
			}
		}
	}
	return nil
}

// copies finds an aggregate of which two copies are to be saved together. Both
// have changed the same version, so that the database would report a conflict
// however often that is tried.
func (w *work) copies(application string) error {
	if len(w.changes) < 2 {
		return nil
	}
	type version struct {
		originator uuid.UUID
		number     int64
	}
	seen := make(map[version]bool, len(w.events))
	for _, event := range w.events {
		v := version{event.OriginatorID, event.OriginatorVersion}
		if seen[v] {
			return copied(application, event)
		}
		seen[v] = true
	}
	return nil
}

// isNil also recognises a nil pointer in the interface, which a command that
// found nothing to change may return.
func isNil(change domain.Changes) bool {
	return change == nil || isNilPointer(change)
}

func isNilPointer(value any) bool {
	v := reflect.ValueOf(value)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// containsChange finds a change that was given before, as a handler does that
// collects one aggregate at two places. Its events are saved once. Bare events
// have no identity.
func containsChange(changes []domain.Changes, change domain.Changes) bool {
	if !reflect.TypeOf(change).Comparable() {
		return false
	}
	return slices.ContainsFunc(changes, func(other domain.Changes) bool { return other == change })
}

func (w *work) markSaved() {
	for i, change := range w.changes {
		saving.MarkSaved(change, len(w.pending[i]))
	}
}

func (w *work) markUnsaved() {
	for i, change := range w.changes {
		saving.MarkUnsaved(change, w.pending[i])
	}
}

// committed does what follows a commit: caches, snapshots, and wake-ups of
// followers. Nothing of it can make the save fail any more.
func (a *Application) committed(ctx context.Context, w *work, recordings []mapper.Recording) {
	a.mu.RLock()
	afterwards := a.saveHooks
	a.mu.RUnlock()
	upToDate := false
	defer func() {
		if !upToDate { // a function of a state has panicked
			a.forget(w.events)
		}
		for _, h := range afterwards {
			h.call(ctx, recordings)
		}
	}()
	for i, change := range w.changes {
		if len(w.pending[i]) > 0 {
			a.cacheSaved(ctx, change, w.pending[i])
		}
	}
	upToDate = true
}

// cacheSaved updates the cache and takes the snapshots that are due. Bare
// events belong to no aggregate that could be kept.
func (a *Application) cacheSaved(ctx context.Context, change domain.Changes, events []domain.Event) {
	if _, bare := change.(domain.Events); bare {
		return
	}
	schema, ok := a.mapper.SchemaOf(events[0].Topic)
	if !ok {
		return
	}
	repositories := a.repositoriesOf(schema.Name())
	for _, r := range repositories {
		r.saved(change)
	}
	if a.snapshots != nil && len(repositories) > 0 {
		a.takeDueSnapshots(ctx, repositories[0], change, schema.Name(), events)
	}
}

// takeDueSnapshots takes the snapshots that are due at the events of one
// change, but none that would be deleted again at once.
func (a *Application) takeDueSnapshots(
	ctx context.Context, r *aggregates, change domain.Changes, definition string, events []domain.Event,
) {
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
		if err := r.snapshot(ctx, change, event.OriginatorID, event.OriginatorVersion); err != nil {
			a.notTaken(ctx, definition, event.OriginatorID, event.OriginatorVersion, err)
		}
	}
}

// repositoriesOf returns the repositories of a definition.
func (a *Application) repositoriesOf(definition string) []*aggregates {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.repositories[definition]
}

// forget drops what is cached of the events' originators.
func (a *Application) forget(events []domain.Event) {
	for _, event := range events {
		a.forgetOriginator(event.OriginatorID)
	}
}

// onRecorded calls f with the recordings of every save in this process, after
// its commit. f must return soon, and must not save. remove ends that; a save
// at the same moment may still call f.
func (a *Application) onRecorded(f func(context.Context, []mapper.Recording)) (remove func()) {
	h := &saveHook{call: f}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saveHooks = append(slices.Clip(a.saveHooks), h)
	return func() { a.removeHook(h) }
}

func (a *Application) removeHook(h *saveHook) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saveHooks = slices.DeleteFunc(slices.Clone(a.saveHooks), func(other *saveHook) bool { return other == h })
}

// Close ends the use of the application; saving and loading then fail with
// persistence.ErrClosed. It closes the store that the application opened by
// environment, not one that it was given. Closing again does nothing.
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
	a.warnOfMisspelt()
	return a.checkFormerNames(ctx)
}

func (a *Application) closedError() error {
	return &persistence.Error{Class: persistence.ErrClosed, Op: "application " + a.name}
}
