package application_test

import (
	"reflect"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
)

// WithMetadata adds to what ctx has, and leaves what it is given alone.
func TestWithMetadata(t *testing.T) {
	t.Parallel()
	a, b := domain.Metadata{"x": "1", "y": "1"}, domain.Metadata{"y": "2"}
	for _, test := range []struct{ a, b, want domain.Metadata }{
		{nil, nil, nil}, {nil, domain.Metadata{}, nil}, {domain.Metadata{}, nil, nil}, {a, nil, a}, {nil, b, b}, {a, b, domain.Metadata{"x": "1", "y": "2"}},
	} {
		got := application.MetadataFrom(application.WithMetadata(application.WithMetadata(t.Context(), test.a), test.b))
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v with %v: got %#v, want %#v", test.a, test.b, got, test.want)
		}
		if got != nil {
			got["x"] = "changed"
		}
	}
	if a["x"] != "1" || a["y"] != "1" || len(b) != 1 {
		t.Errorf("got %v and %v, want them as they were", a, b)
	}
}
