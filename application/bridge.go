package application

import (
	"context"
	"log/slog"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

func init() {
	bridge.Of = func(application any) bridge.Application {
		embedding, ok := application.(interface{ application() *Application })
		if !ok || isNilPointer(application) || embedding.application() == nil {
			return nil
		}
		return view{embedding.application()}
	}
	bridge.WithCause = withCause
}

// application returns the application itself, also of a struct that embeds it.
func (a *Application) application() *Application { return a }

// view is an application as the other packages of this module see it.
type view struct{ a *Application }

func (v view) Name() string                          { return v.a.name }
func (v view) FormerNames() []string                 { return slices.Clone(v.a.former.names) }
func (v view) Environment() *environment.Environment { return v.a.environment }
func (v view) Logger() *slog.Logger                  { return v.a.logger }
func (v view) Observer() *telemetry.Observer         { return v.a.observer }
func (v view) Mapper() *mapper.Mapper                { return v.a.mapper }
func (v view) Recorder() persistence.ProcessRecorder { return v.a.recorder }
func (v view) Factory() persistence.Factory          { return v.a.factory }
func (v view) Capabilities() capability.Store        { return v.a.capabilities }

func (v view) RecorderCapabilities() capability.Recorder { return v.a.recorderCapabilities }

func (v view) Events() *mapper.EventStore         { return v.a.events }
func (v view) Snapshots() *mapper.SnapshotStore   { return v.a.snapshots }
func (v view) TakeMisspelt() []bridge.Misspelling { return v.a.takeMisspelt() }

func (v view) HasRepository(definition string) bool { return len(v.a.repositoriesOf(definition)) > 0 }

func (v view) ShareIntervals(isSettled func(definition string) bool) {
	v.a.intervalIsSettled.Store(&isSettled)
}

func (v view) Cache() bridge.CacheSettings {
	return bridge.CacheSettings{Size: v.a.cache.size, FastForward: v.a.cache.fastForward, Skipping: v.a.cache.skipping}
}

func (v view) Ready(ctx context.Context) error          { return v.a.ready(ctx) }
func (v view) CheckFormerNames(c context.Context) error { return v.a.checkFormerNames(c) }

func (v view) OnRecorded(f func(context.Context, []mapper.Recording)) (remove func()) {
	return v.a.onRecorded(f)
}

func (v view) StateAt(ctx context.Context, definition string, id uuid.UUID, version int64) (any, error) {
	repositories := v.a.repositoriesOf(definition)
	if len(repositories) == 0 {
		return nil, nil
	}
	return repositories[0].stateAt(ctx, id, version)
}

func (v view) DeleteOriginator(ctx context.Context, id uuid.UUID) (persistence.DeletedOriginator, error) {
	return v.a.Log().DeleteOriginator(ctx, id)
}
