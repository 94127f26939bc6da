package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if os.Getenv(workerVariable) != "" {
		os.Exit(exitCode(work(ctx, os.Stdin, os.Stdout), os.Stderr))
	}
	os.Exit(exitCode(run(ctx, os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

func exitCode(err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(stderr, "benchmark:", err)
	return 1
}

// run is the program without the process around it.
func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) error {
	c, err := parseConfig(arguments, stderr)
	if err != nil {
		return err
	}
	b := &bench{config: c, out: stdout}
	return profiled(c.profile, func() error { return b.run(ctx) })
}

// profiled calls f and writes a profile of the processor's time in it, if a
// file is given.
func profiled(path string, f func() error) (err error) {
	if path == "" {
		return f()
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}
