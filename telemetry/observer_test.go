package telemetry_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

type traceKey struct{}

// joined returns the observer of an application that was given all of these.
func joined(t *testing.T, observers ...*telemetry.Observer) *telemetry.Observer {
	t.Helper()
	var options []application.Option
	for _, o := range observers {
		options = append(options, application.WithObserver(o))
	}
	app, err := application.New("A", options...)
	if err != nil {
		t.Fatal(err)
	}
	return bridge.Of(app).Observer()
}

// TestSeveralObserversAreCalled also shows that the context of one observer
// reaches the next, and that a function that no observer has stays nil.
func TestSeveralObserversAreCalled(t *testing.T) {
	var calls []string
	observer := func(name string) *telemetry.Observer {
		return &telemetry.Observer{
			SaveStart: func(ctx context.Context, _ telemetry.Save) context.Context {
				before, _ := ctx.Value(traceKey{}).(string)
				return context.WithValue(ctx, traceKey{}, before+name)
			},
			SaveDone: func(ctx context.Context, _ telemetry.Save) {
				calls = append(calls, name+" saw "+ctx.Value(traceKey{}).(string))
			},
			Metadata: func(context.Context) domain.Metadata { return domain.Metadata{name: "1"} },
		}
	}
	both := joined(t, nil, observer("a"), nil, observer("b"))
	ctx := both.SaveStart(context.Background(), telemetry.Save{})
	both.SaveDone(ctx, telemetry.Save{})
	if want := []string{"a saw ab", "b saw ab"}; !slices.Equal(calls, want) {
		t.Errorf("calls: got %q, want %q", calls, want)
	}
	if got := both.Metadata(ctx); len(got) != 2 {
		t.Errorf("metadata: got %v, want that of both", got)
	}
	if both.LoadDone != nil || both.LoadStart != nil {
		t.Error("a function that no observer has is not nil")
	}
}

// TestSeveralObserversLeaveNothingOut has two observers with every function, and
// wants both of each called.
func TestSeveralObserversLeaveNothingOut(t *testing.T) {
	called := map[string]int{}
	counting := func() *telemetry.Observer {
		o := &telemetry.Observer{}
		value := reflect.ValueOf(o).Elem()
		for i := range value.NumField() {
			name, kind := value.Type().Field(i).Name, value.Field(i).Type()
			value.Field(i).Set(reflect.MakeFunc(kind, func(arguments []reflect.Value) []reflect.Value {
				called[name]++
				switch {
				case kind.NumOut() == 0:
					return nil
				case kind.Out(0) == arguments[0].Type():
					return arguments[:1]
				}
				return []reflect.Value{reflect.Zero(kind.Out(0))}
			}))
		}
		return o
	}
	both := reflect.ValueOf(joined(t, counting(), counting())).Elem()
	for i := range both.NumField() {
		name, f := both.Type().Field(i).Name, both.Field(i)
		if f.IsNil() {
			t.Errorf("%s is left out", name)
			continue
		}
		arguments := []reflect.Value{reflect.ValueOf(context.Background())}
		for j := 1; j < f.Type().NumIn(); j++ {
			arguments = append(arguments, reflect.Zero(f.Type().In(j)))
		}
		if f.Call(arguments); called[name] != 2 {
			t.Errorf("%s: got %d calls, want 2", name, called[name])
		}
	}
}

func TestOutcome(t *testing.T) {
	for want, err := range map[string]error{
		"ok": nil, "conflict": &persistence.ConflictError{}, "error": errors.New("x"),
	} {
		if got := (telemetry.Save{Err: err}).Outcome(); got != want {
			t.Errorf("outcome of %v: got %q, want %q", err, got, want)
		}
	}
}
