package persistence_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// classes are all classes with their names, and those that they are in.
var classes = []struct {
	class   error
	name    string
	parents []error
}{
	{persistence.ErrPersistence, "PersistenceError", nil},
	{persistence.ErrInterface, "InterfaceError", nil},
	{persistence.ErrDatabase, "DatabaseError", nil},
	{persistence.ErrData, "DataError", []error{persistence.ErrDatabase}},
	{persistence.ErrOperational, "OperationalError", []error{persistence.ErrDatabase}},
	{persistence.ErrIntegrity, "IntegrityError", []error{persistence.ErrDatabase}},
	{persistence.ErrInternal, "InternalError", []error{persistence.ErrDatabase}},
	{persistence.ErrProgramming, "ProgrammingError", []error{persistence.ErrDatabase}},
	{persistence.ErrNotSupported, "NotSupportedError", []error{persistence.ErrDatabase}},
	{persistence.ErrLockTimeout, "lock timeout", []error{persistence.ErrOperational, persistence.ErrDatabase}},
	{persistence.ErrRetryTransaction, "transaction must be retried", []error{persistence.ErrOperational, persistence.ErrDatabase}},
	{persistence.ErrOutcomeUnknown, "outcome unknown", []error{persistence.ErrOperational, persistence.ErrDatabase}},
	{persistence.ErrReadOnly, "database is read-only", []error{persistence.ErrOperational, persistence.ErrDatabase}},
	{persistence.ErrDiskFull, "disk is full", []error{persistence.ErrOperational, persistence.ErrDatabase}},
	{persistence.ErrNotMigrated, "database is not migrated", []error{persistence.ErrOperational, persistence.ErrDatabase}},
	{persistence.ErrPositionMoved, "position was moved", []error{persistence.ErrIntegrity, persistence.ErrDatabase}},
	{persistence.ErrOriginatorType, "originator of another definition", []error{persistence.ErrIntegrity, persistence.ErrDatabase}},
	{persistence.ErrClosed, "closed", []error{persistence.ErrInterface}},
	{persistence.ErrNoTransaction, "no transaction in the context", []error{persistence.ErrProgramming, persistence.ErrDatabase}},
}

// TestClasses asks each class for each other one.
func TestClasses(t *testing.T) {
	t.Parallel()
	for _, test := range classes {
		expect.ErrorText(t, test.class, test.name)
		within := append([]error{test.class, persistence.ErrPersistence, domain.ErrEventSourcing}, test.parents...)
		for _, other := range classes {
			if got, want := errors.Is(test.class, other.class), slices.Contains(within, other.class); got != want {
				t.Errorf("%v is %v: got %v, want %v", test.class, other.class, got, want)
			}
		}
		if !errors.Is(test.class, domain.ErrEventSourcing) {
			t.Errorf("%v is not an ErrEventSourcing", test.class)
		}
		wrapped := fmt.Errorf("save: %w", &persistence.Error{Class: test.class, Op: "insert", Err: errBroken})
		for _, class := range append(within, errBroken) {
			if !errors.Is(wrapped, class) {
				t.Errorf("%v is not %v", wrapped, class)
			}
		}
	}
}

// TestErrorTexts is what the errors say, what they are, and what their causes
// are.
func TestErrorTexts(t *testing.T) {
	t.Parallel()
	id := sampleID.String()
	tests := []struct {
		err    error
		text   string
		class  error
		causes bool // whether errBroken is a cause
	}{
		{&persistence.Error{Class: persistence.ErrClosed, Op: "School: insert events"}, "School: insert events: closed", persistence.ErrClosed, false},
		{&persistence.Error{Class: persistence.ErrDiskFull, Op: "School: save", Hint: "make room", Err: errBroken},
			"School: save: disk is full: make room: recorder is broken", persistence.ErrDiskFull, true},
		{&persistence.ConflictError{Application: "School", OriginatorID: sampleID, Version: 3, Current: -1},
			"School: originator " + id + " already has version 3; load it again and repeat the command", persistence.ErrIntegrity, false},
		{&persistence.ConflictError{Application: "School", OriginatorID: sampleID, Version: 3, Current: 3, Err: errBroken},
			"School: originator " + id + " already has version 3; load it again and repeat the command", persistence.ErrIntegrity, true},
		{&persistence.ConflictError{Application: "School", OriginatorID: sampleID, Version: 3, Current: 7},
			"School: originator " + id + " already has version 3 and is at version 7; load it again and repeat the command", persistence.ErrIntegrity, false},
		{&persistence.ConflictError{Application: "School", OriginatorID: sampleID, Version: 1, Current: 7, Exists: true},
			"School: originator " + id + " exists: it already has version 1 and is at version 7; " +
				"load it instead of creating it, or give the new one another id", persistence.ErrIntegrity, false},
		{&invalid.Error{What: "range", Problem: "is empty", Class: persistence.ErrData}, "range is empty", persistence.ErrData, false},
		{&persistence.MappingError{Application: "School", OriginatorID: sampleID, OriginatorVersion: 3, Topic: "Dog.Registered",
			Stage: "decrypt", Err: errBroken},
			"School: cannot decrypt the state of Dog.Registered version 3 of originator " + id + ": recorder is broken", persistence.ErrPersistence, true},
		{&persistence.MappingError{Application: "School", OriginatorID: sampleID, OriginatorVersion: 3, NotificationID: 9, Topic: "Dog.Registered",
			Stage: "topic", Err: errBroken},
			"School: cannot map the state of Dog.Registered version 3 of originator " + id + " (notification 9): recorder is broken", persistence.ErrPersistence, true},
		{&mapper.UnknownTopicError{Topic: "Cat\n"},
			`topic "Cat\n" is not defined; if a newer program wrote it, deploy that one; otherwise add it with domain.On, domain.Alias or domain.Retired, or give its definition to application.WithDefinitions`,
			persistence.ErrPersistence, false},
		{&invalid.Error{What: "KEY", Problem: "is wrong", Class: persistence.ErrProgramming, Err: errBroken},
			"KEY is wrong: recorder is broken", persistence.ErrProgramming, true},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%T", test.err), func(t *testing.T) {
			t.Parallel()
			expect.ErrorText(t, test.err, test.text)
			if !errors.Is(test.err, test.class) || !errors.Is(test.err, persistence.ErrPersistence) || !errors.Is(test.err, domain.ErrEventSourcing) {
				t.Errorf("%v is not %v", test.err, test.class)
			}
			if got := errors.Is(test.err, errBroken); got != test.causes {
				t.Errorf("is caused: got %v, want %v", got, test.causes)
			}
		})
	}
}

func TestIsConflictAndIsRetryable(t *testing.T) {
	t.Parallel()
	conflict := &persistence.ConflictError{Application: "School", OriginatorID: sampleID, Version: 3}
	of := func(class, cause error) error { return &persistence.Error{Class: class, Op: "save", Err: cause} }
	tests := []struct {
		err                 error
		conflict, retryable bool
	}{
		{nil, false, false},
		{errBroken, false, false},
		{conflict, true, false},
		{fmt.Errorf("save: %w", conflict), true, false},
		{errors.Join(errBroken, conflict), true, false},
		{of(persistence.ErrIntegrity, nil), false, false},
		{of(persistence.ErrPositionMoved, nil), false, false},
		{of(persistence.ErrOriginatorType, nil), false, false},
		{of(persistence.ErrOriginatorType, conflict), false, false},
		{fmt.Errorf("save: %w", of(persistence.ErrOriginatorType, conflict)), false, false},
		{of(persistence.ErrLockTimeout, nil), false, true},
		{of(persistence.ErrRetryTransaction, errBroken), false, true},
		{fmt.Errorf("save: %w", persistence.ErrLockTimeout), false, true},
		{of(persistence.ErrOperational, nil), false, false},
		{of(persistence.ErrReadOnly, nil), false, false},
		{of(persistence.ErrOutcomeUnknown, nil), false, false},
		{of(persistence.ErrOutcomeUnknown, persistence.ErrLockTimeout), false, false},
		{of(persistence.ErrOutcomeUnknown, conflict), false, false},
	}
	for _, test := range tests {
		if got := persistence.IsConflict(test.err); got != test.conflict {
			t.Errorf("IsConflict(%v) = %v, want %v", test.err, got, test.conflict)
		}
		if got := persistence.IsRetryable(test.err); got != test.retryable {
			t.Errorf("IsRetryable(%v) = %v, want %v", test.err, got, test.retryable)
		}
	}
}
