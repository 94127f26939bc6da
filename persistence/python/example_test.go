package python_test

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

func ExampleTranscodings() {
	transcoder := jsontranscoder.New(python.Transcodings()...)
	for _, value := range []any{
		uuid.MustParse("1e1d7398-8986-57af-bb01-11a89b2f8b02"),
		time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC),
		python.Decimal("10.10"),
	} {
		data, err := transcoder.Encode(nil, value)
		fmt.Println(string(data), err)
	}
	// Output:
	// {"_type_":"uuid_hex","_data_":"1e1d7398898657afbb0111a89b2f8b02"} <nil>
	// {"_type_":"datetime_iso","_data_":"2024-02-29T23:59:59.123456+00:00"} <nil>
	// {"_type_":"decimal_str","_data_":"10.10"} <nil>
}
