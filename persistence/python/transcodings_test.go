package python_test

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

func TestDecimalIsFinite(t *testing.T) {
	t.Parallel()
	for number, want := range map[python.Decimal]bool{
		"10.00": true, "-0": true, "1E+3": true, "": false, "NaN": false, "sNaN": false, "-Infinity": false, "x": false,
	} {
		if got := number.IsFinite(); got != want {
			t.Errorf("%q.IsFinite() = %v, want %v", number, got, want)
		}
	}
}
