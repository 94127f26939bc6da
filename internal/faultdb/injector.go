package faultdb

import (
	"database/sql/driver"
	"strings"
	"sync"
)

// Op is a kind of driver call.
type Op string

// The kinds of driver calls that a Plan is asked about.
const (
	Connect  Op = "connect"
	Begin    Op = "begin"
	Prepare  Op = "prepare"
	Exec     Op = "exec"
	Query    Op = "query"
	Fetch    Op = "fetch" // of a row
	Commit   Op = "commit"
	Rollback Op = "rollback"
)

// Call is one call of the driver.
type Call struct {
	// N counts the calls since the plan was armed, from 1.
	N int
	// Op is what is called; a statement COMMIT or ROLLBACK counts as the call
	// of that name.
	Op Op
	// Statement is the text of what is executed, if there is one.
	Statement string
}

// When says what becomes of the call's effect.
type When int

// The times at which a call can fail.
const (
	Never  When = iota // the call is made as if nothing was there
	Before             // the call is not made and fails
	After              // the call is made, its reply is thrown away, and it fails
	Twice              // the call is made twice, and the second reply counts
)

// String is the name of the time, for names of subtests.
func (w When) String() string {
	return [...]string{"never", "before", "after", "twice"}[w]
}

// Fault is what happens to a call. The zero Fault is none.
type Fault struct {
	When When
	// Err is the error that the caller gets.
	Err error
	// Broken closes the connection as well: the server rolls its transaction
	// back, and every later call fails.
	Broken bool
}

// Plan decides what happens to each call. It is called by one goroutine at a
// time.
type Plan func(Call) Fault

// Nth is a plan in which only the call with the number n fails.
func Nth(n int, fault Fault) Plan {
	return func(c Call) Fault {
		if c.N == n {
			return fault
		}
		return Fault{}
	}
}

// First is a plan in which only the first call of an op fails.
func First(op Op, fault Fault) Plan {
	done := false
	return func(c Call) Fault {
		if done || c.Op != op {
			return Fault{}
		}
		done = true
		return fault
	}
}

// Always is a plan in which every call fails from the first one of an op on.
func Always(op Op, fault Fault) Plan {
	begun := false
	return func(c Call) Fault {
		if begun = begun || c.Op == op; begun {
			return fault
		}
		return Fault{}
	}
}

// Injector fails the calls of the connections made through it. It is safe for
// concurrent use.
type Injector struct {
	mu    sync.Mutex // protects what follows
	plan  Plan
	calls []Call
}

// New makes an injector without a plan, which fails nothing.
func New() *Injector { return &Injector{} }

// Arm begins to count calls, and has the plan decide about them.
func (i *Injector) Arm(plan Plan) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.plan, i.calls = plan, nil
}

// Disarm ends the plan and returns the calls that it was asked about.
func (i *Injector) Disarm() []Call {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.plan = nil
	return i.calls
}

// Connector wraps a driver's connector in the injector.
func (i *Injector) Connector(inner driver.Connector) driver.Connector {
	return &connector{inner: inner, faults: i}
}

// decide asks the plan about a call.
func (i *Injector) decide(op Op, statement string) Fault {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.plan == nil {
		return Fault{}
	}
	call := Call{N: len(i.calls) + 1, Op: opOf(op, statement), Statement: statement}
	i.calls = append(i.calls, call)
	return i.plan(call)
}

// opOf recognises ends of transactions that are sent as statements.
func opOf(op Op, statement string) Op {
	switch strings.ToUpper(statement) {
	case "COMMIT":
		return Commit
	case "ROLLBACK":
		return Rollback
	}
	return op
}
