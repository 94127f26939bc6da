package pglisten

import (
	"context"
	"slices"
	"strconv"
	"testing"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	many := make([]string, maxTexts+1)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	for name, test := range map[string]struct{ add, want []string }{
		"none":               {nil, nil},
		"the same":           {[]string{"a", "b", "a"}, []string{"a", "b"}},
		"all stands for all": {[]string{"a", "", "b"}, []string{""}},
		"as many as fit":     {many[:maxTexts], many[:maxTexts]},
		"too many":           {many, []string{""}},
	} {
		s := newSignals()
		for range 2 { // the second time they come after the first was taken
			for _, text := range test.add {
				s.add(text)
			}
			if len(test.add) > 0 && !s.wait(t.Context()) {
				t.Errorf("%s: nothing to take", name)
			}
			got := s.take()
			slices.Sort(got)
			want := slices.Sorted(slices.Values(test.want))
			if !slices.Equal(got, want) {
				t.Errorf("%s: took %q, want %q", name, got, want)
			}
		}
	}
}

func TestSignalsEndWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if newSignals().wait(ctx) {
		t.Error("there is something where nothing was added")
	}
}
