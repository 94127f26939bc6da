// Package copylog moves the log of an application between a database of GORM
// and NATS JetStream. Events keep their notification ids, so that followers go
// on from their positions.
//
// Stop what writes to the log, copy it, compare, and start the service with the
// other store. A copy that was interrupted can be continued. [Compare] reads
// both logs, and checks both stores for violations of what is guaranteed, as
// the command check does. Snapshots are not copied: they are made again.
//
// [NewCommand] makes a command for the program of a service that copies and
// compares.
package copylog
