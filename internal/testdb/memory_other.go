//go:build !linux

package testdb

// memoryFolder returns "", for the temporary folder.
func memoryFolder() string { return "" }
