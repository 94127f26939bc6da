package mapper_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// heavy is a payload of everything that a decoder could leave pointing into its
// input.
type heavy struct {
	Text  string
	Bytes []byte
	Raw   json.RawMessage
	Map   map[string]string
	Any   any
}

func (heavy) Apply(*kennel) {}

var heavies = domain.Define("Heavy", domain.On("Weighed", heavy{}))

func heavyEvent(mark string) domain.Event {
	return heavies.Create(uuid.New(), heavy{
		Text: "text " + mark, Bytes: []byte("bytes " + mark), Raw: json.RawMessage(`["raw ` + mark + `"]`),
		Map: map[string]string{"key " + mark: "value " + mark}, Any: []any{"any " + mark},
	}, domain.With(domain.Metadata{"meta " + mark: "data " + mark})).PendingEvents()[0]
}

// TestMapperSharesNoMemory overwrites what the mapper was given and what it
// returned, and uses its buffers for other events.
func TestMapperSharesNoMemory(t *testing.T) {
	t.Parallel()
	for _, chain := range chains() {
		for _, original := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v original=%v", chain, original), func(t *testing.T) {
				t.Parallel()
				config := chain.config(t)
				config.PythonLayout = original
				m := newMapper(t, config, heavies)
				event := heavyEvent("first")
				kept, overwritten := toStored(t, m, event), toStored(t, m, event)
				clear(overwritten.State[:cap(overwritten.State)])
				state := slices.Clone(kept.State)
				got, err := m.ToDomain(persistence.StoredEvent{OriginatorID: kept.OriginatorID, OriginatorVersion: 1,
					Topic: kept.Topic, State: state})
				if err != nil {
					t.Fatal(err)
				}
				clear(state)
				for range 10 {
					checkHeavy(t, m, heavyEvent("other"))
				}
				if !reflect.DeepEqual(got.Data, event.Data) || !original && !reflect.DeepEqual(got.Metadata, event.Metadata) {
					t.Errorf("an event changed after it was read: got %+v\nwant %+v", got, event)
				}
				if again, err := m.ToDomain(kept); err != nil || !reflect.DeepEqual(again, got) {
					t.Errorf("a state changed after it was made: got %+v, error %v\nwant %+v", again, err, got)
				}
			})
		}
	}
}

func checkHeavy(t *testing.T, m *mapper.Mapper, event domain.Event) {
	t.Helper()
	stored, err := m.ToStored(event)
	if err != nil {
		t.Error(err)
		return
	}
	if got, err := m.ToDomain(stored); err != nil || !reflect.DeepEqual(got.Data, event.Data) {
		t.Errorf("got %+v, error %v\nwant %+v", got.Data, err, event.Data)
	}
}

// TestMapperConcurrentUse maps with a hundred goroutines while definitions are
// added.
func TestMapperConcurrentUse(t *testing.T) {
	t.Parallel()
	m := newMapper(t, chain{"zstd", "aes"}.config(t), heavies)
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			for j := range 5 {
				checkHeavy(t, m, heavyEvent(fmt.Sprint(i, " ", j)))
			}
		})
		if i%10 == 0 {
			group.Go(func() {
				log := domain.Define(fmt.Sprint("Log", i), domain.Entry("Entered", 0))
				for range 10 {
					if err := m.Add(log); err != nil {
						t.Error(err)
					}
				}
				if _, ok := m.SchemaOf(fmt.Sprintf("Log%d.Entered", i)); !ok {
					t.Errorf("Log%d is not there after it was added", i)
				}
			})
		}
	}
	group.Wait()
}

// spy is a cipher that remembers what a ciphertext is to be bound to, and
// refuses it.
type spy struct{ associated []byte }

func (s *spy) Encrypt(_, _, associated []byte) ([]byte, error) { return nil, doctored.ErrBroken }

func (s *spy) Decrypt(_, _, associated []byte) ([]byte, error) {
	s.associated = slices.Clone(associated)
	return nil, doctored.ErrBroken
}
