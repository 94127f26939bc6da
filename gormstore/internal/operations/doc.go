// Package operations is what operators do with the followers and the tables of
// a service: migrate, synchronise, reset, pause, check, and look at events. Its
// functions return what they have done and print nothing. The commands of
// package management print it.
package operations
