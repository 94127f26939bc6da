// Package persistencetest is the definition of what a store must do, as tests
// that every store runs: the ones of this module and those of third parties.
//
// A store's own test hands Run a Harness, which says how to make an empty store
// and what the store can do:
//
//	func TestConformance(t *testing.T) {
//		persistencetest.Run(t, persistencetest.Harness{
//			New: func(t testing.TB) persistence.Factory {
//				return mystore.New(emptyDatabase(t))
//			},
//			Reopen: func(t testing.TB, f persistence.Factory) persistence.Factory {
//				return mystore.New(f.(*mystore.Store).Database())
//			},
//			Concurrent: true,
//		})
//	}
//
// That is all. Applications work on a store that passes, and so do followers if
// it has transactions (persistence.Transactor). The suite does not ask for what
// only stores of this module can do, each of them a part of it. On a store
// without that
//
//   - system.New refuses followers with system.Park, system.Partitions,
//     system.StartAtHead, or system.StartAt with another position than 0;
//   - followers cannot be paused or rebuilt, poll for events of other processes,
//     and show their status in their own process only;
//   - originators cannot be deleted, and old snapshots are kept.
//
// # Rows
//
// The suite is a list of rows. Each has a name, which is the name of its
// subtest, and an explanation, which is one sentence of the contract; a row
// that fails prints it. Rows returns the list, for a table in a store's
// documentation. Rows that need an ability which the Harness does not declare
// are not run and not skipped: they are not in the list. LeftOut returns them,
// and Run says which they are. Rows about what only the stores of this module
// can do, such as keep what a follower has parked, have nothing to show for
// others, and pass.
//
// Every row gets its own empty store and works in one of two applications
// there. The other one, the neighbour, has events of the same originators,
// snapshots and positions, and its name differs only in case. When the row is
// done, both applications must hold exactly what was acknowledged to them:
// every event in the log and with its originator, in order, nothing more,
// nothing changed, and no insert's ids among those of another. So a row says
// only what is particular to it.
//
// # Environment
//
//   - FULL=1 uses full figures if the usual ones are reduced: number of
//     writers, events and histories.
//   - PERSISTENCETEST_SEED=n repeats the random histories that began with the
//     seed n. A failing row prints its seed.
package persistencetest
