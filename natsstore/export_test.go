package natsstore

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/nats-io/nats.go"
)

// WithoutLeader makes a store ask whatever replica for the end of what it
// reads. It is for controls.
func WithoutLeader(s *Store) {
	s.ask = func(s *stream, ctx context.Context, op string, request getRequest) (message, bool, error) {
		body, err := json.Marshal(request)
		if err != nil {
			return message{}, false, err
		}
		reply, err := s.store.conn.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+s.name, body)
		if err != nil || reply.Header.Get("Status") != "" {
			return message{}, false, err
		}
		seq, err := strconv.ParseInt(reply.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return message{}, false, err
		}
		m, err := s.message(seq, reply.Header.Get("Nats-Subject"), reply.Data)
		return m, err == nil, err
	}
}

// WithoutAlarms makes a store pass over what a damaged replica lacks. It is for
// controls.
func WithoutAlarms(s *Store) { s.alarm = func(*DamageError) error { return nil } }

// WithoutHedges makes a store wait for the first try of a read. It is for
// controls.
func WithoutHedges(s *Store) { s.hedging.first = longestTry }

// NewHedged returns hedged of a store, for a test with synthetic time.
func NewHedged() func(ctx context.Context, try func(ctx context.Context, begun func()) (int, error)) (int, error) {
	h := &hedging{first: firstHedge}
	return func(ctx context.Context, try func(ctx context.Context, begun func()) (int, error)) (int, error) {
		return hedged(ctx, h, try)
	}
}

// Again is an error of a try that may be made again.
func Again(err error) error { return errAgain{err} }

// ConnOf returns the connection of a store.
func ConnOf(s *Store) *nats.Conn { return s.conn }
