package admin_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Pages for those who send a token, without the right to change anything.
func Example() {
	dogs, err := school.New(application.WithStore(memory.New()))
	if err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(dogs))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{})
	if err != nil {
		log.Fatal(err)
	}
	pages, err := admin.New(runner, admin.Config{
		Authorize: func(r *http.Request) (admin.Rights, error) {
			if r.Header.Get("Authorization") != "Bearer of-the-test" {
				return admin.Rights{}, nil
			}
			return admin.Rights{Actor: "alice", List: true, Payload: true}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/admin/", http.StripPrefix("/admin", pages))

	request := httptest.NewRequest(http.MethodGet, "/admin/followers", nil)
	for range 2 {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, request)
		fmt.Println(w.Code)
		request.Header.Set("Authorization", "Bearer of-the-test")
	}
	// Output:
	// 403
	// 200
}
