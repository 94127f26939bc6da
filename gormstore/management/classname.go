package management

import (
	"errors"
	"go/token"
	"reflect"
	"strings"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// originals are errors with the names that the Python original has for them, the more special ones first.
var originals = []struct {
	err  error
	name string
}{
	{gorm.ErrRecordNotFound, "ObjectDoesNotExist"},
	{application.ErrAggregateNotFound, "AggregateNotFound"},
	{persistence.ErrIntegrity, "IntegrityError"},
	{persistence.ErrOperational, "OperationalError"},
	{persistence.ErrData, "DataError"},
	{persistence.ErrInternal, "InternalError"},
	{persistence.ErrProgramming, "ProgrammingError"},
	{persistence.ErrNotSupported, "NotSupportedError"},
	{persistence.ErrDatabase, "DatabaseError"},
	{persistence.ErrInterface, "InterfaceError"},
	{persistence.ErrPersistence, "PersistenceError"},
}

// ClassName is the name of an error's class as sync_followers shows it: that of the Python original where it has such an
// error, and otherwise the name of the Go type. Where the type is not exported, that of the first error in the chain whose
// type is.
func ClassName(err error) string {
	if _, ok := errors.AsType[*system.PanicError](err); ok {
		return "PanicError"
	}
	if processing, ok := errors.AsType[*system.ProcessingError](err); ok {
		err = processing.Err
	}
	for _, original := range originals {
		if errors.Is(err, original.err) {
			return original.name
		}
	}
	if name := exportedName(err); name != "" {
		return name
	}
	if errors.Is(err, domain.ErrEventSourcing) {
		return "EventSourcingError"
	}
	return typeName(err)
}

// exportedName is the first exported type in a chain of errors, or "".
func exportedName(err error) string {
	if err == nil {
		return ""
	}
	if name := typeName(err); token.IsExported(name) {
		return name
	}
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		return exportedName(wrapper.Unwrap())
	case interface{ Unwrap() []error }:
		for _, cause := range wrapper.Unwrap() {
			if name := exportedName(cause); name != "" {
				return name
			}
		}
	}
	return ""
}

// typeName is the name of an error's type without its package.
func typeName(err error) string {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

// message is what an error says, on one line. That of an error without words is empty, whatever was put around it.
func message(err error) string {
	if processing, ok := errors.AsType[*system.ProcessingError](err); ok && processing.Err.Error() == "" {
		return ""
	}
	return oneLine(err.Error())
}

func oneLine(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ") }
