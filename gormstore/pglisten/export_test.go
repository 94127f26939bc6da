package pglisten

import (
	"time"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// Hurry makes a listener wait so briefly before it connects again that tests
// need not.
func Hurry(of gormstore.Listener) {
	l := of.(*listener)
	l.waits.shortest, l.waits.longest = time.Millisecond, 10*time.Millisecond
}

// AskEarly makes a listener ask for a sign of life at once, and soon give up on
// a server that does not answer.
func AskEarly(of gormstore.Listener) {
	l := of.(*listener)
	l.waits.idle, l.waits.answer = 20*time.Millisecond, 500*time.Millisecond
}

// Dawdle makes a listener ask for a sign of life at once, and wait for ever for
// anything else.
func Dawdle(of gormstore.Listener) {
	l := of.(*listener)
	const ever = 24 * time.Hour
	l.waits = waits{shortest: ever, longest: ever, connecting: ever, idle: 20 * time.Millisecond, answer: ever}
}
