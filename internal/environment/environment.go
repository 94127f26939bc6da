package environment

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Environment is the source of the settings of an application and its factory:
// values given by the program, and after them the environment of the process.
// For the application "TrainingSchool" a setting KEY is looked up as
// TRAININGSCHOOL_KEY in the given values, KEY in the given values,
// TRAININGSCHOOL_KEY in the process, KEY in the process; the first that is
// there and not empty counts. If a setting has aliases, they are looked up
// after it at each of the four places.
//
// It is safe for concurrent use.
type Environment struct {
	name   string
	given  map[string]string
	lookup func(string) (string, bool)
}

// NewEnvironment makes the environment of an application. A nil lookup means
// os.LookupEnv.
func New(name string, given map[string]string, lookup func(string) (string, bool)) *Environment {
	if lookup == nil {
		lookup = os.LookupEnv
	}
	return &Environment{name: name, given: maps.Clone(given), lookup: lookup}
}

// Name is the application's name.
func (e *Environment) Name() string { return e.name }

// Prefix is the prefix of a key that is meant for this application alone: its
// name in upper case, with an underscore for each character that is no letter
// and no digit, and a final underscore.
func (e *Environment) Prefix() string {
	return strings.Map(prefixRune, e.name) + "_"
}

func prefixRune(r rune) rune {
	if unicode.IsLetter(r) || unicode.IsDigit(r) {
		return unicode.ToUpper(r)
	}
	return '_'
}

// Setting is a value that was found, and the key that it was found under.
type Setting struct {
	Key   string
	Value string
}

// Find looks a setting up, under the first of the keys and, at each place, then
// under the others, its aliases. It returns false if the setting is absent
// everywhere, or empty.
func (e *Environment) Find(keys ...string) (Setting, bool) {
	return e.first(func(value string) bool { return value != "" }, keys)
}

// first is the first setting that is there and whose value counts.
func (e *Environment) first(counts func(value string) bool, keys []string) (Setting, bool) {
	for _, source := range []func(string) (string, bool){e.lookupGiven, e.lookup} {
		for _, prefix := range []string{e.Prefix(), ""} {
			for _, key := range keys {
				if value, ok := source(prefix + key); ok && counts(value) {
					return Setting{Key: prefix + key, Value: value}, true
				}
			}
		}
	}
	return Setting{}, false
}

// Lookup is Find for a setting that must not be empty, such as a secret. The
// first place that has one of the keys counts even if the value there is empty,
// and an empty value is an *invalid.Error: it is what a variable of a
// template leaves that was not filled in, and no other value takes its place.
func (e *Environment) Lookup(keys ...string) (Setting, bool, error) {
	setting, ok := e.first(func(string) bool { return true }, keys)
	if ok && setting.Value == "" {
		return setting, false, setting.Wrong("is set but empty; give it a value or remove it")
	}
	return setting, ok, nil
}

func (e *Environment) lookupGiven(key string) (string, bool) {
	value, ok := e.given[key]
	return value, ok
}

// Given returns the keys that the program gave, sorted.
func (e *Environment) Given() []string { return slices.Sorted(maps.Keys(e.given)) }

// String returns the value of a setting, or otherwise.
func (e *Environment) String(otherwise string, keys ...string) string {
	if setting, ok := e.Find(keys...); ok {
		return setting.Value
	}
	return otherwise
}

// Bool returns the value of a setting as a truth value, or otherwise. The words
// are those of the Python library: y, yes, t, true, on, 1 and n, no, f, false,
// off, 0, in any case. Other words are an *invalid.Error.
func (e *Environment) Bool(otherwise bool, keys ...string) (bool, error) {
	setting, ok := e.Find(keys...)
	if !ok {
		return otherwise, nil
	}
	switch strings.ToLower(setting.Value) {
	case "y", "yes", "t", "true", "on", "1":
		return true, nil
	case "n", "no", "f", "false", "off", "0":
		return false, nil
	}
	return false, setting.Wrong("is not a truth value; use y or n")
}

// Int returns the value of a setting as a whole number from low to high.
// Anything else is an *invalid.Error.
func (e *Environment) Int(otherwise, low, high int, keys ...string) (int, error) {
	setting, ok := e.Find(keys...)
	if !ok {
		return otherwise, nil
	}
	return setting.Int(low, high)
}

// Int is the setting's value as a whole number from low to high, or a
// *invalid.Error.
func (s Setting) Int(low, high int) (int, error) {
	value, err := strconv.Atoi(s.Value)
	if err != nil || value < low || value > high {
		return 0, s.Wrong(fmt.Sprintf("is not a whole number from %d to %d", low, high))
	}
	return value, nil
}

// Wrong is the error for a setting whose value cannot be used. The problem
// continues a sentence that begins with the value.
func (s Setting) Wrong(problem string) error {
	what := s.Key
	if s.Value != "" {
		what += fmt.Sprintf(": %.80q", s.Value)
	}
	return &invalid.Error{What: what, Problem: problem, Class: persistence.ErrProgramming}
}

// WrongSecret is Wrong for a value that must not be shown.
func (s Setting) WrongSecret(cause error) error {
	return &invalid.Error{What: s.Key, Problem: "cannot be used", Class: persistence.ErrProgramming, Err: cause}
}
