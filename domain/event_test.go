package domain_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/saving"
)

func TestAt(t *testing.T) {
	t.Run("year 2000", func(t *testing.T) {
		order := Orders.Create(uuid.New(), OrderStarted{Name: "name"})
		order.Confirm(day(2000))
		events := order.PendingEvents()
		if got := events[1].Timestamp; !got.Equal(day(2000)) {
			t.Errorf("got event time %v, want %v", got, day(2000))
		}
		if got := order.ModifiedOn(); !got.Equal(day(2000)) {
			t.Errorf("got modified on %v, want %v", got, day(2000))
		}
		if got := order.Confirmed; !got.Equal(day(2000)) {
			t.Errorf("got argument %v, want %v", got, day(2000))
		}
		if got := order.CreatedOn(); got.Equal(day(2000)) {
			t.Errorf("got created on %v, want it to stay", got)
		}
	})
	t.Run("of the first event", func(t *testing.T) {
		dog := Dogs.Create(uuid.New(), Registered{}, domain.At(day(2000)))
		if !dog.CreatedOn().Equal(day(2000)) || !dog.ModifiedOn().Equal(day(2000)) {
			t.Errorf("got created on %v, modified on %v, want CreatedOn %v and ModifiedOn %v", dog.CreatedOn(), dog.ModifiedOn(), day(2000), day(2000))
		}
	})
	t.Run("is UTC, cut to the microsecond, and without a monotonic part", func(t *testing.T) {
		zone := time.FixedZone("east", 2*60*60)
		dog := Dogs.Create(uuid.New(), Registered{}, domain.At(time.Date(2000, 1, 1, 2, 0, 0, 1999, zone)))
		if got, want := dog.CreatedOn(), time.Date(2000, 1, 1, 0, 0, 0, 1000, time.UTC); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
		now := time.Now()
		dog = Dogs.Create(uuid.New(), Registered{}, domain.At(now))
		if got, want := dog.CreatedOn(), now.UTC().Round(0).Truncate(time.Microsecond); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestClock(t *testing.T) {
	dogs := Dogs.WithClock(clock(day(2001), day(2002).Add(1999*time.Nanosecond)))
	dog := dogs.Create(uuid.New(), Registered{Name: "Fido"})
	dog.AddTrick("sit")
	if got := dog.CreatedOn(); got != day(2001) {
		t.Errorf("got created on %v, want %v", got, day(2001))
	}
	if got, want := dog.ModifiedOn(), day(2002).Add(time.Microsecond); got != want {
		t.Errorf("got modified on %v, want %v", got, want)
	}

	t.Run("of the schema", func(t *testing.T) {
		if got := definitions.Of(Dogs.WithClock(clock(day(2003)))).TakeSnapshot(RegisterDog("Rex")).Timestamp; got != day(2003) {
			t.Errorf("got %v, want %v", got, day(2003))
		}
	})
	t.Run("of other definitions stays", func(t *testing.T) {
		if got := RegisterDog("Rex").CreatedOn(); got.Year() < 2020 {
			t.Errorf("got %v, want the time of today", got)
		}
	})
	t.Run("may be missing nowhere", func(t *testing.T) {
		definitionError(t, "WithClock needs a clock", func() { Dogs.WithClock(nil) })
	})
	t.Run("of folds", func(t *testing.T) {
		account := domain.StartFold(Accounts.WithClock(clock(day(2001), day(2002))), uuid.New(), Opened{})
		account.Trigger(Deposited{Amount: 1})
		if account.ModifiedOn() != day(2002) || account.State().Balance != 1 {
			t.Errorf("got %v and %+v, want ModifiedOn %v and Balance 1", account.ModifiedOn(), account.State(), day(2002))
		}
	})
}

// Times keep the order of the events as long as clocks differ by seconds.
func TestClockGoingBackwards(t *testing.T) {
	noon := day(2002)
	dogs := Dogs.WithClock(clock(noon, noon.Add(-2*time.Second), noon, day(2003)))
	dog := dogs.Create(uuid.New(), Registered{})
	for range 3 {
		dog.AddTrick("sit")
	}
	want := []time.Time{noon, noon.Add(time.Microsecond), noon.Add(2 * time.Microsecond), day(2003)}
	for i, event := range dog.PendingEvents() {
		if event.Timestamp != want[i] {
			t.Errorf("event %d: got %v, want %v", i, event.Timestamp, want[i])
		}
	}
}

// One wrong time does not change those of later events.
func TestTimeAfterWrongTime(t *testing.T) {
	noon := day(2002)
	check := func(t *testing.T, dog *Dog) {
		t.Helper()
		dog.AddTrick("sit")
		if got := dog.ModifiedOn(); got != noon {
			t.Errorf("got %v, want %v", got, noon)
		}
	}
	t.Run("At", func(t *testing.T) {
		check(t, Dogs.WithClock(clock(noon)).Create(uuid.New(), Registered{}, domain.At(day(2003))))
	})
	t.Run("clock", func(t *testing.T) {
		check(t, Dogs.WithClock(clock(noon.Add(time.Hour), noon)).Create(uuid.New(), Registered{}))
	})
}

func TestWith(t *testing.T) {
	mine := domain.Metadata{"user": "alice"}
	dog := Dogs.Create(uuid.New(), Registered{}, domain.With(mine), domain.With(domain.Metadata{"user": "bob", "ip": "::1"}))
	mine["user"] = "changed"
	if got, want := dog.PendingEvents()[0].Metadata, (domain.Metadata{"user": "bob", "ip": "::1"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWithTwice(t *testing.T) {
	a, b := domain.Metadata{"x": "1", "y": "1"}, domain.Metadata{"y": "2"}
	for _, test := range []struct{ a, b, want domain.Metadata }{
		{nil, nil, nil},
		{domain.Metadata{}, nil, nil},
		{a, nil, a},
		{nil, b, b},
		{a, b, domain.Metadata{"x": "1", "y": "2"}},
	} {
		dog := Dogs.Create(uuid.New(), Registered{}, domain.With(test.a), domain.With(test.b))
		got := dog.PendingEvents()[0].Metadata
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v and %v: got %v, want %v", test.a, test.b, got, test.want)
		}
		if got["x"] != "" {
			got["x"] = "changed"
		}
	}
	if a["x"] != "1" || a["y"] != "1" {
		t.Errorf("got %v, want With to leave what it is given alone", a)
	}
}

func TestEvents(t *testing.T) {
	events := domain.Events{{Topic: "a"}, {Topic: "b"}}
	pending := events.PendingEvents()
	pending[0].Topic = "changed"
	saving.MarkSaved(events, 1)
	saving.MarkUnsaved(events, pending)
	if got := events.PendingEvents(); len(got) != 2 || got[0].Topic != "a" {
		t.Errorf("got %+v, want bare events to stay as they are", got)
	}
}
