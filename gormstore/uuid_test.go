package gormstore_test

import (
	"encoding/json"
	"fmt"
	"log"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// Vaccination is a table of the service's that refers to a dog, which may have
// been vaccinated by another.
type Vaccination struct {
	ID    uint
	DogID gormstore.UUID `gorm:"index"`
	Donor *gormstore.UUID
}

// Every way in which GORM takes a condition finds the rows of one dog.
func TestUUIDInConditions(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		t.Parallel()
		db := open(t)
		if err := db.AutoMigrate(&Vaccination{}); err != nil {
			t.Fatal(err)
		}
		// Digits alone, which a column with numeric affinity would round.
		dog := uuid.MustParse("12345678-9012-3456-7890-123456789012")
		id := gormstore.UUID(dog)
		rows := []Vaccination{{DogID: id}, {DogID: gormstore.UUID(uuid.New()), Donor: &id}}
		if err := db.Create(&rows).Error; err != nil {
			t.Fatal(err)
		}
		ways := map[string]*gorm.DB{
			"text":     db.Where("dog_id = ?", id),
			"pointer":  db.Where("dog_id = ?", &id),
			"list":     db.Where("dog_id IN ?", []gormstore.UUID{id, gormstore.UUID(uuid.New())}),
			"struct":   db.Where(&Vaccination{DogID: id}),
			"map":      db.Where(map[string]any{"dog_id": id}),
			"named":    db.Where("dog_id = @dog", map[string]any{"dog": id}),
			"not":      db.Not("dog_id <> ?", id),
			"nullable": db.Where("donor IS NULL"),
			"raw":      db.Raw("SELECT * FROM vaccinations WHERE dog_id = ?", id),
		}
		for way, query := range ways {
			var found []Vaccination
			if err := query.Find(&found).Error; err != nil {
				t.Errorf("%s: %v", way, err)
			} else if len(found) != 1 || found[0].DogID != id || found[0].Donor != nil {
				t.Errorf("%s: got %v, want the vaccination of %v", way, found, dog)
			}
		}
	})
}

func TestUUIDAsText(t *testing.T) {
	t.Parallel()
	id := gormstore.UUID(uuid.New())
	type message struct {
		Dog   gormstore.UUID            `json:"dog"`
		Donor *gormstore.UUID           `json:"donor"`
		Ages  map[gormstore.UUID]uint16 `json:"ages"`
	}
	sent := message{Dog: id, Ages: map[gormstore.UUID]uint16{id: 3}}
	text, err := json.Marshal(sent)
	if want := fmt.Sprintf(`{"dog":%q,"donor":null,"ages":{%q:3}}`, id, id); err != nil || string(text) != want {
		t.Fatalf("got %s, %v; want %s", text, err, want)
	}
	var got message
	if err := json.Unmarshal(text, &got); err != nil || got.Dog != id || got.Donor != nil || got.Ages[id] != 3 {
		t.Errorf("got %v, %v; want %v", got, err, sent)
	}
	for _, wrong := range []string{`""`, `"Fido"`, `"1234"`, `7`} {
		if err := json.Unmarshal([]byte(wrong), new(gormstore.UUID)); err == nil {
			t.Errorf("%s was accepted as a UUID", wrong)
		}
	}
}

// Rows of the service that refer to an aggregate are found by its id.
func ExampleUUID() {
	db, remove := temporary()
	defer remove()
	if err := db.AutoMigrate(&Vaccination{}); err != nil {
		log.Fatal(err)
	}
	dog := school.DogID("Fido")
	if err := db.Create(&Vaccination{DogID: gormstore.UUID(dog)}).Error; err != nil {
		log.Fatal(err)
	}
	var found []Vaccination
	err := db.Where("dog_id = ?", gormstore.UUID(dog)).Find(&found).Error
	fmt.Println(len(found), err)
	// Output: 1 <nil>
}
