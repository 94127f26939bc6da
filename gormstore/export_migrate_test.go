package gormstore

// What the command migrate says before it changes anything.
var (
	Missing  = missingTables
	Outdated = outdatedTables
)
