// Package faultdb makes a database fail on purpose, at a call that a test
// chooses.
//
// An [Injector] is between database/sql and a driver. It numbers the driver's
// calls and asks a [Plan] about each:
//
//	faults := faultdb.New()
//	db := sql.OpenDB(faults.Connector(connector))
//	faults.Arm(faultdb.Nth(3, faultdb.Fault{When: faultdb.After, Err: io.ErrUnexpectedEOF}))
//	...           // the third call has its effect, and its reply is lost
//	faults.Disarm()
//
// A sweep does this for N = 1, 2, 3 and so on until the operation under test
// makes fewer than N calls: then every call of the operation has failed once.
//
// The package pgproxy below does the same to the wire of PostgreSQL, where only
// a real connection will do.
package faultdb
