package domain

// Log is what the Definition of an event-sourced log is of. A log is a sequence
// of events under one fixed id that is read as a sequence, never as the state of
// an aggregate: all dogs that were registered, for example. The application
// package has the log itself.
//
//	var registrations = domain.Define("DogLog", domain.Entry("Registered", DogRegistered{}))
type Log struct{ aggregate Aggregate }

func (l *Log) root() *Aggregate { return &l.aggregate }

func (l *Log) self() any { return l }

// Entry defines one kind of event of a log, given as any value of its type. The
// stored topic is the log's name, a dot, and this name. Retired and FormerName
// are for logs, too; what is about states has no effect on them.
func Entry[E any](name string, _ E, options ...TypeOption) Option[Log] {
	return func(d *Definition[Log]) {
		t := newEventType[E](d.name, name, d.name+"."+name, options)
		t.apply = func(_, _ any) {}
		d.add(t)
	}
}
