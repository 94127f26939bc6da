// Package natsstore keeps the events of applications on NATS JetStream, so that
// they survive the loss of a machine. It is experimental: until the first
// release that says otherwise, its API and the layout of its streams may
// change. It is a separate module, which uses internal packages of
// github.com/eventsourcing-go/eventsourcing: give both modules the same version,
// and upgrade them together.
//
//	store, err := natsstore.Open(ctx, "nats://nats-1:4222,nats://nats-2:4222,nats://nats-3:4222", natsstore.Config{
//		Monitoring: []string{"http://nats-1:8222", "http://nats-2:8222", "http://nats-3:8222"},
//	})
//	school, err := school.New(application.WithStore(store))
//
// # What it needs
//
// A cluster of three or more servers of NATS 2.12 or later, with JetStream,
// sync_interval: always, max_payload: 32MB, and limits.max_batch_size as large
// as the largest save. The streams are made once by Create, as tables are by a
// migration:
//
//	err := natsstore.Create(ctx, conn, natsstore.Config{}, "TrainingSchool")
//
// When a store first uses the streams of an application, and every 30 seconds
// while it is used, it compares their settings with what it needs. Settings
// that could delete events are refused with a *SettingsError. So are those that
// weaken durability, unless Config.Waive names them.
//
// # What it promises
//
// The promises of package persistence, which its conformance suite tests. Each
// application has a stream of events, in which a notification id is a sequence
// of the stream. A save is one message or one atomic batch; the server compares
// the last sequence of each originator before it stores anything. A write whose
// answer is lost is sent again and recognised by its own id, so an outcome is
// unknown only if ctx or Config.Timeout ends first.
//
// A read asks the leader of the stream for the end of what is to be read, and
// reads up to it from any replica, so that a caller reads its own writes.
// Sequences have no holes, because nothing is ever deleted. A hole in a page of
// the log, or a version that is missing from an originator, is a *DamageError:
// the files of a replica are damaged. It is never skipped.
//
// # What it does not do
//
// The store has no transactions for its users. Followers with a read model keep
// it and their positions in another store, such as package gormstore, and read
// the log from here. A follower that only saves aggregates of its application
// may have that application here: its batch is stored as one atomic batch
// (Store.Transaction). An originator cannot be deleted.
package natsstore
