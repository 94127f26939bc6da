package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// machine is what the figures of a run depend on.
type machine struct {
	Cores     int      `json:"cores"`
	System    string   `json:"system"`
	Go        string   `json:"go"`
	Databases []string `json:"databases"`
	Sync      float64  `json:"sync_us"` // median of a sync, in microseconds
}

func thisMachine() (machine, error) {
	sync, err := measureSync()
	return machine{
		Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Sync: sync,
	}, err
}

// suspiciousSync is a sync that is too fast, in microseconds, to have reached a
// disk.
const suspiciousSync = 15

func (m *machine) print(w io.Writer, database string) error {
	_, err := fmt.Fprintf(w, "\n%s; %d cores, %s, %s; a sync takes %s us\n", database, m.Cores, m.System, m.Go, number(m.Sync))
	if err == nil && m.Sync < suspiciousSync {
		_, err = fmt.Fprintf(w, "The temporary folder does not sync to a disk: no figure here means anything. Set TMPDIR.\n")
	}
	return err
}

// measureSync measures how long a sync takes after a write in the temporary
// folder, which has the databases.
func measureSync() (_ float64, err error) {
	file, err := os.CreateTemp("", "es-benchmark-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	page := make([]byte, 8192)
	var taken []float64
	for range 100 {
		if _, err := file.WriteAt(page, 0); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := file.Sync(); err != nil {
			return 0, err
		}
		taken = append(taken, microseconds(time.Since(start)))
	}
	return median(taken), nil
}
