// Package school is the training school for dogs: the aggregate Dog (dog.go) and the application TrainingSchool
// (school.go). It knows nothing of databases; the program around it decides where its events are stored.
package school
