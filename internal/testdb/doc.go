// Package testdb gives every test its own empty database: SQLite in memory,
// SQLite in a file, or PostgreSQL.
//
// A test asks for a handle and forgets about it; handles are closed, files
// removed and databases dropped when the test ends:
//
//	db := testdb.OpenPostgres(t) // or SQLiteFile(t), SQLiteMemory(t)
//
// A test of something that every store must do runs once per backend:
//
//	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
//		db := open(t)
//		...
//	})
//
// A test that needs a second handle, or another process, on the same database
// asks for its address instead: [Postgres] and [SQLiteFileDSN] return a DSN.
//
// # PostgreSQL
//
// The first test that asks for PostgreSQL starts a private cluster: a new data
// folder in memory (/dev/shm), listening on a free loopback port, run as an
// unprivileged account if the tests run as root. That takes about a second, and
// the rest of the test process shares the cluster. Its folder is a temporary
// folder instead if TMPDIR is set or if less than 2 GiB of memory are left;
// clusters that sync always use a temporary folder. A package that uses
// PostgreSQL ends the cluster from its TestMain, which also looks for leaked
// goroutines:
//
//	func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }
//
// Nothing is left when the tests are killed: a guard process, which notices the
// end of the test process, stops the server and removes the folder.
//
// The shared cluster runs without fsync, since its databases do not outlive the
// tests. Tests of durability and of outages start their own cluster with
// [NewCluster], which syncs by default and can be stopped and started.
//
// # Environment
//
// A variable that is a switch is on unless it is empty, 0 or false.
//
//   - POSTGRES_DSN names a server to use in place of the shared cluster. Its
//     user must be allowed to create databases. Databases of killed tests stay
//     there; their names begin with es_test_.
//   - CI is a switch: tests try every combination and search longer; see
//     [Exhaustive] and [Sample].
//   - CI and REQUIRE_POSTGRES are switches: if PostgreSQL is missing, tests
//     that need it fail instead of being skipped.
//   - FULL is a switch: tests use their full figures; see [Figure].
package testdb
