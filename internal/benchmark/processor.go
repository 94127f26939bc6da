package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// siblings are the processes with the same parent, with the parent itself: for
// a process of a PostgreSQL server, the whole server. There are none if the
// system has no /proc.
func siblings(process int) []int {
	parent, ok := parentOf(process)
	if !ok {
		return nil
	}
	family := []int{parent}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, ok := parentOf(id); ok && p == parent {
			family = append(family, id)
		}
	}
	return family
}

// parentOf reads the fourth field of /proc/ID/stat. The second one is a name in
// brackets that may contain anything.
func parentOf(process int) (int, bool) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(process), "stat"))
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return parent, err == nil
}

// usage is the processor time that processes of one thread have used, as far as
// it is known. Those that have ended stay as they were last seen.
type usage map[int]time.Duration

// read brings the usage up to date and adds it up.
func (u usage) read(processes []int) (total time.Duration) {
	for _, id := range processes {
		// The first field is in nanoseconds; /proc/ID/stat has hundredths of a
		// second.
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(id), "schedstat"))
		used, _, _ := bytes.Cut(stat, []byte(" "))
		if n, failed := strconv.ParseInt(string(used), 10, 64); err == nil && failed == nil {
			u[id] = time.Duration(n)
		}
		total += u[id]
	}
	return total
}
