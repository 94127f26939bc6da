package main

import (
	"os"

	"github.com/eventsourcing-go/eventsourcing/gormstore/management"
)

func main() { os.Exit(management.Main(config())) }
