package testdb

import (
	"os"
	"syscall"
)

// memoryNeeded is how much room a file system in memory must have for clusters:
// the databases of one package and the write-ahead log take less.
const memoryNeeded = 2 << 30

// memoryFolder returns a folder in memory, or "" for the temporary folder: if
// there is none, it has too little room, or TMPDIR says where to put things.
func memoryFolder() string {
	const folder = "/dev/shm"
	var stat syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(folder, &stat) != nil || stat.Bavail*uint64(stat.Bsize) < memoryNeeded {
		return ""
	}
	return folder
}
