// Package management gives a service the commands that Django projects have
// from their manage.py: to create the tables, to synchronise followers by hand,
// to reset them, and to look at what is stored.
//
// They run the service's own handlers, so they are part of its program: either
// as all of it,
//
//	func main() {
//		os.Exit(management.Main(management.Config{
//			Open:    openDatabases,
//			Runners: map[string]management.RunnerFunc{"school.runner": newRunner},
//		}))
//	}
//
// or in a root command of cobra that the service has already:
//
//	management.AddCommands(root, config)
//	err := root.ExecuteContext(ctx) // of signal.NotifyContext: Ctrl-C ends it between batches
//	os.Exit(management.ExitCode(err))
//
// # Commands
//
//	migrate [--database ALIAS] [--plan]          create the tables for events
//	schema --dialect sqlite|postgres             print the SQL for that, without a database
//	sync_followers [-n] [-v 0..3] [follower ...] process what followers have not processed yet
//	reset_follower [-n] [-u app,...] [follower]  have a follower forget what it has processed
//	contents [application ...]                   show what the databases contain and how it is stored
//	followers                                    show the state of followers
//	followers pause follower [upstream ...]      keep a follower from processing events, in every process
//	followers resume follower [upstream ...]     have it go on
//	followers skip follower [upstream ...]       move a follower to the end of the logs that it follows
//	followers continue follower [upstream ...]   have a follower go on after the newest events of its leader were deleted
//	followers accept follower [upstream ...]     accept what a follower has missed because its topics have changed
//	check [application ...]                      look for violations of what is guaranteed
//	events application [originator]              show events
//	parked [follower]                            show the events that followers have parked
//	retry_parked follower                        have a follower process them
//	discard_parked follower upstream id          have a follower forget one of them
//	delete_originator application id             delete all events of one aggregate
//	keygen                                       print a new key for CIPHER_KEY
//
// Results go to the standard output, and what went wrong to the standard error.
// The exit code is 0, 1 for a failure, 2 for a wrong call, and 130 for an
// interrupt. On a terminal there are colours, unless NO_COLOR is set, and
// progress is shown.
//
// # From a program
//
// [Run] runs a command and returns its exit code. The commands contents,
// followers, check, events and parked print JSON with -o json.
//
// # The runner
//
// Most commands work with the followers of a runner. If a service has several,
// the setting EVENTSOURCING_RUNNER names the one to use. A runner need not be
// started; commands make it with the databases open, and close it.
//
// # A copy of a database
//
// In a copy, the followers would do again what the followers of the original
// have done or are about to do, such as send mails. Pause them before anything
// else is started; or skip, if their positions were not copied. A pause is in
// the database, and every process respects it that runs this package. Django
// projects do not.
//
// # Resetting a follower
//
// A follower that forgets its positions processes all events again. That is
// right in two cases, which its author declares: processing again changes
// nothing ([system.Replayable]), or it can clear what it has made
// ([system.Resettable]). All others are refused, unless forced.
package management
