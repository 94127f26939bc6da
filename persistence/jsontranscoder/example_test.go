package jsontranscoder_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

func ExampleNew() {
	type Booked struct {
		DogID uuid.UUID      `json:"dog_id"`
		At    time.Time      `json:"at"`
		Fee   python.Decimal `json:"fee"`
		Notes []string       `json:"notes"`
	}
	transcoder := jsontranscoder.New(python.Transcodings()...)

	data, err := transcoder.Encode(nil, Booked{
		DogID: uuid.MustParse("1e1d7398-8986-57af-bb01-11a89b2f8b02"),
		At:    time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC),
		Fee:   "10.10",
		Notes: []string{"first", "über"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.ReplaceAll(string(data), "},", "},\n"))

	var booked Booked
	if err := transcoder.Decode(data, &booked); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(booked.At.Format(time.DateOnly), booked.Fee, booked.Notes)
	// Output:
	// {"dog_id":{"_type_":"uuid_hex","_data_":"1e1d7398898657afbb0111a89b2f8b02"},
	// "at":{"_type_":"datetime_iso","_data_":"2024-02-29T23:59:59.123456+00:00"},
	// "fee":{"_type_":"decimal_str","_data_":"10.10"},
	// "notes":["first","über"]}
	// 2024-02-29 10.10 [first über]
}

// Celsius is a type of the program that is to be stored in a special form.
type Celsius struct{ degrees float64 }

func ExampleNewTranscoding() {
	celsius := jsontranscoder.NewTranscoding("celsius",
		func(c Celsius) (float64, error) { return c.degrees, nil },
		func(degrees float64) (Celsius, error) { return Celsius{degrees}, nil })
	transcoder := jsontranscoder.New(append(python.Transcodings(), celsius)...)

	data, err := transcoder.Encode(nil, map[string]any{"measured": Celsius{36.6}})
	fmt.Println(string(data), err)

	var anything any
	err = transcoder.Decode(data, &anything)
	fmt.Println(anything, err)
	// Output:
	// {"measured":{"_type_":"celsius","_data_":36.6}} <nil>
	// map[measured:{36.6}] <nil>
}

func ExampleNew_checkType() {
	type Dog struct {
		Name   string
		secret string
	}
	transcoder := jsontranscoder.New(python.Transcodings()...)

	checker := transcoder.(interface{ CheckType(reflect.Type) error })
	err := checker.CheckType(reflect.TypeOf(Dog{secret: "lost"}))
	problem, _, _ := strings.Cut(err.Error(), ":")
	fmt.Println(problem)
	fmt.Println(errors.Is(err, persistence.ErrProgramming))
	// Output:
	// Dog.secret cannot be stored
	// true
}

func ExampleNew_errors() {
	type Measured struct{ Temperature Celsius }
	transcoder := jsontranscoder.New(python.Transcodings()...)

	_, err := transcoder.Encode(nil, Measured{Celsius{36.6}})
	problem, _, _ := strings.Cut(err.Error(), ";")
	fmt.Println(problem)

	var value any
	err = transcoder.Decode([]byte(`{"_type_":"celsius","_data_":36.6}`), &value)
	fmt.Println(err)
	// Output:
	// Measured.Temperature: object of type jsontranscoder_test.Celsius is not serializable
	// data serialized with name 'celsius' is not deserializable; register a transcoding for it (at offset 0)
}
