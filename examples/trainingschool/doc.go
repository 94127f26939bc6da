// The program trainingschool is a complete service in small: an event-sourced
// application (in the package school) that stores its events in SQLite or
// PostgreSQL through GORM, and two followers of it that keep tables (in the
// packages trickcounts and dognames).
//
// Without arguments it creates the tables, registers the dog Fido, teaches it
// two tricks and prints what it knows, and how many dogs know each trick:
//
//	go run ./examples/trainingschool
//
// With arguments it is a command:
//
//	trainingschool register NAME                registers a dog
//	trainingschool add-trick NAME TRICK         teaches a dog a trick
//	trainingschool tricks NAME                  prints a dog's tricks, one a line
//	trainingschool counts                       prints how many dogs know each trick
//	trainingschool dogs                         prints the names of the dogs, one a line
//
// or one of the commands of the package management: migrate, sync_followers,
// reset_follower, followers, check, events, parked, retry_parked, schema and
// keygen. Counts and names follow when sync_followers runs.
//
// SQLITE_PATH names the file of the database "default"
// (trainingschool.sqlite3). POSTGRES_DSN, when set, adds the database
// "postgres"; GORM_DB_ALIAS=postgres then makes the school use it. All other
// settings of an application work as well: CIPHER_KEY, COMPRESSOR_TOPIC,
// IS_SNAPSHOTTING_ENABLED, and so on.
package main
