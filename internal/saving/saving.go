// Package saving lets an application tell aggregates what became of their
// events, which package domain does not show to its users: who calls it too
// early loses events. Package domain sets the functions when it is initialised.
package saving

// MarkSaved has a domain.Changes forget its first n pending events, because
// they are stored.
var MarkSaved func(changes any, n int)

// MarkUnsaved has a domain.Changes put events, a []domain.Event, back before
// the pending ones: the transaction that had stored them was rolled back.
var MarkUnsaved func(changes, events any)
