package persistence

import (
	"fmt"
	"strings"
	"time"
)

// LogHold says that events of a log cannot be read yet, because a transaction
// that is still open may store others with lower ids, and whose transaction
// that is. A field is zero if it is not known, or if this role may not see it.
type LogHold struct {
	// Bound is up to which id the log can be read, and Newest the id of its
	// newest event.
	Bound  int64 `json:"bound"`
	Newest int64 `json:"newest"`
	// PID is the process of the database server that has the transaction.
	// Prepared is the name of one that was prepared, which has no process.
	PID      int64  `json:"pid,omitempty"`
	Prepared string `json:"prepared,omitempty"`
	User     string `json:"user,omitempty"`
	// Program is the application_name of the connection, Client its address,
	// and State what it is doing, such as "idle in transaction".
	Program string `json:"program,omitempty"`
	Client  string `json:"client,omitempty"`
	State   string `json:"state,omitempty"`
	// Since is when the transaction began, in UTC, by the clock of this
	// process.
	Since time.Time `json:"since,omitzero"`
}

// String says whose transaction it is and since when.
func (h LogHold) String() string {
	var about []string
	add := func(format, value string) {
		if value != "" {
			about = append(about, fmt.Sprintf(format, value))
		}
	}
	add("user %q", h.User)
	add("application_name %q", h.Program)
	add("client %s", h.Client)
	add("%s", h.State)
	if h.Since.IsZero() {
		about = append(about, "since when is not known")
	} else {
		about = append(about, "since "+h.Since.UTC().Format(time.RFC3339))
	}
	whose := fmt.Sprintf("of server process %d", h.PID)
	if h.PID == 0 {
		whose = fmt.Sprintf("that was prepared as %q", h.Prepared)
	}
	return fmt.Sprintf("events from %d to %d cannot be read before the transaction %s ends (%s)",
		h.Bound+1, h.Newest, whose, strings.Join(about, ", "))
}
