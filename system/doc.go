// Package system connects applications: followers process the events of leaders, each event once and in order, whatever
// process has recorded it.
//
// # Followers
//
// A follower is an application with a policy, which is called with every event of the applications that it follows:
//
//	func (p *Popularity) Policy(ctx context.Context, event domain.Event, processing *application.ProcessingEvent) error {
//		added, ok := event.Data.(school.TrickAdded)
//		if !ok {
//			return nil
//		}
//		trick, err := p.tricks.Get(ctx, TrickID(added.Trick))
//		if err != nil {
//			return err
//		}
//		trick.Learn()
//		processing.Collect(trick)
//		return nil
//	}
//
// What it collects is saved for it; new events carry the correlation id of the event that caused them, and its id as
// their causation id. To save by itself is application.ErrSaveInPolicy. A follower that is a [TopicFilter] is called for
// some topics only, and its position moves over the others.
//
// TopicFilter, [Parker], [StatelessFollower] and [ResetableFollower] are optional. A method with another name or signature
// is overlooked without a word, so have the compiler look:
//
//	var _ system.Parker = (*Popularity)(nil)
//
// # Exactly once
//
// On a store with transactions (the package gormstore), these commit together or not at all: what a policy collects, what
// it writes to tables of the service through the transaction in its ctx (gormstore.Tx), and the follower's position. So
// each event has these effects exactly once, whatever crashes, and however many processes run the same follower: one of
// them works, and another takes over when it ends. Several events are processed in one transaction, which ends after 500
// events or 20 ms; the later ones see what was made of the earlier ones.
//
// On a store without transactions that is true of what a policy collects. Effects elsewhere (mails, calls of other
// services) happen at least once on every store; have them wait for the commit with persistence.OnCommit, and they happen
// at most once.
//
// # Systems
//
// A [System] says who follows whom. A [Pipe] is a chain: each application in it follows the one before. Applications may
// have several leaders and several followers, and may follow each other if one pipe says so: Pipe(a, b, a).
//
//	sys, err := system.New(
//		system.Pipe(system.App("TrainingSchool", school.New), system.App("Popularity", NewPopularity)),
//	)
//
// Any application can lead. Its events are decoded with its own definitions, cipher and compressor. A [Leader]
// may also be the log of another service, which comes into a system by [Upstream]; the package remotelog has one, over
// HTTP.
//
// # Runners
//
// A runner makes the applications of a system and runs the followers, from what was recorded before on. [NewRunner] is for
// services: every follower has a goroutine, is woken by saves in the same process, and polls twice a second for those of
// others; with gormstore.WithListener it is woken by theirs, too. It ends when ctx does, which cancels followers, or by
// [Runner.Stop], which has them finish their batch.
//
//	runner, err := system.NewRunner(sys, application.WithStore(gormstore.New(db)))
//	dogs, err := system.Get[*school.TrainingSchool](runner)
//	err = runner.Run(ctx) // or Start and Stop
//
// [NewSingleThreadedRunner] is for tests and commands: followers process what a save recorded before the save returns, in
// the order in which they are defined.
//
// To read its own writes from a follower's view, a caller waits with WaitFor until the follower has got to what it has
// saved; with persistence.WaitFor also for followers of other processes:
//
//	recordings, err := dogs.Save(ctx, dog)
//	last := recordings[len(recordings)-1].Notification.ID // a save of nothing has none
//	err = runner.WaitFor(ctx, "Popularity", "TrainingSchool", last)
//
// Wait after the commit. Inside the transaction of the save WaitFor can never succeed: the follower does not see what is not
// committed.
//
// A command has a follower catch up by CatchUp, which both have, and which is a dry run in a transaction that is rolled
// back.
//
// # Projections
//
// A projection is a follower that keeps a table of the service's own, the view, through the transaction in its ctx. To
// build the view anew, reset the follower's position and clear the table in one transaction.
//
// # Failures
//
// A policy that returns an error, or panics, has processed nothing of the event. The follower stands still there, and never
// skips it; the events before it are processed. It tries again after a second, and then after longer times, up to a
// minute, until it succeeds. Statuses and Err tell who stands still, where, since when and why. The save that recorded
// the event has succeeded all the same, and other followers go on.
//
// A follower that is a [Parker] may put such an event aside and go on. All later events of the same originator are then
// put aside as well, so that none is processed out of order, until RetryParked processes them. Of a follower that has
// never parked anything RetryParked is 0 and nil.
//
// A follower whose position is ahead of its leader's log, as after a restore of a backup, is stopped with an [AheadError].
// It stays so in processes that are started later, until its position is another one.
//
// A policy that hangs is an event in Statuses since when it is processed, and a warning after a minute.
//
// What Statuses tells is also kept in the store, in the table follower_status, for other processes: at each change, and
// every ten seconds, by the database's clock.
//
// # Topics, pauses, and where a follower begins
//
// The topics of a [TopicFilter] are kept with the position, each with the position since which it is processed. A filter
// that grows passes over older events, and a second program under the same name takes events from the first. Both are said
// in the log, in the Note of Statuses and CatchUp, and by the command followers, until the follower is reset or the change
// is accepted.
//
// A follower that is paused, with management.Pause or the command followers pause, processes nothing in any process; its
// State is Paused, and CatchUp and WaitFor return [ErrPaused]. A [HeadStarter] begins at the head of its leaders' logs.
//
// # Testing
//
// A test has a database of its own, in a folder that is removed after it, and the runner that is done when a save returns:
//
//	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
//	err = errors.Join(gormstore.AutoMigrate(db), db.AutoMigrate(&TrickCount{}))
//	runner, err := system.NewSingleThreadedRunner(sys, application.WithStore(gormstore.New(db)))
//	defer runner.Close()
//	dogs, err := system.Get[*school.TrainingSchool](runner)
//	err = runner.Start(ctx)
//	err = dogs.AddTrick(ctx, "Fido", "sit")
//	err = runner.Err() // of the followers
//
// A save returns nil although a follower has failed, so ask Err as well. Followers that only collect can be tested
// without a database. The memory store has no transactions, so projections and parking need gormstore.
//
// # Commands
//
// The package gormstore/management has commands that synchronise followers by hand and reset them. A follower can be reset
// that is a [StatelessFollower] or a [ResetableFollower].
package system
