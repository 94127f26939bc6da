// The program trainingschool is a complete service in small: an event-sourced application (in the package school) that
// stores its events in SQLite or PostgreSQL through GORM.
//
// Without arguments it creates the tables, registers the dog Fido, teaches it two tricks and prints what it knows:
//
//	go run ./examples/trainingschool
//
// With arguments it is a command:
//
//	trainingschool migrate [--database ALIAS]   creates the tables
//	trainingschool register NAME                registers a dog
//	trainingschool add-trick NAME TRICK         has a dog learn a trick
//	trainingschool tricks NAME                  prints a dog's tricks, one a line
//
// SQLITE_PATH names the file of the database "default" (trainingschool.sqlite3). POSTGRES_DSN, when set, adds the database
// "postgres"; GORM_DB_ALIAS=postgres then has the school use it. All other settings of an application work as well:
// CIPHER_KEY, COMPRESSOR_TOPIC, IS_SNAPSHOTTING_ENABLED, and so on.
package main
