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

// CloseIdleConnections closes the connections that a client keeps for its next
// request.
func (c *client) CloseIdleConnections() { c.config.HTTPClient.CloseIdleConnections() }
