// Package system connects applications: followers process the events of
// leaders, each event once and in order, whichever process has recorded it.
//
// # Followers
//
// A follower is an application with handlers, each for the events of one
// payload:
//
//	func NewPopularity(options ...application.Option) (*Popularity, error) {
//		app, err := application.New("Popularity", options...)
//		if err != nil {
//			return nil, err
//		}
//		p := &Popularity{}
//		if p.tricks, err = application.NewRepository(app, Tricks); err != nil {
//			return nil, err
//		}
//		p.Follower, err = system.NewFollower(app, system.On(p.learned))
//		return p, err
//	}
//
//	func (p *Popularity) learned(ctx context.Context, e domain.Recorded[school.TrickAdded]) error {
//		return p.tricks.Update(ctx, TrickID(e.Data.Trick), func(t *Trick) error { t.Learn(); return nil })
//	}
//
// The topics of a payload, former ones included, are found in the definitions
// of the leaders; [New] reports a payload that none of them defines. Other
// options say what else the follower can do: [OnEvery], [Resettable], [Effect],
// [Replayable], [Park], [StartAt] and [StartAtHead].
//
// # Exactly once
//
// These commit together or not at all: what a handler saves, in its own
// application or in others with the same store; what it writes to tables of the
// service through the transaction in its ctx (gormstore.Tx); and the follower's
// position. So each event has these effects exactly once, whatever crashes, and
// however many processes run the same follower: one of them works, and another
// takes over when it ends. New events carry the correlation id of the event
// that caused them, and its id as their causation id. Several events are
// processed in one transaction, see [Config]; the later ones see the effects of
// the earlier ones.
//
// # Calls of other services
//
// A handler that calls another service would hold a transaction and its locks
// meanwhile. [Effect] makes the call outside of transactions, for several
// originators at the same time, and then records its result together with the
// position:
//
//	p.Follower, err = system.NewFollower(app, system.Effect(p.charge, p.charged))
//
//	func (p *Payments) charge(ctx context.Context, e domain.Recorded[Ordered]) (Receipt, error) {
//		return p.provider.Charge(ctx, e.ID, e.Data.Amount) // the event's ID is the idempotency key
//	}
//
//	func (p *Payments) charged(ctx context.Context, e domain.Recorded[Ordered], r Receipt) error {
//		return p.orders.Update(ctx, e.OriginatorID, func(o *Order) error { return o.Paid(r) })
//	}
//
// The call is made at least once, and its result is recorded exactly once. What
// waits for the commit with persistence.OnCommit happens at most once.
//
// # Systems
//
// A [System] says which applications follow which. A [Pipe] is a chain: each
// application in it follows the one before. Applications may have several
// leaders and several followers, and may follow each other if one pipe says so:
// Pipe(a, b, a).
//
//	dogs, err := school.New(application.WithStore(store))
//	popularity, err := NewPopularity(application.WithStore(store))
//	sys, err := system.New(system.Pipe(dogs, popularity))
//
// Any application can lead. Its events are decoded with its own definitions,
// cipher and compressor. A [Leader] may also be the log of another service;
// package remotelog has one, over HTTP.
//
// # Runners
//
// [NewRunner] is for services. Every follower has a goroutine, which is woken
// by saves in the same process, and polls for saves of other processes; with
// gormstore.WithListener it is woken by those, too. The runner ends when ctx
// ends, which cancels handlers, or by [Runner.Stop], which lets them finish
// their batch. It does not close applications.
//
//	runner, err := system.NewRunner(sys, system.Config{})
//	err = runner.Run(ctx) // or Start and Stop
//
// [NewSingleThreadedRunner] is for tests and commands: followers process what a
// save recorded before the save returns, in the order in which they are
// defined.
//
// To read its own writes from what a follower makes, a caller waits after the
// commit until the follower has processed them:
//
//	err = dogs.AddTrick(ctx, "Fido", "sit")
//	err = runner.WaitFor(ctx, popularity)
//
// For commands, both runners have CatchUp, which lets one follower process the
// events that exist. In a transaction that is rolled back it is a dry run.
// [Runner.Pause] and [Runner.Resume] stop and start a follower in every
// process, and [Runner.Rebuild] clears what it has made and processes all
// events again.
//
// # Failures
//
// A handler that returns an error, or panics, has processed nothing of the
// event. The follower stops there, and never skips it; the events before it are
// processed. It tries again after a second, and then after longer times, up to
// a minute, until it succeeds. Statuses and Err tell which follower has
// stopped, where, since when and why. The save that recorded the event has
// succeeded all the same, and other followers go on.
//
// A follower with [Park] may park such an event and go on. All later events of
// the same originator are then parked as well, so that none is processed out of
// order, until RetryParked processes them.
//
// A follower whose position is beyond its leader's log, as after a restore of a
// backup, is stopped with an [ErrAhead]. It stays stopped, also in processes
// that are started later, until its position is changed.
//
// If a handler hangs, Statuses shows the event, and since when it is being
// processed. After a minute the runner also logs a warning.
//
// The store also keeps what Statuses returns, in the table follower_status, so
// that other processes can read it. It is written at each change and every ten
// seconds, with the time of the database's clock.
//
// # Topics
//
// The topics that a follower handles are kept with the position, each with the
// position since which it is processed. A follower that handles more than
// before has passed over older events, and a second program under the same name
// takes events from the first. Log lines, the Note of Statuses and CatchUp, and
// the command followers say so, until the follower is reset or the change is
// accepted.
//
// # Testing
//
// A test has its own database, in a folder that is removed after it, and the
// runner that is done when a save returns:
//
//	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
//	store := gormstore.New(db)
//	dogs, err := school.New(application.WithStore(store))
//	counts, err := trickcounts.New(store)
//	err = gormstore.AutoMigrate(db)
//	sys, err := system.New(system.Pipe(dogs, counts))
//	runner, err := system.NewSingleThreadedRunner(sys)
//	err = runner.Start(ctx)
//	err = dogs.AddTrick(ctx, "Fido", "sit")
//	err = runner.Err() // of the followers
//
// A save returns nil although a follower has failed, so ask Err as well.
// Followers without tables can be tested on the memory store, unless they have
// [Park]: it keeps no parked events. All applications of the system share it:
// application.WithStore(memory.New()).
//
// # Commands
//
// Package gormstore/management has commands that synchronise followers by hand
// and reset them. A follower can be reset that is [Replayable] or [Resettable].
package system
