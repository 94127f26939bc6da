package mapper

import (
	"bytes"
	"reflect"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// checkDowncast reads a plain state that was written in an earlier schema
// version, and returns an *invalid.Error if its payload is not that
// of the event. What is read later would differ from what was applied.
func (m *Mapper) checkDowncast(p purpose, k kind, plain []byte, event domain.Event) (err error) {
	if _, version := k.Written(); version == k.Version() {
		return nil
	}
	again := domain.Event{Topic: event.Topic}
	if plain[0] == layoutPython {
		_, err = m.decodePython(p, plain, &again)
	} else {
		_, err = m.decode(p, plain, &again)
	}
	if err != nil {
		return err
	}
	if same, err := m.isSamePayload(event.Data, again.Data); same || err != nil {
		return err
	}
	return &invalid.Error{What: "payload", Class: persistence.ErrData,
		Problem: "is another one when it is read again, because the schema version that domain.Downcast writes cannot hold it; " +
			"store such payloads once the Downcast is removed"}
}

// isSamePayload reports whether two payloads are equal, or are stored as the
// same bytes: an empty slice may come back as none.
func (m *Mapper) isSamePayload(a, b any) (bool, error) {
	if reflect.DeepEqual(a, b) {
		return true, nil
	}
	bytesA, err := m.transcoder.Encode(nil, a)
	if err != nil {
		return false, err
	}
	bytesB, err := m.transcoder.Encode(nil, b)
	return bytes.Equal(bytesA, bytesB), err
}
