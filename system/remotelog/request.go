package remotelog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// How requests are repeated within a call: after the first wait, twice as long
// after each, each a little shorter at random so that followers do not move in
// step. A service that wants to be left alone for longer than the longest wait
// is left to the caller.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
)

// maxErrorBody is how much is read of an answer that says no.
const maxErrorBody = 4 << 10

// get returns the body of an answer with status 200.
func (c *client) get(ctx context.Context, address *url.URL) ([]byte, error) {
	for retry := 0; ; retry++ {
		body, failure := c.attempt(ctx, address)
		switch {
		case failure == nil:
			return body, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !failure.again || retry >= c.config.Retries || failure.after > longestWait:
			return nil, failure
		}
		if err := pause(ctx, max(failure.after, backOff(retry))); err != nil {
			return nil, err
		}
	}
}

func backOff(retry int) time.Duration {
	wait := min(firstWait<<min(retry, 10), longestWait)
	return wait - rand.N(wait/4)
}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// attempt makes one request, within the timeout.
func (c *client) attempt(ctx context.Context, address *url.URL) ([]byte, *readError) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, c.unanswered(address, err)
	}
	request.Header = c.config.Header.Clone()
	response, err := c.config.HTTPClient.Do(request)
	if err != nil {
		return nil, c.unanswered(address, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, c.refused(address, response)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, min(c.config.MaxResponse, math.MaxInt64-1)+1))
	if err != nil {
		return nil, c.unanswered(address, err)
	}
	if int64(len(body)) > c.config.MaxResponse {
		return nil, &readError{application: c.name, url: bare(address), status: response.StatusCode, class: persistence.ErrDatabase,
			err: errTooLarge,
			hint: fmt.Sprintf("at most %d bytes are read; see ClientConfig.MaxResponse and, for the service, HandlerConfig.MaxPageBytes",
				c.config.MaxResponse)}
	}
	return body, nil
}

// unanswered is the error of a request without a whole answer. net/http's own
// error has the address in it, with its arguments.
func (c *client) unanswered(address *url.URL, err error) *readError {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	timeout, ok := errors.AsType[net.Error](err)
	return &readError{application: c.name, url: bare(address), class: persistence.ErrOperational, err: err,
		again: !ok || !timeout.Timeout()}
}

// refused is the error of an answer with another status than 200.
func (c *client) refused(address *url.URL, response *http.Response) *readError {
	e := &readError{application: c.name, url: bare(address), status: response.StatusCode, class: persistence.ErrProgramming}
	var answer errorAnswer
	if body, err := io.ReadAll(io.LimitReader(response.Body, maxErrorBody)); err == nil && json.Unmarshal(body, &answer) == nil {
		e.err = fmt.Errorf("the service says %.200q", answer.Error)
	}
	switch status := response.StatusCode; {
	case status == http.StatusTooManyRequests, status >= 502 && status <= 504:
		e.class, e.again = persistence.ErrOperational, true
		e.after = retryAfter(response.Header.Get("Retry-After"))
	case status >= 500:
		e.class = persistence.ErrOperational
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.class, e.hint = persistence.ErrOperational, "give credentials by ClientConfig.Header or HTTPClient"
	case status == http.StatusNotFound:
		e.hint = "the address must be that of the handler, without head and notifications"
	case status >= 300 && status < 400:
		e.hint = "redirects are not followed; give the address that it leads to"
	}
	return e
}

// retryAfter is how long a service wants to be left alone: a number of seconds,
// or until a time.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return time.Duration(max(seconds, 0)) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(time.Until(at), 0)
}

// bare is an address without what may be a secret.
func bare(address *url.URL) string {
	return (&url.URL{Scheme: address.Scheme, Host: address.Host, Path: cmp.Or(address.Path, "/")}).String()
}
