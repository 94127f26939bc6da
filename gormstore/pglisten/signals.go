package pglisten

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// maxTexts is how many different texts are kept apart. If there are more, wake
// is told that it may be any.
const maxTexts = 1000

// signals are the texts that were heard and not yet passed on. The reading of
// the connection must not wait for those that are woken: what it does not read,
// the server has to keep.
type signals struct {
	some chan struct{} // has a value while there are texts

	mu    sync.Mutex // protects texts
	texts map[string]struct{}
}

func newSignals() *signals {
	return &signals{some: make(chan struct{}, 1), texts: map[string]struct{}{}}
}

// add keeps a text. "" stands for all others.
func (s *signals) add(text string) {
	s.mu.Lock()
	if _, all := s.texts[""]; text == "" || len(s.texts) == maxTexts {
		clear(s.texts)
		s.texts[""] = struct{}{}
	} else if !all {
		s.texts[text] = struct{}{}
	}
	s.mu.Unlock()
	select {
	case s.some <- struct{}{}:
	default:
	}
}

// wait waits for texts. It returns false when ctx has ended.
func (s *signals) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-s.some:
		return true
	}
}

// take returns the texts, and forgets them.
func (s *signals) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	texts := slices.Collect(maps.Keys(s.texts))
	clear(s.texts)
	return texts
}
