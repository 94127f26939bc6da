// The command trainingschool-cluster is the training school with its events on
// three servers of NATS JetStream, and its read model in a database of GORM. It
// starts each server as a process on this machine, registers dogs, teaches them
// tricks, kills the server that leads the log, and goes on. Then it shows that
// nothing is lost: the log has every event once, and the read model has counted
// each exactly once.
//
//	go run .
//
// A service has its servers elsewhere, makes the streams in its deployment
// (natsstore.Create), and is otherwise wired as newSchool shows.
package main
