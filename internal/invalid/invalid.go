// Package invalid has the error of values that no store can keep or use.
package invalid

// Error says that a value cannot be stored or used by any store, before a
// database sees it. Programs see its class: persistence.ErrData for values to be
// stored, persistence.ErrProgramming for wrong arguments, settings and
// definitions.
type Error struct {
	// What names the value.
	What string
	// Problem says what is wrong with it and what is allowed.
	Problem string
	// Class is persistence.ErrData or persistence.ErrProgramming.
	Class error
	// Err is the cause; it may be nil.
	Err error
}

func (e *Error) Error() string {
	text := e.What + " " + e.Problem
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the class and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Err}
}
