package persistencetest

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// parkingRows are about ParkingRecorder. They do nothing with a recorder that is
// none.
var parkingRows = []row{{
	name: "parked events come back as they were",
	says: "Parked events are returned with all that was given, to the microsecond, in the order of their ids.",
	run: parking(func(t testing.TB, s *store, r capability.ParkingRecorder) {
		late, early := parked(kennels, 9, "Fido", 3), parked(kennels, 4, "Rex", 1)
		must(t, r.ParkEvent(s.ctx, late), r.ParkEvent(s.ctx, early))
		wantParked(t, s.ctx, r, kennels, early, late)
	}),
}, {
	name: "parked events are of one upstream application and one follower",
	says: "What is parked of an upstream application is not among that of another one or of another follower, and no name means all upstream applications.",
	run: parking(func(t testing.TB, s *store, r capability.ParkingRecorder) {
		fido, rex := parked(kennels, 9, "Fido", 3), parked(shelters, 4, "Rex", 1)
		must(t, r.ParkEvent(s.ctx, fido), r.ParkEvent(s.ctx, rex))
		wantParked(t, s.ctx, r, kennels, fido)
		wantParked(t, s.ctx, r, shelters, rex)
		wantParked(t, s.ctx, r, "", rex, fido)
		wantParked(t, s.ctx, s.neighbour.process.(capability.ParkingRecorder), "")
	}),
}, {
	name: "an event is parked once",
	says: "Parking an event that is parked leaves it as it was.",
	run: parking(func(t testing.TB, s *store, r capability.ParkingRecorder) {
		first := parked(kennels, 9, "Fido", 3)
		second := first
		second.Error = "another error"
		must(t, r.ParkEvent(s.ctx, first), r.ParkEvent(s.ctx, second))
		wantParked(t, s.ctx, r, kennels, first)
	}),
}, {
	name: "an event that was unparked is forgotten",
	says: "An unparked event is not returned, others are, and it can be parked again.",
	run: parking(func(t testing.TB, s *store, r capability.ParkingRecorder) {
		fido, rex, again := parked(kennels, 9, "Fido", 3), parked(kennels, 12, "Rex", 1), parked(kennels, 9, "Fido", 3)
		again.Error = "another error"
		must(t, r.ParkEvent(s.ctx, fido), r.ParkEvent(s.ctx, rex), r.UnparkEvent(s.ctx, kennels, 9))
		wantParked(t, s.ctx, r, kennels, rex)
		must(t, r.ParkEvent(s.ctx, again))
		wantParked(t, s.ctx, r, kennels, again, rex)
	}),
}, {
	name: "an event that is not parked cannot be unparked",
	says: "Unparking an event that is not parked, or of another upstream application, is an ErrProgramming and changes nothing.",
	run: parking(func(t testing.TB, s *store, r capability.ParkingRecorder) {
		fido := parked(kennels, 9, "Fido", 3)
		must(t, r.ParkEvent(s.ctx, fido))
		wantIs(t, "UnparkEvent", r.UnparkEvent(s.ctx, kennels, 8), persistence.ErrProgramming)
		wantIs(t, "UnparkEvent", r.UnparkEvent(s.ctx, shelters, 9), persistence.ErrProgramming)
		wantParked(t, s.ctx, r, kennels, fido)
	}),
}, {
	name: "originators with parked events are found",
	says: "Of some originators those are found that have events of an upstream application parked, each with its first one.",
	run: parking(func(t testing.TB, s *store, r capability.ParkingRecorder) {
		must(t, r.ParkEvent(s.ctx, parked(kennels, 12, "Fido", 4)), r.ParkEvent(s.ctx, parked(kennels, 9, "Fido", 3)),
			r.ParkEvent(s.ctx, parked(kennels, 10, "Rex", 1)), r.ParkEvent(s.ctx, parked(shelters, 11, "Daisy", 1)))
		for _, c := range []struct {
			upstream string
			among    []uuid.UUID
			want     map[uuid.UUID]int64
		}{
			{kennels, []uuid.UUID{dog("Fido"), dog("Daisy")}, map[uuid.UUID]int64{dog("Fido"): 9}},
			{shelters, []uuid.UUID{dog("Fido"), dog("Daisy")}, map[uuid.UUID]int64{dog("Daisy"): 11}},
			{kennels, nil, map[uuid.UUID]int64{}},
		} {
			got, err := r.ParkedOriginators(s.ctx, c.upstream, c.among)
			if err != nil || len(got) != len(c.want) || len(got) > 0 && !reflect.DeepEqual(got, c.want) {
				t.Errorf("ParkedOriginators of %s: got %v and the error %v, want %v", c.upstream, got, err, c.want)
			}
		}
	}),
}, {
	name:  "parked events are seen by other processes",
	says:  "What one process has parked and unparked is what another one finds, also if that has looked before.",
	needs: []Feature{Concurrent},
	run: parking(func(t testing.TB, s *store, r capability.ParkingRecorder) {
		other := s.another(t).process.(capability.ParkingRecorder)
		fido, rex := parked(kennels, 9, "Fido", 3), parked(kennels, 12, "Rex", 1)
		must(t, r.ParkEvent(s.ctx, fido))
		wantParked(t, s.ctx, other, kennels, fido)
		must(t, other.ParkEvent(s.ctx, rex), r.UnparkEvent(s.ctx, kennels, 9))
		wantParked(t, s.ctx, other, kennels, rex)
		wantParked(t, s.ctx, r, kennels, rex)
		wantIs(t, "UnparkEvent", other.UnparkEvent(s.ctx, kennels, 9), persistence.ErrProgramming)
	}),
}, {
	name:  "parking takes part in transactions",
	says:  "What was parked and unparked in a transaction is seen in it, and is so after its commit and not after its rollback.",
	needs: []Feature{Transaction},
	run: parking(func(t testing.TB, s *store, r capability.ParkingRecorder) {
		fido, rex := parked(kennels, 9, "Fido", 3), parked(kennels, 12, "Rex", 1)
		must(t, r.ParkEvent(s.ctx, fido))
		change := func(ctx context.Context, _ *written) error {
			must(t, r.UnparkEvent(ctx, kennels, 9), r.ParkEvent(ctx, rex))
			wantParked(t, ctx, r, kennels, rex)
			return nil
		}
		rollBack(t, s, change)
		wantParked(t, s.ctx, r, kennels, fido)
		commit(t, s, change)
		wantParked(t, s.ctx, r, kennels, rex)
	}),
}}

func parking(run func(t testing.TB, s *store, r capability.ParkingRecorder)) func(testing.TB, *store) {
	return func(t testing.TB, s *store) {
		if r, ok := s.process.(capability.ParkingRecorder); ok {
			run(t, s, r)
		}
	}
}

func parked(upstream string, id int64, name string, version int64) persistence.ParkedEvent {
	return persistence.ParkedEvent{ApplicationName: application, UpstreamApplicationName: upstream, NotificationID: id,
		OriginatorID: dog(name), OriginatorVersion: version, Topic: trickAdded, Error: "it cannot: 犬",
		ParkedAt: someTime}
}

// wantParked wants what is parked, and that it is counted.
func wantParked(t testing.TB, ctx context.Context, r capability.ParkingRecorder, upstream string, want ...persistence.ParkedEvent) {
	t.Helper()
	got, err := r.ParkedEvents(ctx, upstream)
	if err != nil || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("ParkedEvents(%q): got %+v and the error %v, want %+v", upstream, got, err, want)
	}
	if upstream == "" {
		return
	}
	if n, err := r.CountParked(ctx, upstream); n != int64(len(want)) || err != nil {
		t.Errorf("CountParked(%q): got %d and the error %v, want %d", upstream, n, err, len(want))
	}
}

// statusRows are about StatusRecorder. They do nothing with a factory that is
// none.
var statusRows = []row{{
	name: "a status comes back as it was",
	says: "The status that was recorded last of a follower and an upstream application is returned, in the order of their names.",
	run: statuses(func(t testing.TB, s *store, r capability.StatusRecorder) {
		failed := status(kennels, "retrying", "one")
		failed.Error, failed.NotificationID, failed.Ahead = "it cannot: 犬", 7, 40
		failed.Since, failed.NextRetry = someTime, someTime.Add(time.Minute)
		record := []capability.FollowerStatus{status(shelters, "running", "one"), status(kennels, "running", "one"), failed}
		for _, st := range record {
			must(t, r.RecordStatus(s.ctx, st))
		}
		wantStatuses(t, s, r, failed, record[0])
	}),
}, {
	name: "a heartbeat is told by the clock of the reader",
	says: "A runner that has just recorded a status is alive.",
	run: statuses(func(t testing.TB, s *store, r capability.StatusRecorder) {
		must(t, r.RecordStatus(s.ctx, status(kennels, "running", "one")))
		for _, st := range wantStatuses(t, s, r, status(kennels, "running", "one")) {
			if now := time.Now(); !st.Alive(now) {
				t.Errorf("its heartbeat is at %v, and it is %v", st.Heartbeat, now)
			}
		}
	}),
}, {
	name: "a status that is stopped leaves that of another runner",
	says: "A runner that stops does not replace the status of another one, and gives its place back to one that goes on.",
	run: statuses(func(t testing.TB, s *store, r capability.StatusRecorder) {
		must(t, r.RecordStatus(s.ctx, status(kennels, "running", "one")), r.RecordStatus(s.ctx, status(kennels, "running", "two")))
		must(t, r.RecordStatus(s.ctx, status(kennels, "stopped", "one")))
		wantStatuses(t, s, r, status(kennels, "running", "two"))
		must(t, r.RecordStatus(s.ctx, status(kennels, "running", "three")), r.RecordStatus(s.ctx, status(kennels, "stopped", "three")))
		wantStatuses(t, s, r, status(kennels, "running", "two"))
		must(t, r.RecordStatus(s.ctx, status(kennels, "stopped", "two")))
		wantStatuses(t, s, r, status(kennels, "stopped", "two"))
	}),
}, {
	name: "a runner that stands by leaves the status of one at work",
	says: "A status that is standing by does not replace that of a runner which is at work.",
	run: statuses(func(t testing.TB, s *store, r capability.StatusRecorder) {
		must(t, r.RecordStatus(s.ctx, status(kennels, "running", "one")), r.RecordStatus(s.ctx, status(kennels, "standing by", "two")))
		wantStatuses(t, s, r, status(kennels, "running", "one"))
	}),
}, {
	name: "a position ahead of the log is kept",
	says: "A position ahead stays when a status has one below 0, and one that is stopped with 0 ends it with its error.",
	run: statuses(func(t testing.TB, s *store, r capability.StatusRecorder) {
		ahead := status(kennels, "stopped", "one")
		ahead.Ahead, ahead.Error = 40, "it is ahead"
		must(t, r.RecordStatus(s.ctx, status(kennels, "running", "two")), r.RecordStatus(s.ctx, ahead))
		wantStatuses(t, s, r, ahead)
		goesOn := status(kennels, "running", "two")
		goesOn.Ahead = capability.KeepAhead
		must(t, r.RecordStatus(s.ctx, goesOn))
		goesOn.Ahead = 40
		wantStatuses(t, s, r, goesOn)
		must(t, r.RecordStatus(s.ctx, status(kennels, "stopped", "one")))
		wantStatuses(t, s, r, status(kennels, "running", "two"))
	}),
}}

var someTime = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

func statuses(run func(t testing.TB, s *store, r capability.StatusRecorder)) func(testing.TB, *store) {
	return func(t testing.TB, s *store) {
		if r := capability.Of(s.factory).Statuses; r != nil {
			run(t, s, r)
		}
	}
}

func status(upstream, state, process string) capability.FollowerStatus {
	return capability.FollowerStatus{ApplicationName: application, UpstreamApplicationName: upstream, State: state, Process: process,
		Heartbeat: time.Now().UTC()}
}

// wantStatuses wants statuses but for their heartbeats, and returns them.
func wantStatuses(
	t testing.TB, s *store, r capability.StatusRecorder, want ...capability.FollowerStatus,
) []capability.FollowerStatus {
	t.Helper()
	got, err := r.FollowerStatuses(s.ctx)
	must(t, err)
	if len(got) != len(want) {
		t.Fatalf("FollowerStatuses: got %+v, want %+v", got, want)
	}
	for i := range got {
		got[i].Heartbeat, want[i].Heartbeat = got[i].Heartbeat.UTC(), got[i].Heartbeat.UTC()
		if got[i] != want[i] {
			t.Errorf("FollowerStatuses: got %+v, want %+v", got[i], want[i])
		}
	}
	return got
}
