// Package checker reads the log of an application and reports every violation
// of what stores guarantee. The command check and the tests of stores use it.
package checker
