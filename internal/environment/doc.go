// Package environment is the one place that reads settings: those that the
// program gives to an application, and then the environment of the process.
//
// [New] makes the [Environment] of an application, [Environment.Find] and
// others look settings up. [Open] makes the store that PERSISTENCE_MODULE
// names; the store's package has registered it with [Register].
package environment
