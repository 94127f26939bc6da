package gormstore_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// The rows in testdata/former were stored by former versions of this module:
// firstcut.json by the first one, jsonv1.json by the last one with its own JSON
// library.

// formerRow is a row of stored_events or snapshots.
type formerRow struct {
	Table   string
	Version int64
	Topic   string
	State   string // hexadecimal
}

// formerSettings are what the rows were stored with.
var formerSettings = map[string]map[string]string{
	"plain":    {"SNAPSHOTTING_INTERVALS": "Parcel=2"},
	"zlib":     {"SNAPSHOTTING_INTERVALS": "Parcel=2", "COMPRESSOR_TOPIC": "zlib"},
	"zstd":     {"SNAPSHOTTING_INTERVALS": "Parcel=2", "COMPRESSOR_TOPIC": "zstd"},
	"aes":      {"SNAPSHOTTING_INTERVALS": "Parcel=2", "CIPHER_TOPIC": "aes", "CIPHER_KEY": pythonKey},
	"zlib aes": {"SNAPSHOTTING_INTERVALS": "Parcel=2", "COMPRESSOR_TOPIC": "zlib", "CIPHER_TOPIC": "aes", "CIPHER_KEY": pythonKey},
}

type (
	formerParcel struct {
		domain.Aggregate
		Sent   formerSending
		Grams  float64
		Places []string
	}
	formerSending struct {
		To     formerAddress `json:"to"`
		Sender *formerAddress
		ID     uuid.UUID
		At     time.Time
		Fee    python.Decimal `json:"fee,omitempty"`
		Label  []byte
		Digest [4]byte
		Counts map[string]int
		ByID   map[uuid.UUID]bool
		Within time.Duration
		Large  uint64
		Small  int8
		Ratio  float32
		Quoted int `json:",string"`
		None   *int
		Free   map[string]any
	}
	formerAddress struct {
		Street string
		Floor  int `json:",omitempty"`
	}
	formerWeighing struct{ Grams float64 }
	formerMoved    struct{ Place string }
)

func (e formerSending) Apply(p *formerParcel)  { p.Sent = e }
func (e formerWeighing) Apply(p *formerParcel) { p.Grams = e.Grams }
func (e formerMoved) Apply(p *formerParcel)    { p.Places = append(p.Places, e.Place) }

var (
	formerID      = domain.NewIDv5("parcel")
	formerParcels = domain.Define("Parcel", domain.On("Sent", formerSending{}), domain.On("Weighed", formerWeighing{}), domain.On("Moved", formerMoved{}))
	formerWeighed = formerWeighing{1e21}
	formerSent    = formerSending{
		To: formerAddress{Street: "Straße 1"}, Sender: &formerAddress{"a\u2028b", 3}, ID: uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5"),
		At: time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.UTC), Fee: "10.00", Label: []byte{0, 255}, Digest: [4]byte{1, 2, 3, 4},
		Counts: map[string]int{"b": 2, "a": -1, "<&>": 0}, ByID: map[uuid.UUID]bool{uuid.MustParse("407d3ee3-a4f3-54fe-98dd-13c70cfefff8"): true},
		Within: 90 * time.Minute, Large: 1<<64 - 1, Small: -128, Ratio: 0.1, Quoted: 7,
		Free: map[string]any{"n": int64(9007199254740993), "f": 0.5, "s": "x", "b": true, "nil": nil, "list": []any{int64(1), "two", map[string]any{}},
			"id": uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5"), "at": time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC), "fee": python.Decimal("1E+3")},
	}
)

// TestFormerStates shows that what former versions stored is read as it was,
// and that their aggregates go on.
func TestFormerStates(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"firstcut.json", "jsonv1.json"} {
		data, err := os.ReadFile(filepath.Join("testdata", "former", file))
		if err != nil {
			t.Fatal(err)
		}
		var all map[string][]formerRow
		if err := json.Unmarshal(data, &all); err != nil || len(all) != len(formerSettings) {
			t.Fatalf("%d sets of rows, %v; want %d", len(all), err, len(formerSettings))
		}
		for database, open := range map[string]func(testing.TB) *gorm.DB{
			"sqlite": func(t testing.TB) *gorm.DB {
				return testdb.Open(t, sqlite.Open(testdb.SQLiteDSN(filepath.Join(t.TempDir(), "former.sqlite3"))))
			},
			"postgres": testdb.OpenPostgresSchema,
		} {
			for name, rows := range all {
				t.Run(file+"/"+database+"/"+name, func(t *testing.T) {
					t.Parallel()
					db := migrated(t, open(t))
					store(t, db, rows)
					readFormer(t, db, formerSettings[name], rows)
				})
			}
		}
	}
}

func store(t *testing.T, db *gorm.DB, rows []formerRow) {
	t.Helper()
	for _, row := range rows {
		state, err := hex.DecodeString(row.State)
		if err != nil {
			t.Fatal(err)
		}
		var stored any = &gormstore.StoredEvent{ApplicationName: "Parcels", OriginatorID: gormstore.UUID(formerID),
			OriginatorVersion: row.Version, Topic: row.Topic, State: state}
		if row.Table == "snapshot" {
			stored = &gormstore.Snapshot{ApplicationName: "Parcels", OriginatorID: gormstore.UUID(formerID),
				OriginatorVersion: row.Version, Topic: row.Topic, State: state}
		}
		if err := db.Create(stored).Error; err != nil {
			t.Fatal(err)
		}
	}
}

func readFormer(t *testing.T, db *gorm.DB, settings map[string]string, rows []formerRow) {
	t.Helper()
	app, err := application.New("Parcels", application.WithStore(gormstore.New(db)), application.WithEnv(settings))
	if err != nil {
		t.Fatal(err)
	}
	parcels := expect.Must(application.NewRepository(app, formerParcels))
	want := []string{"走る 🐕 \"q\" \\ <b>"}
	for range 2 {
		p, err := parcels.Get(t.Context(), formerID)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(p.Sent, formerSent) || p.Grams != formerWeighed.Grams || !reflect.DeepEqual(p.Places, want) {
			t.Fatalf("got %+v, want %+v", p, formerSent)
		}
		if err := parcels.Update(t.Context(), formerID, func(p *formerParcel) error {
			domain.Trigger(p, formerMoved{Place: "on"})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want = append(want, "on")
	}
	snapshots := 0
	for _, row := range rows {
		if row.Table == "snapshot" {
			snapshots++
		}
	}
	if snapshots == 0 {
		t.Error("there is no snapshot in the rows")
	}
}
