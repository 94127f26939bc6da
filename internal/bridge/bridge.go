// Package bridge gives the packages of this module what an application does not
// show to its users.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// Layout is how a state is stored.
type Layout = mapper.Layout

// Application is an application as the other packages of this module use it. It
// is comparable: two values are equal if they are the same application.
type Application interface {
	// Name returns the application's name, and FormerNames those of
	// application.WithFormerNames.
	Name() string
	FormerNames() []string
	// Environment returns the source of the application's settings.
	Environment() *environment.Environment
	// Logger returns the logger for what the application cannot return.
	Logger() *slog.Logger
	// Observer is told what the application does. It is never nil.
	Observer() *telemetry.Observer
	// Mapper turns the application's events into stored events and back.
	Mapper() *mapper.Mapper
	// Recorder keeps the application's stored events and its positions. Factory
	// has made it.
	Recorder() persistence.ProcessRecorder
	Factory() persistence.Factory
	// Capabilities are those of the factory, and RecorderCapabilities those of
	// the recorder.
	Capabilities() capability.Store
	RecorderCapabilities() capability.Recorder
	// Events and Snapshots are the mapper over the recorders. Snapshots returns
	// nil if the application keeps none.
	Events() *mapper.EventStore
	Snapshots() *mapper.SnapshotStore
	// Cache returns the settings of the cache of aggregates.
	Cache() CacheSettings
	// TakeMisspelt returns the settings that seem to be misspelt, at its first
	// call alone. The caller warns of them. Without a call, the application warns
	// when it is first used.
	TakeMisspelt() []Misspelling
	// HasRepository reports whether the application has a repository of a
	// definition. ShareIntervals has it ask isSettled before it warns that it has
	// none of a definition which a setting without its prefix names, for the
	// snapshots of all applications. isSettled must be safe for concurrent use.
	HasRepository(definition string) bool
	ShareIntervals(isSettled func(definition string) bool)
	// Ready returns an error if the application is closed, if ctx has ended, or
	// if the store has events under a former name.
	Ready(ctx context.Context) error
	// CheckFormerNames returns an error if the store has events under a former
	// name. It reads once for each name, until it has found none.
	CheckFormerNames(ctx context.Context) error
	// OnRecorded calls f with the recordings of every save in this process,
	// after its commit. f must return soon and must not save. remove ends that;
	// a save at the same moment may still call f.
	OnRecorded(f func(context.Context, []mapper.Recording)) (remove func())
	// StateAt returns the state of an aggregate at a version as a snapshot would
	// have it, or nil if no repository of this process has the definition.
	StateAt(ctx context.Context, definition string, id uuid.UUID, version int64) (any, error)
	// DeleteOriginator is that of the application's log.
	DeleteOriginator(ctx context.Context, id uuid.UUID) (persistence.DeletedOriginator, error)
}

// StoreOf names the store of an application in an error: by its type, or as the
// one in memory, whose type is not exported.
func StoreOf(app Application) string {
	if app.Capabilities().Volatile {
		return "the one in memory"
	}
	return fmt.Sprintf("%T", app.Factory())
}

// CacheSettings are those of the cache of aggregates.
type CacheSettings struct {
	Size        int  // how many aggregates of each definition, or 0 if it is off
	FastForward bool // a Get applies what was saved since
	Skipping    bool // a Get does not wait for another one that does so
}

// Misspelling is a setting without effect that looks like one of this module.
type Misspelling struct{ Key, Meant string }

// Warn warns of the setting, for the applications that have it.
func (m Misspelling) Warn(logger *slog.Logger, applications ...string) {
	logger.Warn("setting is not known and has no effect", "application", strings.Join(applications, ", "),
		"key", m.Key, "did you mean", m.Meant)
}

// Of returns the application that a value is or embeds, or nil. Package
// application sets it when it is initialised.
var Of func(application any) Application

// WithCause returns a context for the handler of an event: events that are
// saved in it get the event's id as their causation id, and its correlation id.
// Each save tells saves, which may be nil. Package application sets it when it
// is initialised.
var WithCause func(ctx context.Context, event domain.Event, saves Saves) context.Context

// Saves is told of what a handler saves.
type Saves interface {
	// Saving is called before a save, with the application that saves.
	Saving(app Application)
	// Saved is called after a save that has succeeded.
	Saved()
}

// HowToReset returns how a follower is reset, of package system, which sets it
// when it is initialised: whether its events may be processed again as it is,
// and the function that clears what it has made, or nil.
var HowToReset func(follower any) (replayable bool, clear func(ctx context.Context, leaders []string) error)

// Graph is a system as the other packages of this module use it: its members,
// by their names, and which of them follow which.
type Graph interface {
	// Names returns the names of all members, in the order of their definition.
	Names() []string
	// Followers returns the names of the members that follow others, in the same
	// order, and Follows those of the members that a member follows.
	Followers() []string
	Follows(name string) []string
	// Member returns a member as it was given to system.Pipe, or nil.
	Member(name string) any
}

// GraphOf returns the graph of a *system.System. Package system sets it when it
// is initialised.
var GraphOf func(system any) Graph

type outsideKey struct{}

// outside says which leaders are read with another context.
type outside struct {
	ctx     context.Context
	leaders []string
}

// WithLeadersOutside returns a context in which a follower reads the logs of
// these leaders with the context outer. It is for a follower that catches up in
// a transaction of its database while the leaders are in another one.
func WithLeadersOutside(ctx, outer context.Context, leaders ...string) context.Context {
	return context.WithValue(ctx, outsideKey{}, outside{outer, leaders})
}

// OutsideOf returns the context with which a leader is read, or nil if it is
// the ctx itself.
func OutsideOf(ctx context.Context, leader string) context.Context {
	if o, ok := ctx.Value(outsideKey{}).(outside); ok && slices.Contains(o.leaders, leader) {
		return o.ctx
	}
	return nil
}

// CommitRetries is how often a transaction that changes a follower's position or
// settings is repeated, because the follower has moved the position before its
// commit, in a store that compares positions then in place of locking them.
const CommitRetries = 100

// Repeatedly runs fn in a transaction, and again if the transaction must be
// retried. fn must have no effects outside of it.
func Repeatedly(ctx context.Context, store persistence.Transactor, fn func(ctx context.Context) error) error {
	for retries := 0; ; retries++ {
		err := store.Transaction(ctx, fn)
		if !errors.Is(err, persistence.ErrRetryTransaction) || retries == CommitRetries || ctx.Err() != nil ||
			txscope.From(ctx) != nil {
			return err
		}
	}
}

// ChangeSettings changes the settings of a follower for some upstream
// applications, all in one transaction of its store. The upstreams are sorted,
// which is the order in which positions are locked everywhere.
func ChangeSettings(
	ctx context.Context, app Application, recorder capability.SettingsRecorder, upstreams []string,
	change func(*capability.FollowerSettings),
) error {
	store := app.Factory().(persistence.Transactor) // as every follower's is
	return Repeatedly(ctx, store, func(ctx context.Context) error {
		for _, upstream := range upstreams {
			_, settings, err := recorder.LockSettings(ctx, upstream)
			if err != nil {
				return err
			}
			if settings == nil { // the error of writing says which table is absent
				settings = &capability.FollowerSettings{}
			}
			change(settings)
			if err := recorder.WriteSettings(ctx, upstream, *settings); err != nil {
				return err
			}
		}
		return nil
	})
}
