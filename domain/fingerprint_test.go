//lint:file-ignore U1000 the fields are seen by reflection only

package domain_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
)

type kennel struct {
	domain.Aggregate
	Name  string
	Since time.Time
}

type kennelOpened struct{}

func (kennelOpened) Apply(*kennel) {}

// fingerprint is that of snapshots whose state is an S.
func fingerprint[S any](options ...domain.TypeOption) string {
	d := domain.Define("Kennel", domain.On("Opened", kennelOpened{}),
		domain.State(func(*kennel) (s S) { return s }, func(S) *kennel { return &kennel{} }, options...))
	return definitions.Of(d).SnapshotType().Fingerprint(definitions.Of(d).SnapshotType().Version())
}

type (
	inner        struct{ A, B int }
	renamedInner struct{ B, A int }
	embeds       struct {
		inner
		C string
	}
	tree  struct{ Children []tree }
	shrub struct{ Children []shrub }
	bush  struct {
		Children []bush
		Leaves   int
	}
)

func TestFingerprintIsOfTheStoredFields(t *testing.T) {
	for name, same := range map[string][2]string{
		"another name of the type": {fingerprint[inner](), fingerprint[renamedInner]()},
		"a tag keeps the stored name": {fingerprint[struct{ A int }](), fingerprint[struct {
			B int `json:"A"`
		}]()},
		"fields of an embedded struct": {fingerprint[embeds](), fingerprint[struct {
			C    string
			A, B int
		}]()},
		"a field that is not stored": {fingerprint[struct{ A int }](), fingerprint[struct {
			A int
			B int `json:"-"`
		}]()},
		"a type that contains itself": {fingerprint[tree](), fingerprint[shrub]()},
		"the aggregate beside its state": {fingerprint[kennel](), fingerprint[struct {
			Name  string
			Since time.Time
		}]()},
	} {
		if same[0] != same[1] || same[0] == "" {
			t.Errorf("%s: got %q and %q, want the same", name, same[0], same[1])
		}
	}
	seen := map[string]string{}
	for name, print := range map[string]string{
		"A int":              fingerprint[struct{ A int }](),
		"A int64":            fingerprint[struct{ A int64 }](),
		"A string":           fingerprint[struct{ A string }](),
		"A *int":             fingerprint[struct{ A *int }](),
		"A []int":            fingerprint[struct{ A []int }](),
		"A [2]int":           fingerprint[struct{ A [2]int }](),
		"A [3]int":           fingerprint[struct{ A [3]int }](),
		"A map[string]int":   fingerprint[struct{ A map[string]int }](),
		"A map[string]inner": fingerprint[struct{ A map[string]inner }](),
		"A time":             fingerprint[struct{ A time.Time }](),
		"A uuid":             fingerprint[struct{ A uuid.UUID }](),
		"A any":              fingerprint[struct{ A any }](),
		"a int": fingerprint[struct {
			A int `json:"a"`
		}](),
		"A int in quotes": fingerprint[struct {
			A int `json:",string"`
		}](),
		"inner":      fingerprint[inner](),
		"[]inner":    fingerprint[[]inner](),
		"A inner":    fingerprint[struct{ A inner }](),
		"tree":       fingerprint[tree](),
		"bush":       fingerprint[bush](),
		"no fields":  fingerprint[struct{}](),
		"one string": fingerprint[string](),
	} {
		if other, taken := seen[print]; taken || print == "" {
			t.Errorf("%s and %s both have %q", name, other, print)
		}
		seen[print] = name
	}
	// The fingerprints are stored, so they must never change.
	if got, want := fingerprint[kennel](), "d7f9b9abf3e95870"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Snapshots of older schema versions have the fingerprint of what the upcaster
// takes.
func TestFingerprintOfOlderVersions(t *testing.T) {
	type v1 struct{ A int }
	type v2 struct{ B int }
	d := domain.Define("Kennel", domain.On("Opened", kennelOpened{}), domain.State(func(*kennel) (s v2) { return s },
		func(v2) *kennel { return &kennel{} }, domain.Upcast(func(v1) v2 { return v2{} })))
	snapshots := definitions.Of(d).SnapshotType()
	for version, want := range map[int]string{0: "", 1: fingerprint[v1](), 2: fingerprint[v2](), 3: ""} {
		if got := snapshots.Fingerprint(version); got != want {
			t.Errorf("version %d: got %q, want %q", version, got, want)
		}
	}
	if got := definitions.Of(d).EventTypes()[0].Fingerprint(1); got != "" {
		t.Errorf("an event has the fingerprint %q, want none", got)
	}
	if got := fingerprint[map[string]any](); got != "" {
		t.Errorf("got %q for a state that takes anything, want none", got)
	}
}

type jsonForm struct{}

func (jsonForm) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

type textForm struct{}

func (textForm) MarshalText() ([]byte, error) { return []byte("text"), nil }

// A type that makes its own form is another one if any of its fields is, at any
// depth, whether exported or not. The types of a row have one name.
func TestFingerprintOfTypesWithTheirOwnForm(t *testing.T) {
	for name, differ := range map[string][2]string{
		"JSON": {
			func() string {
				type money struct {
					jsonForm
					amount int
				}
				return fingerprint[[]money]()
			}(),
			func() string {
				type money struct {
					jsonForm
					amount   int
					currency string
				}
				return fingerprint[[]money]()
			}(),
		},
		"text": {
			func() string {
				type money struct {
					textForm
					Parts []struct{ amount int }
				}
				return fingerprint[map[string]money]()
			}(),
			func() string {
				type money struct {
					textForm
					Parts []struct{ amount int64 }
				}
				return fingerprint[map[string]money]()
			}(),
		},
		"a transcoding": {
			func() string {
				type money struct{ amount int }
				return fingerprint[money]()
			}(),
			func() string {
				type money struct {
					amount   int
					currency *money
				}
				return fingerprint[money]()
			}(),
		},
	} {
		if differ[0] == differ[1] {
			t.Errorf("%s: both have the fingerprint %q", name, differ[0])
		}
	}
}
