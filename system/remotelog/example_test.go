package remotelog_test

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/system/remotelog"
)

// Announcements is a follower in another service.
type Announcements struct{ *system.Follower }

// NewAnnouncements makes the follower.
func NewAnnouncements(options ...application.Option) (*Announcements, error) {
	app, err := application.New("Announcements", options...)
	if err != nil {
		return nil, err
	}
	f, err := system.NewFollower(app, system.On(announce))
	return &Announcements{f}, err
}

// announce announces what a dog has learned.
func announce(_ context.Context, e domain.Recorded[school.TrickAdded]) error {
	fmt.Println("a dog has learned to", e.Data.Trick)
	return nil
}

const token = "Bearer 6f1c"

// authenticated lets those read the log who know the token.
func authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(token)) != 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// The training school serves its log, and another service follows it.
func Example() {
	ctx := context.Background()
	dogs, err := school.New()
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/log/", http.StripPrefix("/log", authenticated(remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{}))))
	service := httptest.NewServer(mux)
	defer service.Close()

	client, err := remotelog.NewClient("TrainingSchool", service.URL+"/log", remotelog.ClientConfig{
		Application: []application.Option{application.WithDefinitions(school.Dogs)},
		Header:      http.Header{"Authorization": {token}},
		HTTPClient:  service.Client(),
	})
	if err != nil {
		log.Fatal(err)
	}
	announcements, err := NewAnnouncements()
	if err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(client, announcements))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys) // a service has system.NewRunner
	if err != nil {
		log.Fatal(err)
	}
	defer runner.Close()

	err = errors.Join(dogs.Register(ctx, "Fido"), dogs.AddTrick(ctx, "Fido", "roll over"), dogs.AddTrick(ctx, "Fido", "fetch"))
	if err != nil {
		log.Fatal(err)
	}
	if err := runner.Start(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.Head(ctx))
	// Output:
	// a dog has learned to roll over
	// a dog has learned to fetch
	// 3 <nil>
}
