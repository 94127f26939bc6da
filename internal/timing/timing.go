// Package timing has the context of a save tell the store where to record how
// long the parts of the save took.
package timing

import (
	"context"
	"sync/atomic"
	"time"
)

// Timing has how long the parts of a save took. A store sets the times, and an
// observer finds them in telemetry.Save. A Timing is safe for concurrent use, because a
// save that is given up may still be written.
type Timing struct {
	wait, write atomic.Int64
	together    atomic.Int64
}

// Record sets how long a save waited for others of this process, how long its
// statement took, and how many saves the statement has written.
func (t *Timing) Record(wait, write time.Duration, together int) {
	t.wait.Store(int64(wait))
	t.write.Store(int64(write))
	t.together.Store(int64(together))
}

// Times returns what was recorded last, or zeros.
func (t *Timing) Times() (wait, write time.Duration, together int) {
	return time.Duration(t.wait.Load()), time.Duration(t.write.Load()), int(t.together.Load())
}

type timingKey struct{}

// With returns a context whose save records its times in t.
func With(ctx context.Context, t *Timing) context.Context {
	return context.WithValue(ctx, timingKey{}, t)
}

// From returns the Timing that a save is to record its times in, or nil.
func From(ctx context.Context) *Timing {
	t, _ := ctx.Value(timingKey{}).(*Timing)
	return t
}
