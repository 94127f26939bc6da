package domain

// LogEntry is one kind of event in an event-sourced log.
type LogEntry func(*Schema)

// DefineLog gives the events of an event-sourced log their stored names. A log
// is a sequence of events under one fixed id that is read as a sequence, never
// as the state of an aggregate: all dogs that were registered, for example. The
// application package has the log itself.
//
// Like Define it panics if names or types are given twice.
func DefineLog(name string, entries ...LogEntry) *Schema {
	s := newSchema(name)
	for _, entry := range entries {
		entry(s)
	}
	s.checkTopics()
	s.checkInto()
	return s
}

// Entry defines one kind of event of a log, given as any value of its type. The
// stored topic is the log's name, a dot, and this name.
func Entry[E any](name string, _ E, options ...TypeOption) LogEntry {
	return func(s *Schema) { s.add(newEventType[E](s.name, name, s.name+"."+name, options)) }
}

// NewEvent makes an event of the schema without an aggregate: for logs, imports
// and tests. It panics if the payload's type is not in the schema.
func (s *Schema) NewEvent(originator Originator, data any, options ...EventOption) Event {
	root := Aggregate{id: originator.ID, version: originator.Version - 1, schema: s}
	return root.next(data, options)
}
