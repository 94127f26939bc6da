// Package python has the forms of values that the Python library eventsourcing
// stores.
//
// [Transcodings] are those of UUIDs, times and decimals. Every application has
// them, in either layout.
//
// [NewTranscoder] makes the transcoder of the Python layout, in which all
// values are written so that Python reads them with the types that they have
// here. Applications use it with application.WithPythonLayout; make one for a
// store or a tool that you write.
//
// [Decimal] and [Naive] are for values that Go has no type for: exact decimal
// numbers, and times without an offset from UTC.
//
// The guide from Django to Go is docs/python.md.
package python
