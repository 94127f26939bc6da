package management

// ClassName is the name of an error's class as sync_followers shows it.
var ClassName = className
