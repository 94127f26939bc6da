package application_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

func TestNotificationLogSections(t *testing.T) {
	s := newSchool(t)
	log := s.NotificationLog()
	check := func(ask, id, next string, items ...int64) {
		t.Helper()
		section, err := log.Section(t.Context(), ask)
		if err != nil {
			t.Errorf("section %s: %v", ask, err)
			return
		}
		var got []int64
		for _, item := range section.Items {
			got = append(got, item.ID)
		}
		if section.ID != id || section.NextID != next || fmt.Sprint(got) != fmt.Sprint(items) {
			t.Errorf("section %s: got id %q, next %q, items %v; want %q, %q, %v", ask, section.ID, section.NextID, got, id, next, items)
		}
	}
	for _, ask := range []string{"1,10", "6,15", "0,0", "1,0"} {
		check(ask, "", "")
	}
	s.save(t, dogWith("Fido", 4))
	check("1,10", "1,5", "", 1, 2, 3, 4, 5)
	check("1,5", "1,5", "6,10", 1, 2, 3, 4, 5)
	s.save(t, dogWith("Rex", 3))
	check("6,10", "6,9", "", 6, 7, 8, 9)
	check("1,5", "1,5", "6,10", 1, 2, 3, 4, 5)
	check("3,7", "3,7", "8,12", 3, 4, 5, 6, 7)
	check("3,4", "3,4", "5,6", 3, 4)
	check("3,3", "3,3", "4,4", 3)
	check("3,2", "", "")
	check("-5,3", "1,3", "4,6", 1, 2, 3)
	check("10,19", "", "")
	check("9223372036854775807,9223372036854775807", "", "")
	s.save(t, dogWith("Bella", 10))
	check("1,10", "1,10", "11,20", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	check("3,20", "3,12", "13,22", 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
	check("11,20", "11,20", "21,30", 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
	check("21,30", "", "")
	check("1,9223372036854775807", "1,10", "11,20", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
}

func TestNotificationLogWithGaps(t *testing.T) {
	store := memory.New()
	s, other := newSchool(t, application.WithStore(store)), newApplication(t, "Other", application.WithStore(store))
	dogs := application.NewRepository(other, Dogs)
	s.save(t, dogWith("Fido", 1)) // 1, 2
	if err := dogs.Save(t.Context(), dogWith("Rex", 6)); err != nil {
		t.Fatal(err)
	}
	s.save(t, dogWith("Rex", 1)) // 10, 11
	section, err := s.NotificationLog().Section(t.Context(), "1,3")
	if err != nil || section.ID != "1,10" || section.NextID != "11,13" {
		t.Errorf("got %+v, %v; want the id to say what is there", section, err)
	}
}

func TestNotificationLogErrors(t *testing.T) {
	s := newSchool(t)
	for _, id := range []string{"", "1", "1,", ",1", "1,2,3", "a,b", "1;2", " 1,2", "1,99999999999999999999", strings.Repeat("1", 1000)} {
		_, err := s.NotificationLog().Section(t.Context(), id)
		if got := wantError[*persistence.InvalidError](t, err); len(got.Error()) > 200 || !errors.Is(err, persistence.ErrProgramming) {
			t.Errorf("section %q: got %q", id, got)
		}
	}
	t.Run("of the store", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.NotificationLog().Section(ctx, "1,10"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

func TestNotificationLogSelect(t *testing.T) {
	s := newSchool(t)
	s.save(t, dogWith("Fido", 8))
	log := s.NotificationLog()
	for after, want := range []int{9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0} {
		items, err := log.Select(t.Context(), persistence.NotificationRange{After: int64(after), Limit: 10})
		if err != nil || len(items) != want || want > 0 && items[0].ID != int64(after)+1 {
			t.Errorf("after %d: got %d items, %v; want %d", after, len(items), err, want)
		}
	}
	for name, test := range map[string]struct {
		r    persistence.NotificationRange
		want int
	}{
		"limit":              {persistence.NotificationRange{Limit: 5}, 5},
		"stop is inclusive":  {persistence.NotificationRange{After: 2, Stop: 4, Limit: 10}, 2},
		"one topic":          {persistence.NotificationRange{Limit: 10, Topics: []string{"Dog.Registered"}}, 1},
		"an unknown topic":   {persistence.NotificationRange{Limit: 10, Topics: []string{"Cat.Born"}}, 0},
		"stop before after":  {persistence.NotificationRange{After: 5, Stop: 4, Limit: 10}, 0},
		"limit of a section": {persistence.NotificationRange{Limit: application.SectionSize}, 9},
	} {
		items, err := log.Select(t.Context(), test.r)
		if err != nil || len(items) != test.want {
			t.Errorf("%s: got %d items, %v; want %d", name, len(items), err, test.want)
		}
	}
	t.Run("above the section size", func(t *testing.T) {
		_, err := log.Select(t.Context(), persistence.NotificationRange{Limit: 20})
		if got, want := wantError[*persistence.InvalidError](t, err).Error(), "requested limit 20 is greater than section size 10"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("with a range that cannot be", func(t *testing.T) {
		for _, r := range []persistence.NotificationRange{{}, {Limit: -1}, {After: -1, Limit: 1}, {Stop: -1, Limit: 1}} {
			_, err := log.Select(t.Context(), r)
			wantError[*persistence.InvalidError](t, err)
		}
	})
}

// A reader that pages through the log, from each position.
func TestNotificationLogReader(t *testing.T) {
	s := newSchool(t)
	s.save(t, dogWith("Fido", 24))
	for first := 1; first <= 26; first++ {
		var got []int64
		for next := fmt.Sprintf("%d,%d", first, first+4); next != ""; {
			section, err := s.NotificationLog().Section(t.Context(), next)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range section.Items {
				got = append(got, item.ID)
			}
			next = section.NextID
		}
		if len(got) != 26-first || len(got) > 0 && (got[0] != int64(first) || got[len(got)-1] != 25) {
			t.Errorf("from %d: got %v", first, got)
		}
	}
}

func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		s.save(t, dogWith("Fido", 1))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen := make(chan int64)
		go func() {
			defer close(seen)
			for n, err := range persistence.Subscribe(ctx, s.Recorder(), 0, "Dog.TrickAdded") {
				if err != nil {
					t.Error(err)
				}
				seen <- n.ID
			}
		}()
		if got := <-seen; got != 2 {
			t.Errorf("got %d, want the old event 2", got)
		}
		synctest.Wait()
		s.save(t, dogWith("Rex", 1))
		if got := <-seen; got != 4 {
			t.Errorf("got %d, want the new event 4", got)
		}
		cancel()
		if got, ok := <-seen; ok {
			t.Errorf("got %d after the end", got)
		}
	})
}
