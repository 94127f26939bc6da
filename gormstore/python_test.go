package gormstore_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/checker"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/pythontest"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// Databases that the Python library made, with Django's own migrations, are in
// testdata/python. They are used as they are; its README.md says what is in
// them.

// pythonFixture is one of the databases, with the settings that it was made
// with.
type pythonFixture struct {
	file       string
	compressor string
	cipher     string
}

const (
	pythonKey    = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	pythonCipher = "eventsourcing.cipher:AESCipher"
)

var pythonFixtures = []pythonFixture{
	{file: "plain.sqlite3"},
	{file: "zlib.sqlite3", compressor: "zlib"},
	{file: "aes.sqlite3", cipher: pythonCipher},
	{file: "zlib-aes.sqlite3", compressor: "zlib", cipher: pythonCipher},
	{file: "postgres-zlib-aes.sql", compressor: "zlib", cipher: pythonCipher},
}

func eachPythonFixture(t *testing.T, test func(t *testing.T, f pythonFixture, db *gorm.DB)) {
	t.Helper()
	onPythonFixtures(t, pythonFixtures, test)
}

// eachPythonLibrary is eachPythonFixture for tests that run the library, whose
// processes take most of the time. Unless every combination is tried they run
// without settings and with all of them.
func eachPythonLibrary(t *testing.T, test func(t *testing.T, f pythonFixture, db *gorm.DB)) {
	t.Helper()
	if testdb.Exhaustive() {
		onPythonFixtures(t, pythonFixtures, test)
	} else {
		onPythonFixtures(t, sharedPythonFixtures, test)
	}
}

func onPythonFixtures(t *testing.T, fixtures []pythonFixture, test func(t *testing.T, f pythonFixture, db *gorm.DB)) {
	t.Helper()
	t.Parallel()
	for _, f := range fixtures {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			test(t, f, f.open(t))
		})
	}
}

// open copies the database.
func (f pythonFixture) open(t *testing.T) *gorm.DB {
	t.Helper()
	address := pythontest.Copy(t, filepath.Join("testdata", "python", f.file))
	if strings.HasSuffix(f.file, ".sql") {
		return testdb.Open(t, postgres.Open(address))
	}
	return testdb.Open(t, sqlite.Open(testdb.SQLiteDSN(address)))
}

// settings are those of the Python program, by the names that they had there.
func (f pythonFixture) settings() map[string]string {
	settings := map[string]string{"IS_SNAPSHOTTING_ENABLED": "y"}
	if f.compressor != "" {
		settings["COMPRESSOR_TOPIC"] = f.compressor
	}
	if f.cipher != "" {
		settings["CIPHER_TOPIC"], settings["CIPHER_KEY"] = f.cipher, pythonKey
	}
	return settings
}

// facts are what the Python program read from the database.
type facts struct {
	Dogs map[string]struct {
		ID      uuid.UUID
		Version int64
		Tricks  []string
	}
	Visits map[uuid.UUID]struct {
		DogID   uuid.UUID `json:"dog_id"`
		At      time.Time
		Fee     python.Decimal
		Notes   []string
		Version int64
	}
	Counters map[string]struct {
		ID    uuid.UUID
		Count int
	}
	MaxNotificationID map[string]int64 `json:"max_notification_id"`
	MaxTrackingID     int64            `json:"max_tracking_id"`
	Rows              map[string]int64
}

func (f pythonFixture) facts(t *testing.T) facts {
	t.Helper()
	name := strings.TrimSuffix(f.file, filepath.Ext(f.file)) + ".json"
	content, err := os.ReadFile(filepath.Join("testdata", "python", name))
	if err != nil {
		t.Fatal(err)
	}
	var facts facts
	if err := json.Unmarshal(content, &facts); err != nil {
		t.Fatal(err)
	}
	return facts
}

// The aggregates of the Python program, with names and fields as Go has them.

type pyDog struct {
	domain.Aggregate
	Name   string   `json:"name"`
	Tricks []string `json:"tricks"`
}

type pyRegistered struct {
	Name string `json:"name"`
}

func (e pyRegistered) Apply(d *pyDog) { d.Name = e.Name }

type pyTrickAdded struct {
	Trick string `json:"trick"`
}

func (e pyTrickAdded) Apply(d *pyDog) { d.Tricks = append(d.Tricks, e.Trick) }

type pyVisit struct {
	domain.Aggregate
	DogID uuid.UUID      `json:"dog_id"`
	At    time.Time      `json:"at"`
	Fee   python.Decimal `json:"fee"`
	Notes []string       `json:"notes"`
}

type pyBooked struct {
	DogID uuid.UUID      `json:"dog_id"`
	At    time.Time      `json:"at"`
	Fee   python.Decimal `json:"fee"`
	Notes []string       `json:"notes"`
}

func (e pyBooked) Apply(v *pyVisit) { v.DogID, v.At, v.Fee, v.Notes = e.DogID, e.At, e.Fee, e.Notes }

type pyFeeChanged struct {
	Fee python.Decimal `json:"fee"`
}

func (e pyFeeChanged) Apply(v *pyVisit) { v.Fee = e.Fee }

type pyCounter struct {
	domain.Aggregate
	Trick string `json:"trick"`
	Count int    `json:"count"`
}

type pyCreated struct {
	Trick string `json:"trick"`
}

func (e pyCreated) Apply(c *pyCounter) { c.Trick = e.Trick }

type pyIncremented struct{}

func (pyIncremented) Apply(c *pyCounter) { c.Count++ }

const pythonModule = "training_school.domain:"

var (
	// pyDogs writes under its own names, and reads the Python program's.
	pyDogs = domain.Define("Dog", domain.FormerName[pyDog](pythonModule+"Dog"),
		domain.On("Registered", pyRegistered{}), domain.On("TrickAdded", pyTrickAdded{}))
	// pySharedDogs writes under the Python program's names, so that it can read
	// what is written here.
	pySharedDogs = domain.Define("Dog", domain.FormerName[pyDog](pythonModule+"Dog"),
		domain.On("Registered", pyRegistered{}, domain.StoredAs(pythonModule+"Dog.Registered")),
		domain.On("TrickAdded", pyTrickAdded{}, domain.StoredAs(pythonModule+"Dog.TrickAdded")))
	// pyEventsOnly knows the names of the events, but not that of the
	// snapshots.
	pyEventsOnly = domain.Define("Dog",
		domain.On("Registered", pyRegistered{}, domain.Alias(pythonModule+"Dog.Registered")),
		domain.On("TrickAdded", pyTrickAdded{}, domain.Alias(pythonModule+"Dog.TrickAdded")))
	pyVisits = domain.Define("Visit", domain.FormerName[pyVisit](pythonModule+"Visit"),
		domain.On("Booked", pyBooked{}), domain.On("FeeChanged", pyFeeChanged{}))
	pyCounters = domain.Define("Counter", domain.FormerName[pyCounter](pythonModule+"Counter"),
		domain.On("Created", pyCreated{}), domain.On("Incremented", pyIncremented{}))
)

// pyApplication opens an application of the Python program.
func pyApplication(t *testing.T, name string, f pythonFixture, db *gorm.DB, options ...application.Option) *application.Application {
	t.Helper()
	options = append([]application.Option{application.WithStore(gormstore.New(db)), application.WithEnv(f.settings())}, options...)
	app, err := application.New(name, options...)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

// Everything that the Python program stored is read as it reads it itself, and
// nothing is changed by it.
func TestPythonRead(t *testing.T) {
	eachPythonFixture(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
		schema, content := schemaDump(t, db), contentDump(t, db)
		if err := gormstore.AutoMigrate(db); err != nil {
			t.Fatalf("AutoMigrate: %v", err)
		}
		if err := gormstore.Validate(t.Context(), db); err != nil {
			t.Errorf("Validate: %v", err)
		}
		want := f.facts(t)
		training := pyApplication(t, schoolName, f, db)
		wantPythonDogs(t, expect.Must(application.NewRepository(training, pyDogs)), want)
		wantPythonVisits(t, expect.Must(application.NewRepository(training, pyVisits)), want)
		counting := pyApplication(t, countersName, f, db)
		wantPythonCounters(t, expect.Must(application.NewRepository(counting, pyCounters)), want)
		wantPythonPositions(t, training, counting, want)
		for table, rows := range want.Rows {
			if got := count(t, db, table); got != rows {
				t.Errorf("%s has %d rows, want %d", table, got, rows)
			}
		}
		wantSound(t, training, counting)
		if err := db.Migrator().DropTable(&gormstore.FollowerStatus{}, &gormstore.ParkedEvent{},
			&gormstore.FollowerRunner{}, &gormstore.FollowerSetting{}, &gormstore.FollowerPartition{}); err != nil {
			// AutoMigrate has added the tables that Django does not have, and
			// nothing else.
			t.Error(err)
		}
		wantSame(t, "the schema", schema, schemaDump(t, db))
		wantSame(t, "the content", content, contentDump(t, db))
	})
}

func wantPythonDogs(t *testing.T, repository *application.Repository[pyDog], want facts) {
	t.Helper()
	for name, dog := range want.Dogs {
		got, err := repository.Get(t.Context(), dog.ID)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Name != name || got.Version() != dog.Version || !slices.Equal(got.Tricks, dog.Tricks) || got.CreatedOn().IsZero() {
			t.Errorf("dog is %q at version %d with %q, want %q at %d with %q",
				got.Name, got.Version(), got.Tricks, name, dog.Version, dog.Tricks)
		}
	}
}

func wantPythonVisits(t *testing.T, repository *application.Repository[pyVisit], want facts) {
	t.Helper()
	for id, visit := range want.Visits {
		got, err := repository.Get(t.Context(), id)
		if err != nil {
			t.Errorf("visit %s: %v", id, err)
			continue
		}
		if got.DogID != visit.DogID || !got.At.Equal(visit.At) || got.Fee != visit.Fee || !slices.Equal(got.Notes, visit.Notes) || got.Version() != visit.Version {
			t.Errorf("visit %s is %+v at version %d, want %+v", id, got, got.Version(), visit)
		}
	}
}

func wantPythonCounters(t *testing.T, repository *application.Repository[pyCounter], want facts) {
	t.Helper()
	for trick, counter := range want.Counters {
		got, err := repository.Get(t.Context(), counter.ID)
		if err != nil {
			t.Errorf("counter of %q: %v", trick, err)
			continue
		}
		if got.Trick != trick || got.Count != counter.Count {
			t.Errorf("counter is %q at %d, want %q at %d", got.Trick, got.Count, trick, counter.Count)
		}
	}
}

func wantPythonPositions(t *testing.T, training, counting *application.Application, want facts) {
	t.Helper()
	for _, app := range []*application.Application{training, counting} {
		if got, err := bridge.Of(app).Recorder().MaxNotificationID(t.Context()); err != nil || got != want.MaxNotificationID[app.Name()] {
			t.Errorf("log of %s ends at %d (%v), want %d", app.Name(), got, err, want.MaxNotificationID[app.Name()])
		}
	}
	if got, err := bridge.Of(counting).Recorder().MaxTrackingID(t.Context(), schoolName); err != nil || got != want.MaxTrackingID {
		t.Errorf("position of the counters is %d (%v), want %d", got, err, want.MaxTrackingID)
	}
	bella := want.Dogs["Bella"].ID
	var got []int64
	for snapshot, err := range bridge.Of(training).Snapshots().Get(t.Context(), bella, persistence.EventRange{}) {
		if err != nil {
			t.Fatalf("snapshots of Bella: %v", err)
		}
		got = append(got, snapshot.OriginatorVersion)
	}
	if int64(len(got)) != want.Rows["snapshots"] || !slices.Equal(got, []int64{10, 20}) {
		t.Errorf("snapshots of Bella have the versions %v, want 10 and 20", got)
	}
}

// wantSound fails the test unless everything that stores guarantee holds.
func wantSound(t *testing.T, training, counting *application.Application) {
	t.Helper()
	for _, app := range []*application.Application{training, counting} {
		problems, err := checker.Check(t.Context(), checker.Target{
			Application: app.Name(), Recorder: bridge.Of(app).Recorder(), Mapper: bridge.Of(app).Mapper(),
			Upstreams: map[string]persistence.ApplicationRecorder{schoolName: bridge.Of(training).Recorder()},
		})
		if err != nil || len(problems) > 0 {
			t.Errorf("Check of %s: %v, %v, want no error and 0 problems", app.Name(), problems, err)
		}
	}
}

// What is appended in Go is read back with what is there, in the layout of this
// module and in the Python library's; and the tables remain as Django made
// them, so that the Python program goes on with them.
func TestPythonAppend(t *testing.T) {
	for name, appended := range map[string]struct {
		dogs    *domain.Definition[pyDog]
		options []application.Option
	}{
		"own layout":        {dogs: pyDogs},
		"original's layout": {dogs: pySharedDogs, options: []application.Option{application.WithPythonLayout()}},
	} {
		t.Run(name, func(t *testing.T) {
			eachPythonFixture(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
				schema, want := schemaDump(t, db), f.facts(t)
				app := pyApplication(t, schoolName, f, db, appended.options...)
				fido := want.Dogs["Fido"]
				rows := appendTrick(t, app, expect.Must(application.NewRepository(app, appended.dogs)), fido.ID)
				if top := max(want.MaxNotificationID[schoolName], want.MaxNotificationID[countersName]); rows[0].Notification.ID != top+1 {
					t.Errorf("the event got the id %d, want %d, the next of Django's sequence", rows[0].Notification.ID, top+1)
				}
				again := pyApplication(t, schoolName, f, db)
				fido.Tricks, fido.Version = append(fido.Tricks, "走る"), fido.Version+1
				want.Dogs["Fido"] = fido
				wantPythonDogs(t, expect.Must(application.NewRepository(again, pyDogs)), want)
				wantDjangoUUID(t, db, fido.ID)
				wantSame(t, "the schema", schema, schemaDump(t, db))
				if f.file == "plain.sqlite3" && appended.options != nil {
					wantPythonState(t, rows[0].Notification)
				}
			})
		})
	}
}

func appendTrick(t *testing.T, app *application.Application, repository *application.Repository[pyDog], id uuid.UUID) (recordings []mapper.Recording) {
	t.Helper()
	dog, err := repository.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	domain.Trigger(dog, pyTrickAdded{"走る"})
	defer bridge.Of(app).OnRecorded(func(_ context.Context, r []mapper.Recording) { recordings = r })()
	if _, err := app.Save(t.Context(), dog); err != nil {
		t.Fatal(err)
	}
	return recordings
}

// wantDjangoUUID fails the test unless all rows of an originator have its id in
// the form that Django gives it.
func wantDjangoUUID(t *testing.T, db *gorm.DB, id uuid.UUID) {
	t.Helper()
	form := id.String()
	if db.Name() == "sqlite" {
		form = hex.EncodeToString(id[:])
	}
	var got int64
	if err := db.Raw("SELECT COUNT(*) FROM stored_events WHERE originator_id = ?", form).Scan(&got).Error; err != nil || got != 4 {
		t.Errorf("%d rows have the id as %s (%v), want all 4", got, form, err)
	}
}

// wantPythonState fails the test unless the state is what the Python program
// itself would have written.
func wantPythonState(t *testing.T, n persistence.Notification) {
	t.Helper()
	want := regexp.MustCompile(`^\{"timestamp":\{"_type_":"datetime_iso","_data_":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00"\},"trick":"走る"\}$`)
	if !want.Match(n.State) || n.Topic != pythonModule+"Dog.TrickAdded" {
		t.Errorf("topic %s, state %s, want them as the Python program writes them", n.Topic, n.State)
	}
}

// A snapshot that the application cannot read is passed over with a warning,
// and the aggregate is right all the same.
func TestPythonSnapshotPassedOver(t *testing.T) {
	eachPythonFixture(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
		var log bytes.Buffer
		app := pyApplication(t, schoolName, f, db, application.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		wantPythonDogs(t, expect.Must(application.NewRepository(app, pyEventsOnly)), f.facts(t))
		if !strings.Contains(log.String(), "snapshot was passed over") {
			t.Errorf("the log has no warning: %q, want it to contain %q", log.String(), "snapshot was passed over")
		}
	})
}
