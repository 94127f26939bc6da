// Package system connects applications: followers process the events of leaders, each event once and in order, in
// whatever process it was recorded.
//
// # Followers
//
// A follower is an application with a policy, which is called with every event of the applications that it follows:
//
//	type Counters struct {
//		*application.Application
//		counters *application.Repository[Counter]
//	}
//
//	func (c *Counters) Policy(ctx context.Context, event domain.Event, processing *application.ProcessingEvent) error {
//		switch data := event.Data.(type) {
//		case school.TrickAdded:
//			counter, err := c.counters.Get(ctx, CounterID(data.Trick))
//			...
//			counter.Increment()
//			processing.Collect(counter)
//		}
//		return nil
//	}
//
// What a policy collects, what it writes to tables of the service through the transaction in its ctx (gormstore.Tx), and
// the follower's position are stored in one transaction. So each event has these effects exactly once, whatever crashes.
// Effects elsewhere (mails, calls of other services) happen at least once.
//
// # Systems
//
// A System says who follows whom. A Pipe is a chain: each application in it follows the one before.
//
//	sys, err := system.New(
//		system.Pipe(system.App("TrainingSchool", school.New), system.App("Counters", NewCounters)),
//	)
//
// # Runners
//
// A Runner makes the applications of a system and runs the followers. NewRunner is for services: every follower has a
// goroutine, is woken by saves in the same process, and polls for those of others.
//
//	runner, err := system.NewRunner(sys, application.WithStore(gormstore.New(db)))
//	err = runner.Run(ctx) // until ctx ends; or Start and Stop
//	dogs, err := system.Get[*school.TrainingSchool](runner)
//
// NewSingleThreadedRunner is for tests and commands: followers process what a save recorded before the save returns, in
// the order in which they are defined.
//
// # Failures
//
// A follower whose policy fails stops at that event and tries again, later each time; it never skips. Statuses says so.
// The save that recorded the event has succeeded all the same.
package system
