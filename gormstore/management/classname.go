package management

import (
	"cmp"
	"errors"
	"fmt"
	"go/token"
	"reflect"
	"regexp"
	"strings"
	"unicode"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// pythonNames are errors with the names that the Python library has for them, the
// more special ones first.
var pythonNames = []struct {
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

// className is the name of an error's class as sync_followers shows it: that of
// the Python library if it has such an error, and otherwise the name of the Go
// type. If the type is not exported, it is that of the first error in the chain
// whose type is.
func className(err error) (name string) {
	defer func() {
		if recover() != nil { // a method of the error has panicked, as those of nil pointers do
			name = typeName(err)
		}
	}()
	return classIn(err)
}

func classIn(err error) string {
	if _, ok := errors.AsType[*operations.PanicError](err); ok {
		return "PanicError"
	}
	if processing, ok := errors.AsType[*system.ProcessingError](err); ok {
		if processing.Stack != nil {
			return "PanicError"
		}
		err = processing.Err
	}
	for _, known := range pythonNames {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	if errors.Is(err, system.ErrAhead) {
		return "AheadError"
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
	if name := typeName(err); token.IsExported(name) && !isAnonymous(err) {
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

// isAnonymous tells of a type without a name, which has nothing to show.
func isAnonymous(err error) bool {
	t := reflect.TypeOf(err)
	return t.Name() == "" && (t.Kind() != reflect.Pointer || t.Elem().Name() == "")
}

// typeName is the name of an error's type without its package and the types
// that it is made for.
func typeName(err error) string {
	t := reflect.TypeOf(err)
	if t == nil {
		return "Error"
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name, _, _ := strings.Cut(t.Name(), "[")
	return cmp.Or(name, "Error")
}

// message is what an error says, on one line. That of an error without words is
// empty, whatever was put around it.
func message(err error) (text string) {
	if processing, ok := errors.AsType[*system.ProcessingError](err); ok && processing.Err != nil && textOf(processing.Err) == "" {
		return ""
	}
	return oneLine(textOf(err))
}

// textOf is what an error says. Package fmt also survives an Error that panics,
// as that of a nil pointer does.
func textOf(err error) string { return fmt.Sprint(err) }

// oneLine makes a text fit for one line of a terminal: without control
// characters, and without addresses of databases.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r != '\n' && unicode.IsControl(r):
			return -1
		}
		return r
	}, withoutAddress(strings.ToValidUTF8(text, "\uFFFD")))
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
}

// addresses is how drivers begin to say that they cannot read the address of a
// database. The address comes next, and what follows may have parts of it, so
// of the password, as well.
var addresses = regexp.MustCompile("(?s)cannot parse `.*|parse \"[a-z0-9]+://.*")

func withoutAddress(text string) string {
	return addresses.ReplaceAllString(text, "cannot parse the address of the database")
}
