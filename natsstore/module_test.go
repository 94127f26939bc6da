package natsstore_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// TestPersistenceModule makes an application whose store the environment
// chooses.
func TestPersistenceModule(t *testing.T) {
	t.Parallel()
	settings := map[string]string{
		"PERSISTENCE_MODULE": "natsstore", "NATS_URL": startServer(t).ClientURL(), "NATS_NAMESPACE": "dogs", "NATS_REPLICAS": "1",
		"NATS_WAIVE": "single-replica, periodic-sync", "NATS_CREATE_STREAMS": "y", "NATS_TIMEOUT": "10",
	}
	for _, trick := range []string{"roll over", "sit"} {
		app, err := school.New(application.WithEnv(settings))
		if err != nil {
			t.Fatal(err)
		}
		if trick == "roll over" {
			err = app.Register(t.Context(), "Fido")
		}
		if err == nil {
			err = app.AddTrick(t.Context(), "Fido", trick)
		}
		if err != nil {
			t.Fatal(err)
		}
		tricks, err := app.Tricks(t.Context(), "Fido")
		if err != nil || tricks[len(tricks)-1] != trick {
			t.Errorf("got the tricks %q and the error %v, want %q at the end", tricks, err, trick)
		}
		if err := app.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

func TestPersistenceModuleSettings(t *testing.T) {
	t.Parallel()
	for key, value := range map[string]string{
		"NATS_URL": "", "NATS_REPLICAS": "9", "NATS_WAIVE": "everything", "NATS_CREATE_STREAMS": "perhaps", "NATS_TIMEOUT": "0",
		"NATS_CREDENTIALS": "/does/not/exist",
	} {
		settings := map[string]string{"PERSISTENCE_MODULE": "natsstore", "NATS_URL": "nats://secret:secret@127.0.0.1:1", key: value}
		_, err := application.New("TrainingSchool", application.WithEnv(settings))
		if !errors.Is(err, persistence.ErrProgramming) && !errors.Is(err, persistence.ErrUnavailable) || strings.Contains(err.Error(), "secret:secret") {
			t.Errorf("%s=%q: got the error %v, want ErrProgramming or ErrUnavailable without the password", key, value, err)
		}
	}
}
