package environment

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// OpenFunc makes a Factory out of an application's settings.
type OpenFunc func(env *Environment) (persistence.Factory, error)

// modules are the stores that a program has linked in, by the name that
// PERSISTENCE_MODULE selects them with. Like the drivers of database/sql they
// belong to the process; what they open does not.
var modules struct {
	sync.RWMutex // protects open
	open         map[string]OpenFunc
}

// Register makes a store known under a name, usually in an init function of its
// package. It panics if the name is taken, or open is nil.
func Register(name string, open OpenFunc) {
	if open == nil {
		panic(fmt.Sprintf("environment: module %q is registered without a function", name))
	}
	modules.Lock()
	defer modules.Unlock()
	if _, taken := modules.open[name]; taken {
		panic(fmt.Sprintf("environment: module %q is registered twice", name))
	}
	if modules.open == nil {
		modules.open = map[string]OpenFunc{}
	}
	modules.open[name] = open
}

// Modules are the registered names, sorted.
func Modules() []string {
	modules.RLock()
	defer modules.RUnlock()
	return slices.Sorted(maps.Keys(modules.open))
}

// Open makes the factory that PERSISTENCE_MODULE names, or otherwise if it is
// not set. An unknown name is an *invalid.Error that lists the known
// ones, and so is an empty one.
func Open(env *Environment, otherwise string) (persistence.Factory, error) {
	setting, ok, err := env.Lookup("PERSISTENCE_MODULE")
	if err != nil {
		return nil, err
	}
	if !ok {
		setting = Setting{Key: "PERSISTENCE_MODULE", Value: otherwise}
	}
	modules.RLock()
	open, known := modules.open[setting.Value]
	modules.RUnlock()
	if !known {
		return nil, setting.Wrong(fmt.Sprintf("is not a registered module (forgotten import?); registered are %s",
			strings.Join(Modules(), ", ")))
	}
	return open(env)
}
