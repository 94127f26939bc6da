// Package capability is what a store can do beside what every store must. The
// other packages of this module use it and no program does, so it may change
// with a minor version, which the interfaces of package persistence may not.
//
// Everything in it is optional: without it a follower has no settings, does not
// park events, or polls. Names in its comments that it does not declare are
// those of persistence, such as Factory, ProcessRecorder or ErrProgramming.
package capability
