// Package python has the forms of values that the Python library eventsourcing
// stores: its transcodings of UUIDs, times and decimals. Applications write
// them by default, so that both libraries can read each other's events.
package python
