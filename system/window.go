package system

import (
	"context"
	"errors"
	"time"
)

// The sizes of a window, in ids, and how long a read of one takes about.
const (
	firstWindow  = 1 << 14
	narrowWindow = 1 << 8
	wideWindow   = 1 << 20
	windowTime   = 25 * time.Millisecond
)

// window is how many ids a read of some topics covers. It grows while reads are
// fast, and shrinks if one is slow or fails. The zero value is ready to use.
type window struct {
	ids   int64 // 0 is firstWindow
	limit int64 // what it does not grow beyond, because a wider read failed; 0 is wideWindow
}

func (w *window) size() int64 {
	if w.ids == 0 {
		return firstWindow
	}
	return w.ids
}

// succeeded takes note of how long a read took.
func (w *window) succeeded(took time.Duration) {
	limit := w.limit
	if limit == 0 {
		limit = wideWindow
	}
	switch {
	case took < windowTime/2:
		w.ids = min(2*w.size(), limit)
	case took > 2*windowTime:
		w.ids = max(w.size()/2, narrowWindow)
	}
}

// failed takes note of a read that failed. It returns false if a narrower
// window does not help.
func (w *window) failed() bool {
	if w.size() <= narrowWindow {
		return false
	}
	w.ids = w.size() / 2
	w.limit = w.ids
	return true
}

// isTimeout reports whether an error of a read may be that the read took too
// long.
func isTimeout(err error) bool {
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timeout.Timeout() {
		return true
	}
	coded, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	return ok && coded.SQLState() == queryCanceled || errors.Is(err, context.DeadlineExceeded)
}

// queryCanceled is how PostgreSQL ends a statement that exceeds
// statement_timeout.
const queryCanceled = "57014"
