package telemetry_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

type traceKey struct{}

// TestJoinCallsAll also shows that the context of one observer reaches the
// next, and that a function that no observer has stays nil.
func TestJoinCallsAll(t *testing.T) {
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
	joined := telemetry.Join(nil, observer("a"), nil, observer("b"))
	ctx := joined.SaveStart(context.Background(), telemetry.Save{})
	joined.SaveDone(ctx, telemetry.Save{})
	if want := []string{"a saw ab", "b saw ab"}; !slices.Equal(calls, want) {
		t.Errorf("calls: got %q, want %q", calls, want)
	}
	if got := joined.Metadata(ctx); len(got) != 2 {
		t.Errorf("metadata: got %v, want that of both", got)
	}
	if joined.LoadDone != nil || joined.LoadStart != nil {
		t.Error("a function that no observer has is not nil")
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
