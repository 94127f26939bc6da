// Package jsontranscoder writes the payloads of events as JSON and reads them
// back. It is the persistence.Transcoder that applications use if they are
// given no other.
//
// What goes in comes out, type and all, or is refused when it is saved. Types
// that JSON has no form for get one by a [Transcoding]; the package python has
// those for times, UUIDs and decimals. Fields that would be lost are found when a
// repository is made, before the first event is stored.
//
// Errors name the part of the payload by its Go fields and never show its
// values.
package jsontranscoder
