package system_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
)

// sleeplessCats is the definition of a program that has no code for catSlept.
var sleeplessCats = domain.Define("Cat", domain.On("Born", catBorn{}), domain.Retired[cat]("Slept"))

// A follower of a program that has retired an event gets it as a RetiredEvent.
// One that filters topics passes over it, or gets it if it names the topic.
func TestFollowersAndRetiredEvents(t *testing.T) {
	for name, test := range map[string]struct {
		handlers []handlerOf
		want     int
	}{
		"all events":     {nil, 3},
		"another topic":  {[]handlerOf{on[catBorn]}, 2},
		"retired events": {[]handlerOf{on[domain.RetiredEvent]}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, p place) {
				var seen journal
				program := func(definition *domain.Definition[cat]) (runner, *application.Application) {
					node := followerLoop("F", seen.policy)
					if test.handlers != nil {
						node = handling("F", seen.policy, test.handlers)
					}
					r := p.runner(t, pipe(app("Cats", func(options ...application.Option) (*application.Application, error) {
						return application.New("Cats", append(options, application.WithDefinitions(definition))...)
					}), node))
					return r, get[*application.Application](t, r, "Cats")
				}
				before := expect.Must(application.New("Cats", application.WithStore(p.store), application.WithDefinitions(rollingOne)))
				pet := rollingOne.Create(uuid.New(), catBorn{})
				domain.Trigger(pet, catSlept{})
				save(t, before, pet)
				r, cats := program(sleeplessCats)
				newest := save(t, cats, sleeplessCats.Create(uuid.New(), catBorn{}))[0].NotificationID

				expect.NoError(t, r.Start(t.Context()))
				reachedIn(t, get[*follower](t, r, "F").Application, "Cats", newest)
				events := seen.events(t)
				if len(events) != test.want {
					t.Fatalf("got %d events, want %d", len(events), test.want)
				}
				for _, event := range events {
					if _, retired := event.Data.(domain.RetiredEvent); retired != (event.Topic == "Cat.Slept") {
						t.Errorf("got %T as the data of %s, want a domain.RetiredEvent of Cat.Slept alone", event.Data, event.Topic)
					}
				}
			})
		})
	}
}
