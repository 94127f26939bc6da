package environment_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// A module that fails to open, and says for whom.
func init() {
	environment.Register("broken", func(env *environment.Environment) (persistence.Factory, error) {
		return nil, fmt.Errorf("%s: %w", env.Name(), errBroken)
	})
}

func TestModules(t *testing.T) {
	t.Parallel()
	got := environment.Modules()
	if !slices.IsSorted(got) || !slices.Contains(got, "memory") || !slices.Contains(got, "broken") {
		t.Errorf("got %q, want a sorted list with memory and broken", got)
	}
	got[0] = "changed"
	if slices.Contains(environment.Modules(), "changed") {
		t.Error("the caller can change the registry")
	}
}

func TestRegisterPanics(t *testing.T) {
	t.Parallel()
	before := environment.Modules()
	open := func(*environment.Environment) (persistence.Factory, error) { return memory.New(), nil }
	for want, register := range map[string]func(){
		`environment: module "memory" is registered twice`:           func() { environment.Register("memory", open) },
		`environment: module "nil" is registered without a function`: func() { environment.Register("nil", nil) },
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("got panic %v, want %s", got, want)
				}
			}()
			register()
		}()
	}
	if got := environment.Modules(); !slices.Equal(got, before) { // and the lock is free
		t.Errorf("got %q, want %q", got, before)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, env := range []*environment.Environment{
		newEnvironment("School", nil, nil),
		newEnvironment("School", settings{"PERSISTENCE_MODULE": "memory"}, settings{"PERSISTENCE_MODULE": "unknown"}),
		newEnvironment("School", nil, settings{"SCHOOL_PERSISTENCE_MODULE": "memory", "PERSISTENCE_MODULE": "unknown"}),
	} {
		factory, err := environment.Open(env, "memory")
		if !capability.Of(factory).Volatile || err != nil {
			t.Errorf("got %T, error %v, want a store in memory", factory, err)
		}
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	_, err := environment.Open(newEnvironment("School", settings{"PERSISTENCE_MODULE": "broken"}, nil), "memory")
	expect.ErrorIs(t, err, errBroken)
	expect.ErrorText(t, err, "School: recorder is broken")

	for _, key := range []string{"PERSISTENCE_MODULE", "SCHOOL_PERSISTENCE_MODULE"} {
		_, err = environment.Open(newEnvironment("School", nil, settings{key: "", "PERSISTENCE_MODULE": ""}), "memory")
		wantSettingError(t, err, key+" is set but empty; give it a value or remove it")
	}

	// The list is of all modules that this test program has.
	known := strings.Join(environment.Modules(), ", ")
	_, err = environment.Open(newEnvironment("School", nil, settings{"SCHOOL_PERSISTENCE_MODULE": "gormm"}), "memory")
	wantSettingError(t, err, `SCHOOL_PERSISTENCE_MODULE: "gormm" is not a registered module (forgotten import?); registered are `+known)
	_, err = environment.Open(newEnvironment("School", nil, nil), "gormstore")
	wantSettingError(t, err, `PERSISTENCE_MODULE: "gormstore" is not a registered module (forgotten import?); registered are `+known)
}
