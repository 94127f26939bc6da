// Package application defines applications. An application offers commands and
// queries on the aggregates of one kind of business, and keeps their events in
// one log.
//
// # Defining an application
//
// An application is a struct that embeds an [Application]. Its methods are all
// that can be done and asked:
//
//	type TrainingSchool struct {
//		*application.Application
//		dogs *application.Repository[Dog]
//	}
//
//	func New(options ...application.Option) (*TrainingSchool, error) {
//		app, err := application.New("TrainingSchool", options...)
//		if err != nil {
//			return nil, err
//		}
//		dogs, err := application.NewRepository(app, Dogs)
//		return &TrainingSchool{app, dogs}, err
//	}
//
// The name is in every row that the application stores, so it must not change.
// [New] does not touch the database. Without a setting, events are kept in
// memory; [WithStore] gives it a store.
//
// # Saving
//
// [Application.Save] stores the new events of any number of aggregates, folds
// and logs: all of them, or none. It returns them with their positions in the
// log. If it fails, they stay pending and the save can be tried again. If ctx
// carries a transaction of the store they are part of it; a rollback makes them
// pending again.
//
//	saved, err := school.Save(ctx, dog, otherDog) // saved.Position, saved.Events
//
// # Repositories
//
// A [Repository] loads the aggregates of one definition: [Repository.Get] the
// latest version, [Repository.GetAt] an earlier one. If the aggregate does not
// exist, the error is an [ErrAggregateNotFound]. Every caller gets its own
// aggregate.
//
// # Conflicts
//
// If two callers change the same version of an aggregate, the first save
// succeeds. The other caller gets a persistence.ConflictError, and nothing of
// its save is stored. [Repository.Update] loads, changes and saves an
// aggregate, and does it again after a conflict:
//
//	return s.dogs.Update(ctx, DogID(name), func(d *Dog) error { d.AddTrick(trick); return nil })
//
// [Repository.UpdateAt] is for a caller that has seen the aggregate at a
// version.
//
// # Cache
//
// With AGGREGATE_CACHE_MAXSIZE the most recently used aggregates stay in
// memory. A Get then reads only what is new (fast-forward) and hands out a
// copy. Without fast-forward it reads nothing, and does not see what other
// processes have saved. Loads in a transaction do not use the cache.
//
// # Snapshots
//
// With snapshots an aggregate is read from its newest snapshot and the events
// after it. Snapshots are taken every so many events (SNAPSHOTTING_INTERVALS,
// or [WithSnapshotting]) or on demand ([Repository.TakeSnapshot]). A snapshot
// that cannot be used, because its aggregate has changed since, is logged and
// passed over. A save never fails because a snapshot cannot be taken.
//
// Both a cache and snapshots need types that are read as they were written.
// [NewRepository] returns an error if one would not, and names the field;
// domain.State is the remedy.
//
// # Settings
//
// Settings come from, first to last:
//
//  1. an option in code, such as [WithStore];
//  2. NAME_KEY in [WithEnv];
//  3. KEY in WithEnv;
//  4. NAME_KEY in the environment of the process (or [WithLookup]);
//  5. KEY in the environment of the process;
//  6. the default.
//
// NAME is the application's name in upper case, with an underscore for every
// character that is neither letter nor digit: TRAININGSCHOOL_CIPHER_KEY. An
// empty value counts as none, but an empty PERSISTENCE_MODULE, GORM_DB_ALIAS,
// TRANSCODER_TOPIC, COMPRESSOR_TOPIC, CIPHER_TOPIC, CIPHER_KEY or
// CIPHER_KEY_FILE is an error. An empty DJANGO_DB_ALIAS is the default
// database, as in Python. Truth values are y, yes, t, true, on, 1 and n, no, f,
// false, off, 0, in any case. A value that cannot be used is an error of New,
// never a default; all of them are reported together.
//
//	KEY                                   MEANING                                               DEFAULT
//	PERSISTENCE_MODULE                    name of the store: memory, or another linked in       memory
//	GORM_DB_ALIAS, DJANGO_DB_ALIAS        registered database, for the store gormstore          default
//	IS_SNAPSHOTTING_ENABLED               whether there are snapshots                           n, or y with intervals
//	SNAPSHOTTING_INTERVALS                events between snapshots: "Dog=50,Visit=20", or "50"  none
//	SNAPSHOTS_KEPT                        snapshots that are kept of an aggregate; 0 is all     2
//	TRANSCODER_TOPIC                      the Python library's, for its layout                  with eventsourcing_django
//	COMPRESSOR_TOPIC                      zlib, zstd, or the name in Python                     none
//	CIPHER_TOPIC                          aes, or the name in Python                            with a key, that of the layout
//	CIPHER_KEY                            keys in base64; the first one encrypts                none
//	CIPHER_KEY_FILE                       file with what CIPHER_KEY would have                  none
//	AGGREGATE_CACHE_MAXSIZE               aggregates in each repository's cache, from 1         no cache
//	AGGREGATE_CACHE_FASTFORWARD           whether a Get reads what is new                       y
//	AGGREGATE_CACHE_FASTFORWARD_SKIPPING  whether a Get does not wait for another's reading     n
//	DEEPCOPY_FROM_AGGREGATE_CACHE         n has no effect: a Get always hands out a copy        y
//	EVENTSOURCING_RUNNER                  used by management commands                           none
//
// A key alone means that states are encrypted; a cipher without a key is an
// error. If both CIPHER_KEY and CIPHER_KEY_FILE are set, the one that comes
// first in the list above counts; if they are at the same level, CIPHER_KEY.
// Errors and logs never show keys.
//
// # Metadata
//
// Metadata, such as the cause of a change, is passed in ctx and stored with
// every event: see [WithMetadata].
//
// # The log
//
// All events of an application are one log, see [Application.Log]:
// [Log.Subscribe] streams its events, and [Log.DeleteOriginator] deletes an
// aggregate for good. Package system has followers, which process each event
// exactly once.
//
// An [EventSourcedLog] is a separate sequence of events inside it, such as the
// ids of all dogs. It also reads the history of one aggregate.
package application
