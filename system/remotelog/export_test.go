package remotelog

// Client is what NewClient returns.
type Client = client

// What can be wrong with an answer.
var (
	ErrWrongApplication = errWrongApplication
	ErrMalformed        = errMalformed
	ErrTooLarge         = errTooLarge
	ErrStale            = errStale
)
