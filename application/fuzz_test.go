package application_test

import (
	"errors"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
)

// FuzzEnvironment gives any text to every setting: an application is made or a
// typed error is returned, and what is made works.
func FuzzEnvironment(f *testing.F) {
	f.Add("TrainingSchool", "y", "Dog=5,Visit=20", "zlib", "aes", testKey, "100")
	f.Add("dog-school 2.0", "maybe", "5", "gzip", "", "id:"+testKey+", "+otherKey, "0")
	f.Add("\xff\x00", "", "=,=", "zstd", "rot13", "", "99999999999999999999")
	f.Add("", "OFF", "Dog=1,Dog=2", "", "eventsourcing.cipher:AESCipher", testKey, "-1")
	f.Fuzz(func(t *testing.T, name, truth, intervals, compressorTopic, cipherTopic, key, number string) {
		given := map[string]string{
			"IS_SNAPSHOTTING_ENABLED": truth, "AGGREGATE_CACHE_FASTFORWARD": truth, "SNAPSHOTTING_INTERVALS": intervals,
			"COMPRESSOR_TOPIC": compressorTopic, "CIPHER_TOPIC": cipherTopic, "CIPHER_KEY": key, "AGGREGATE_CACHE_MAXSIZE": number,
		}
		e := environment.New(name, given, nothing)
		if _, err := e.Bool(true, "IS_SNAPSHOTTING_ENABLED"); err != nil {
			expect.ErrorAs[*invalid.Error](t, err)
		}
		if n, err := e.Int(7, -3, 100, "AGGREGATE_CACHE_MAXSIZE"); err != nil {
			expect.ErrorAs[*invalid.Error](t, err)
		} else if n < -3 || n > 100 {
			t.Errorf("got %d, want it from -3 to 100", n)
		}
		app, err := application.New(name, application.WithEnv(given), application.WithLookup(nothing))
		if err != nil {
			if !isTyped(err) {
				t.Errorf("got %v, want a typed error", err)
			}
			return
		}
		defer app.Close()
		dogs := expect.Must(application.NewRepository(app, school.Dogs))
		if err := dogs.Save(t.Context(), dogWith("Fido", 1)); err != nil {
			t.Fatal(err)
		}
		if dog, err := dogs.Get(t.Context(), school.DogID("Fido")); err != nil || dog.Version() != 2 {
			t.Errorf("got %+v, %v, want no error and Version 2", dog, err)
		}
	})
}

// isTyped reports whether an error is one of those that settings may have.
func isTyped(err error) bool {
	_, setting := errors.AsType[*invalid.Error](err)
	_, invalid := errors.AsType[*invalid.Error](err)
	return setting || invalid || errors.Is(err, cipher.ErrKey)
}
