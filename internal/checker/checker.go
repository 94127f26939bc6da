package checker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Target is what Check looks at.
type Target struct {
	// Application is the name of the application, for the problems' texts.
	Application string
	// Recorder has the application's events and positions.
	Recorder persistence.ProcessRecorder
	// Snapshots has its snapshots; nil leaves them out.
	Snapshots persistence.AggregateRecorder
	// Mapper opens every event; nil leaves the states alone.
	Mapper *mapper.Mapper
	// Upstreams are the logs that the application follows, by name.
	Upstreams map[string]persistence.ApplicationRecorder
}

// Problem is one violation of what the stores guarantee.
type Problem struct {
	Application string
	// OriginatorID and Version are those of the event concerned; they are zero
	// if the problem is not about one.
	OriginatorID uuid.UUID
	Version      int64
	// NotificationID is the position concerned, or 0.
	NotificationID int64
	// Text says what is wrong.
	Text string
}

// String says what the problem is about, and what it is.
func (p Problem) String() string {
	where := p.Application
	if p.NotificationID > 0 {
		where += fmt.Sprintf(" notification %d", p.NotificationID)
	}
	if p.OriginatorID != uuid.Nil {
		where += fmt.Sprintf(" originator %s version %d", p.OriginatorID, p.Version)
	}
	return where + ": " + p.Text
}

// Check reads the whole log of an application and reports every violation of
// what stores guarantee:
//
//  1. notification ids ascend;
//  2. the versions of each originator follow each other without a gap or a
//     repetition, in the order of the ids;
//  3. each originator's events are the ones in the log;
//  4. snapshots are not ahead of their originator;
//  5. states can be opened and decoded (if there is a Mapper);
//  6. positions, also those of partitions, are not ahead of the logs that they
//     are in, and partitions are complete.
//
// Tests, the management commands and the admin pages share it. It may run while
// the application is in use. It reads every event twice, from the log and from
// its originator, and keeps a few numbers for each originator in memory. The
// problems of the log come first, then those of the originators in the order of
// their ids. The error is the recorder's; problems found so far are returned
// with it.
func Check(ctx context.Context, c Target) ([]Problem, error) {
	k := &checker{Target: c, seed: maphash.MakeSeed(), streams: map[uuid.UUID]stream{}}
	if err := k.log(ctx); err != nil {
		return k.problems, err
	}
	for _, id := range slices.SortedFunc(maps.Keys(k.streams), compareIDs) {
		if err := k.originator(ctx, id, k.streams[id]); err != nil {
			return k.problems, err
		}
	}
	return k.problems, k.positions(ctx)
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

type checker struct {
	Target
	seed     maphash.Seed
	streams  map[uuid.UUID]stream
	position int64
	problems []Problem
}

// stream is what is remembered of an originator's events, so that they can be
// compared with those of another reading.
type stream struct {
	version int64
	sum     uint64 // over all events, in their order
	damaged bool   // the order of the versions is not the one of the ids
}

// with returns the stream with one more event.
func (k *checker) with(s stream, e *persistence.StoredEvent) stream {
	var h maphash.Hash
	h.SetSeed(k.seed)
	maphash.WriteComparable(&h, s.sum)
	maphash.WriteComparable(&h, e.OriginatorVersion)
	maphash.WriteComparable(&h, e.Topic)
	h.Write(e.State)
	s.version, s.sum = e.OriginatorVersion, h.Sum64()
	return s
}

func (k *checker) found(p Problem, format string, args ...any) {
	p.Application, p.Text = k.Application, fmt.Sprintf(format, args...)
	k.problems = append(k.problems, p)
}

// log checks guarantees 1, 2 and 5.
func (k *checker) log(ctx context.Context) error {
	for {
		page, err := k.Recorder.SelectNotifications(ctx, persistence.NotificationRange{After: k.position, Limit: persistence.MaxPage})
		if err != nil || len(page) == 0 {
			return err
		}
		before := k.position
		for _, n := range page {
			k.notification(n)
		}
		if k.position == before { // such a store would never end
			return nil
		}
	}
}

func (k *checker) notification(n persistence.Notification) {
	where := Problem{OriginatorID: n.OriginatorID, Version: n.OriginatorVersion, NotificationID: n.ID}
	if n.ID <= k.position {
		k.found(where, "follows notification %d in the log", k.position)
	}
	before, seen := k.streams[n.OriginatorID]
	switch {
	case !seen && !k.isFirst(n):
		k.found(where, "is the first of its originator in the log")
	case seen && n.OriginatorVersion != before.version+1:
		k.found(where, "follows version %d of its originator", before.version)
		before.damaged = before.damaged || n.OriginatorVersion <= before.version
	}
	k.streams[n.OriginatorID] = k.with(before, &n.StoredEvent)
	k.position = max(k.position, n.ID)
	if k.Mapper == nil {
		return
	}
	if _, err := k.Mapper.NotificationToParts(n); err != nil {
		k.found(where, "cannot be read: %v", err)
	}
}

// isFirst reports whether an originator may begin with this version. Without a
// definition both usual beginnings are taken for right.
func (k *checker) isFirst(n persistence.Notification) bool {
	if k.Mapper != nil {
		if schema, ok := k.Mapper.SchemaOf(n.Topic); ok {
			return n.OriginatorVersion == schema.First()
		}
	}
	return n.OriginatorVersion == 0 || n.OriginatorVersion == 1
}

// originator checks guarantees 3 and 4. The snapshot is read first, because its
// originator may grow in between.
func (k *checker) originator(ctx context.Context, id uuid.UUID, log stream) error {
	snapshot := int64(-1)
	if k.Snapshots != nil {
		var err error
		if snapshot, err = k.newest(ctx, k.Snapshots, id); err != nil {
			return err
		}
	}
	if err := k.compare(ctx, id, log); err != nil || snapshot <= log.version {
		return err
	}
	newest, err := k.newest(ctx, k.Recorder, id) // what was saved since the log was read
	if err == nil && snapshot > newest {
		k.found(Problem{OriginatorID: id, Version: snapshot}, "has a snapshot, but the originator ends at version %d", newest)
	}
	return err
}

// compare reads the events of an originator that the log has.
func (k *checker) compare(ctx context.Context, id uuid.UUID, log stream) error {
	own := stream{version: -1}
	for stored, err := range k.Recorder.SelectEvents(ctx, id, persistence.EventRange{}) {
		if err != nil {
			return err
		}
		if stored.OriginatorVersion > log.version { // saved since
			break
		}
		own = k.with(own, &stored)
	}
	where := Problem{OriginatorID: id, Version: log.version}
	switch {
	case log.damaged:
	case own.version < log.version:
		k.found(where, "is in the log, but the originator ends at version %d", own.version)
	case own.sum != log.sum:
		k.found(where, "and those before it are not the same in the log and in the originator")
	}
	return nil
}

// newest is the highest version of an originator, or -1.
func (k *checker) newest(ctx context.Context, r persistence.AggregateRecorder, id uuid.UUID) (int64, error) {
	for stored, err := range r.SelectEvents(ctx, id, persistence.EventRange{Descending: true, Limit: 1}) {
		return stored.OriginatorVersion, err
	}
	return -1, nil
}

// positions checks guarantee 6. The position is read first, because the log may
// grow in between.
func (k *checker) positions(ctx context.Context) error {
	for _, upstream := range slices.Sorted(maps.Keys(k.Upstreams)) {
		position, err := k.highestPosition(ctx, upstream)
		if errors.Is(err, capability.ErrPartitionsDamaged) {
			k.found(Problem{}, "its position in %s cannot be told: %v", upstream, err)
			continue
		}
		if err != nil {
			return err
		}
		head, err := k.Upstreams[upstream].NewestNotificationID(ctx)
		if err != nil {
			return err
		}
		if position > head {
			k.found(Problem{NotificationID: position}, "position in %s is ahead of its log, which ends at %d; "+
				"the log was restored from a backup, or the position was edited", upstream, head)
		}
	}
	return nil
}

// highestPosition is the position in a log, or the highest one of the partitions
// of a divided follower.
func (k *checker) highestPosition(ctx context.Context, upstream string) (int64, error) {
	position, err := k.Recorder.MaxTrackingID(ctx, upstream)
	recorder := capability.OfRecorder(k.Recorder).Partitions
	if recorder == nil || err != nil {
		return position, err
	}
	set, err := recorder.Partitions(ctx, upstream)
	for _, p := range set.Partitions {
		position = max(position, p.Position)
	}
	return position, err
}
