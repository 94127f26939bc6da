package system

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Follower is an application that processes the events of others. Make one with
// NewFollower, and embed it in a struct that has what its handlers need.
type Follower struct {
	*application.Application

	app        bridge.Application
	handlers   []handler // by payload type, in the order in which they were given
	every      *handler
	reset      func(ctx context.Context, leaders []string) error // nil if it cannot be reset
	replayable bool
	// park is nil if the follower parks nothing.
	park     func(event persistence.Notification, err error, attempts int) bool
	start    int64 // after this position, or startAtHead
	hasStart bool

	partitioning partitioning
	followings   followings
}

// handler handles the events of one payload type: by handle, or by a call whose
// result is recorded afterwards.
type handler struct {
	payload reflect.Type
	handle  handlerFunc
	call    func(ctx context.Context, event domain.Event) (result any, err error)
	record  func(ctx context.Context, event domain.Event, result any) error
}

type handlerFunc = func(context.Context, domain.Event) error

// FollowerOption is a part of a Follower.
type FollowerOption func(*Follower) error

// NewFollower makes a follower of an application, in whose store it keeps its
// positions, what it saves, and what it parks. At least one handler must be
// given, by On, OnEvery or Effect.
//
// It returns persistence.ErrProgramming for two handlers of one payload, for
// options that contradict each other, and for a handler of an interface type.
func NewFollower(app *application.Application, options ...FollowerOption) (*Follower, error) {
	if app == nil {
		return nil, &mistake{"", "a follower needs an application and was given nil; check the error of application.New first"}
	}
	f := &Follower{Application: app, app: bridge.Of(app)}
	var mistakes []error
	for _, option := range options {
		if option == nil {
			continue
		}
		if err := option(f); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	if len(mistakes) == 0 {
		mistakes = append(mistakes, f.contradiction())
	}
	for i, err := range mistakes {
		if err != nil {
			mistakes[i] = &mistake{app.Name(), err.Error()}
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	return f, nil
}

// contradiction returns what is wrong with the options as a whole.
func (f *Follower) contradiction() error {
	switch {
	case f.every == nil && len(f.handlers) == 0:
		return errors.New("it has no handler: give system.On, system.OnEvery or system.Effect")
	case f.every != nil && len(f.handlers) > 0:
		return errors.New("system.OnEvery handles every event, so it cannot be given together with system.On or system.Effect")
	case f.partitioning.of != nil && !f.partitioning.isDivided():
		return errors.New("system.PartitionBy says how to divide it, and it has no partitions; give system.Partitions as well")
	case f.replayable && f.reset != nil:
		return errors.New("it is Replayable and Resettable: a reset either clears what it made or has nothing to clear; give one of them")
	}
	return nil
}

// On handles the events with payloads of type E, in the order of each leader's
// log, each once. E must be a type that one of the leaders defines; system.New
// says if none does. Events of other types are passed over, except those of
// topics that the program does not know: the follower stops there
// (persistence.ErrNewerProgram).
//
// The effects of handle commit together with the follower's position: what it
// saves by Save and Update of this application or of others with the same
// store, and what it writes through the transaction in its ctx (gormstore.Tx).
// If handle returns an error or panics, none of that is stored, and the event
// is tried again later. ctx ends when the runner is cancelled. What is saved in
// it gets the event's id as its causation id, and its correlation id.
//
// A runner never calls two handlers of a follower at the same time. CatchUp and
// RetryParked, called beside a runner, may call one for one leader while the
// runner does for another.
func On[E any](handle func(ctx context.Context, event domain.Recorded[E]) error) FollowerOption {
	payload := reflect.TypeFor[E]()
	return func(f *Follower) error {
		if handle == nil {
			return fmt.Errorf("the handler of %v is nil", payload)
		}
		return f.add(handler{payload: payload, handle: func(ctx context.Context, event domain.Event) error {
			return handle(ctx, recorded[E](event))
		}})
	}
}

// recorded returns an event as the handlers of payloads of type E get it.
func recorded[E any](event domain.Event) domain.Recorded[E] {
	return domain.Recorded[E]{Event: event, Data: event.Data.(E)}
}

func (f *Follower) add(h handler) error {
	if h.payload.Kind() == reflect.Interface {
		return fmt.Errorf("a handler is for one type of payload, and %v is an interface; use system.OnEvery", h.payload)
	}
	if slices.ContainsFunc(f.handlers, func(other handler) bool { return other.payload == h.payload }) {
		return fmt.Errorf("two handlers are given for %v", h.payload)
	}
	f.handlers = append(f.handlers, h)
	return nil
}

// OnEvery handles every event of the leaders, whatever its type. See On for the
// rest.
func OnEvery(handle func(ctx context.Context, event domain.Event) error) FollowerOption {
	return func(f *Follower) error {
		switch {
		case handle == nil:
			return errors.New("the handler of every event is nil")
		case f.every != nil:
			return errors.New("system.OnEvery is given twice")
		}
		f.every = &handler{handle: handle}
		return nil
	}
}

// Resettable says that the follower can clear what it has made of the events of
// some leaders, so that it makes the same of them when they are processed
// again. clear is called in the transaction in which the positions are reset:
// it deletes rows through gormstore.Tx(ctx). If it returns an error, nothing is
// reset; a follower that cannot tell the leaders apart refuses so to be reset
// for some of them only.
func Resettable(clear func(ctx context.Context, leaders []string) error) FollowerOption {
	return func(f *Follower) error {
		if clear == nil {
			return errors.New("the function given to system.Resettable is nil")
		}
		f.reset = clear
		return nil
	}
}

// Replayable says that processing the same events again changes nothing, so
// that the follower can be reset without clearing anything.
func Replayable() FollowerOption {
	return func(f *Follower) error { f.replayable = true; return nil }
}

// Park lets the follower park events that it cannot process, instead of
// standing still. So that the events of an originator are never processed out
// of order, all later ones of it are parked too, until RetryParked processes
// them. The store must keep parked events, as gormstore does.
//
// decide reports whether to park an event that has failed so many times in a
// row. It is not asked about failures of the database, which pass, nor about
// events that only a newer program can read, or one with other settings
// (persistence.ErrNewerProgram). It is asked about a handler that was cancelled
// or took too long: an err that is context.Canceled or context.DeadlineExceeded
// is never the end of the follower itself.
func Park(decide func(event persistence.Notification, err error, attempts int) bool) FollowerOption {
	return func(f *Follower) error {
		if decide == nil {
			return errors.New("the function given to system.Park is nil")
		}
		f.park = decide
		return nil
	}
}

// startAtHead is the start of a follower that begins at the head of the log,
// in place of a position.
const startAtHead = -1

// StartAt says after which position of each leader's log the follower begins
// when it first runs: without it, after 0, at the beginning. A position that is
// beyond the head of a log is an error when the follower first runs.
//
// A Runner records the start before its Start returns, so the follower misses
// nothing that is saved afterwards. If the follower is paused, the start is
// recorded when it is resumed. Later the follower goes on from its position;
// after a reset it processes all events. The store must keep settings of
// followers, as gormstore and memory do.
func StartAt(position int64) FollowerOption {
	return func(f *Follower) error {
		if position < 0 {
			return fmt.Errorf("it cannot start at position %d", position)
		}
		return f.startAt(position)
	}
}

// StartAtHead says that the follower begins after the last event that is
// recorded when it first runs, as one that sends mails does. See StartAt for
// the rest.
func StartAtHead() FollowerOption {
	return func(f *Follower) error { return f.startAt(startAtHead) }
}

func (f *Follower) startAt(start int64) error {
	if f.hasStart && f.start != start {
		return errors.New("two starts are given; give system.StartAt or system.StartAtHead once")
	}
	f.start, f.hasStart = start, true
	return nil
}

func init() {
	bridge.HowToReset = func(value any) (bool, func(context.Context, []string) error) {
		f, ok := value.(interface{ follower() *Follower })
		if !ok {
			return false, nil
		}
		return f.follower().replayable, f.follower().reset
	}
}

// follower returns the follower itself, also of a struct that embeds it.
func (f *Follower) follower() *Follower { return f }

// handler returns the handler of a payload type, or nil.
func (f *Follower) handler(payload reflect.Type) *handler {
	if f.every != nil {
		return f.every
	}
	i := slices.IndexFunc(f.handlers, func(h handler) bool { return h.payload == payload })
	if i < 0 {
		return nil
	}
	return &f.handlers[i]
}

// topics returns the names of each wanted topic of a leader, today's first, or
// nil if all are wanted.
func (f *Follower) topics(leader Leader) (groups [][]string) {
	for _, h := range f.handlers {
		if names := leader.Topics(h.payload); len(names) > 0 {
			groups = append(groups, names)
		}
	}
	return groups
}

// checkHandlers finds a payload that no leader defines, and a leader of whose
// events none is handled.
func (f *Follower) checkHandlers(leaders []Leader) error {
	if f.every != nil {
		return nil
	}
	var mistakes []error
	for _, h := range f.handlers {
		if !slices.ContainsFunc(leaders, func(l Leader) bool { return len(l.Topics(h.payload)) > 0 }) {
			mistakes = append(mistakes, &mistake{f.Name(), fmt.Sprintf("it handles %v, which is not an event of %s; "+
				"give the leader a repository or application.WithDefinitions that has it", h.payload, listed(leaders))})
		}
	}
	for _, leader := range leaders {
		if len(mistakes) == 0 && len(f.topics(leader)) == 0 {
			mistakes = append(mistakes, &mistake{f.Name(), fmt.Sprintf("it follows %s and handles none of its events; "+
				"take it out of that pipe", leader.Name())})
		}
	}
	return errors.Join(mistakes...)
}

// checkStore finds an option that the follower's store cannot keep.
func (f *Follower) checkStore() error {
	_, hasTransactions := f.app.Factory().(persistence.Transactor)
	able := f.app.RecorderCapabilities()
	needs := ""
	switch {
	case !hasTransactions:
		needs = "it needs a store with transactions"
	case f.park != nil && able.Parking == nil:
		needs = "it parks events, which needs a store that keeps them, such as gormstore"
	case f.partitioning.isDivided() && able.Tracker != nil:
		return &mistake{f.Name(), "it has partitions, and its application writes the Python layout: " +
			"the Python library cannot run a follower with partitions beside this program; take out system.Partitions"}
	case f.partitioning.isDivided() && able.Partitions == nil:
		needs = "it has partitions, which needs a store that keeps them, such as gormstore"
	case f.start != 0 && able.Settings == nil:
		needs = "it does not start at the beginning, which needs a store that keeps settings, such as gormstore"
	default:
		return nil
	}
	return &mistake{f.Name(), needs + "; its store is " + bridge.StoreOf(f.app)}
}
