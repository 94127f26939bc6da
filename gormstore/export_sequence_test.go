package gormstore

// SequenceError is the refusal of an id that is not above those of the log.
type SequenceError = sequenceError
