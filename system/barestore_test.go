package system_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// A store that implements what package persistence asks of it, and no more, is
// enough for a follower. What it cannot keep is an error that says so.
func TestFollowerOnAStoreWithoutCapabilities(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var j journal
		r := newRunner(t, doctored.NewBareStore(), pipe(app(schoolName, school.New),
			followingWith("F", j.policy, []system.FollowerOption{system.Replayable()})))
		f, dogs := get[*follower](t, r, "F"), get[*school.TrainingSchool](t, r, schoolName)
		register(t, dogs, 2, "Fido")
		start(t, r)
		expect.NoError(t, r.WaitFor(t.Context(), f))
		register(t, dogs, 1, "Rex")
		expect.NoError(t, r.WaitFor(t.Context(), f))
		j.want(t, dogs.Application)

		statuses, err := r.Statuses(t.Context())
		expect.NoError(t, err)
		if len(statuses) != 1 || statuses[0].State != system.Running || statuses[0].Position != head(t, dogs.Application) {
			t.Errorf("got %+v, want one status of a follower that runs and is at the end", statuses)
		}
		for what, err := range map[string]error{
			"keeps no settings of followers": r.Pause(t.Context(), f, "a test"),
			"cannot reset positions":         r.Rebuild(t.Context(), f),
		} {
			if err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("got the error %v, want one that contains %q", err, what)
			}
		}
	})
}

// What an option needs and the store cannot keep is refused before anything is
// processed.
func TestOptionsThatAStoreCannotKeepAreRefused(t *testing.T) {
	t.Parallel()
	var j journal
	of := func(store persistence.Factory, option system.FollowerOption) error {
		_, err := newSystem(t, pipe(app(schoolName, school.New),
			followingWith("F", j.policy, []system.FollowerOption{option}))).system(application.WithStore(store))
		return err
	}
	for needs, option := range map[string]system.FollowerOption{
		"it parks events":                    system.Park(func(persistence.Notification, error, int) bool { return true }),
		"it has partitions":                  system.Partitions(2),
		"it does not start at the beginning": system.StartAtHead(),
	} {
		err := of(doctored.NewBareStore(), option)
		expect.ErrorIs(t, err, persistence.ErrProgramming)
		if got := fmt.Sprint(err); !strings.Contains(got, needs) || !strings.HasSuffix(got, "its store is *doctored.BareStore") {
			t.Errorf("got the error %q, want one that contains %q and names the store", got, needs)
		}
	}
	for name, store := range map[string]persistence.Factory{"a bare store": doctored.NewBareStore(), "memory": memory.New()} {
		if err := of(store, system.StartAt(0)); err != nil {
			t.Errorf("%s, from the beginning: got the error %v, want none", name, err)
		}
	}
	for name, option := range map[string]system.FollowerOption{"partitions": system.Partitions(2), "a start": system.StartAtHead()} {
		if err := of(memory.New(), option); err != nil {
			t.Errorf("%s in memory: got the error %v, want none", name, err)
		}
	}
}
