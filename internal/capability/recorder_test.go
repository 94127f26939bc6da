package capability_test

import (
	"reflect"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
)

func TestCapabilitiesOfARecorder(t *testing.T) {
	all := struct {
		capability.HistoryReader
		capability.LogHoldReader
		capability.LogLocker
		capability.OrderReporter
		capability.OriginatorDeleter
		capability.PartitionRecorder // and its settings
		capability.ParkingRecorder
		capability.NotificationTracker
		capability.TrackingRows
	}{}
	for recorder, want := range map[any]bool{all: true, struct{}{}: false} {
		got := reflect.ValueOf(capability.OfRecorder(recorder))
		for i := range got.NumField() {
			if found := !got.Field(i).IsNil(); found != want {
				t.Errorf("%s of %T: found %v, want %v", got.Type().Field(i).Name, recorder, found, want)
			}
		}
	}
}
