// Package house holds the rules of this module that a compiler does not know,
// as tests: which package may import which, that everything exported is
// explained and every public package shows itself in an example, and that the
// README says what the code says. It has tests and no other code.
package house
