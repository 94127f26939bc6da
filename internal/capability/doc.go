// Package capability is what a store can do beyond what every store must do. No
// program can use it, so it may change with a minor version, unlike the
// interfaces of package persistence.
//
// Everything in it is optional: without it a follower has no settings, does not
// park events, or polls. Names in its comments that it does not declare are
// those of persistence, such as Factory, ProcessRecorder or ErrProgramming.
package capability
