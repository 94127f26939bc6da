package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Lesson is a row of the service's own table: who has paid for a trick.
type Lesson struct {
	ID    int64
	Dog   string
	Trick string
}

// lessons serves PUT /dogs/{name}/tricks/{trick} for a client that has seen the
// dog at a version, which it sends as If-Match. The trick and the row of the
// lesson are stored together or not at all.
type lessons struct {
	db   *gorm.DB
	dogs *application.Repository[school.Dog]
}

func (l *lessons) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version, err := strconv.ParseInt(strings.Trim(r.Header.Get("If-Match"), `"`), 10, 64)
	if err != nil {
		http.Error(w, "If-Match must be the version of the dog", http.StatusPreconditionRequired)
		return
	}
	name, trick := r.PathValue("name"), r.PathValue("trick")
	var dog *school.Dog
	err = gormstore.Transaction(r.Context(), l.db, func(ctx context.Context, tx *gorm.DB) error {
		if err := tx.Create(&Lesson{Dog: name, Trick: trick}).Error; err != nil {
			return err
		}
		return l.dogs.UpdateAt(ctx, school.DogID(name), version, func(d *school.Dog) error {
			dog = d
			d.AddTrick(trick)
			return nil
		})
	})
	switch {
	case err == nil:
		// The version after the call: a change may trigger any number of events.
		w.Header().Set("ETag", strconv.Quote(strconv.FormatInt(dog.Version(), 10)))
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, application.ErrAggregateNotFound):
		http.Error(w, "there is no such dog", http.StatusNotFound)
	case persistence.IsConflict(err):
		http.Error(w, "the dog has changed", http.StatusPreconditionFailed)
	default:
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	}
}

// A handler of HTTP with If-Match, and a row of the service's own in one
// transaction.
func Example_ifMatch() {
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(folder, "school.sqlite3"))
	if err != nil {
		log.Fatal(err)
	}
	if pool, err := db.DB(); err == nil {
		defer pool.Close()
	}
	if err := errors.Join(gormstore.AutoMigrate(db), db.AutoMigrate(&Lesson{})); err != nil {
		log.Fatal(err)
	}
	app, err := application.New("TrainingSchool", application.WithStore(gormstore.New(db)))
	if err != nil {
		log.Fatal(err)
	}
	dogs, err := application.NewRepository(app, school.Dogs)
	if err != nil {
		log.Fatal(err)
	}
	if err := dogs.Save(ctx, school.RegisterDog("Fido")); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("PUT /dogs/{name}/tricks/{trick}", &lessons{db, dogs})

	for _, version := range []string{`"1"`, `"1"`, `"2"`, ""} {
		r := httptest.NewRequestWithContext(ctx, http.MethodPut, "/dogs/Fido/tricks/sit", nil)
		r.Header.Set("If-Match", version)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Printf("If-Match %q: %d, ETag %q\n", version, w.Code, w.Header().Get("ETag"))
	}
	var paid int64
	if err := db.Model(&Lesson{}).Count(&paid).Error; err != nil {
		log.Fatal(err)
	}
	fido, err := dogs.Get(ctx, school.DogID("Fido"))
	fmt.Println(paid, fido.Tricks, err)
	// Output:
	// If-Match "\"1\"": 204, ETag "\"2\""
	// If-Match "\"1\"": 412, ETag ""
	// If-Match "\"2\"": 204, ETag "\"3\""
	// If-Match "": 428, ETag ""
	// 2 [sit sit] <nil>
}
