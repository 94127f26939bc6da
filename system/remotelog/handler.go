package remotelog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// HandlerConfig is the settings of a handler, all of which have defaults.
type HandlerConfig struct {
	// MaxPage is the largest number of notifications in an answer, up to
	// persistence.MaxPage, which is the default. A request for more gets so
	// many and is told that more follow.
	MaxPage int
	// MaxPageBytes has an answer end before its states are larger than so many
	// bytes together. One notification is always sent. The default is 8 MiB,
	// which keeps every answer below the 32 MiB that the client of NewClient
	// takes.
	MaxPageBytes int
	// MaxTopics is how many topics a request may have, 100 by default. One that
	// has more is refused.
	MaxTopics int
}

// defaultPage is how many notifications an answer has if a request has no
// limit.
const defaultPage = 100

// NewHandler serves the log of an application, to be read only; see the package
// documentation for paths and arguments. Authentication is up to the service,
// before the handler. A wrong request is answered 400 with the reason. A
// failure of the store is answered 503 if it may pass and otherwise 500,
// without the reason, which goes to the application's logger. The handler is
// safe for concurrent use. A limit below 1 is the default.
func NewHandler(app *application.Application, config HandlerConfig) http.Handler {
	limit := func(n, otherwise int) int {
		if n < 1 {
			return otherwise
		}
		return n
	}
	return &handler{
		app:       bridge.Of(app),
		maxPage:   min(limit(config.MaxPage, persistence.MaxPage), persistence.MaxPage),
		maxBytes:  limit(config.MaxPageBytes, 8<<20),
		maxTopics: limit(config.MaxTopics, 100),
	}
}

type handler struct {
	app                          bridge.Application
	maxPage, maxBytes, maxTopics int
}

// refusal is an error whose text is for the one who asked.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func wrong(text string, arguments ...any) error {
	return &refusal{status: http.StatusBadRequest, text: fmt.Sprintf(text, arguments...)}
}

// ServeHTTP answers a request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	answer, err := h.answer(r)
	if err != nil {
		refused := h.refusal(r, err)
		status, answer = refused.status, errorAnswer{Format: format, Error: refused.text}
	}
	body, err := json.Marshal(answer)
	if err != nil { // cannot be: nothing in an answer is beyond JSON
		status, body = http.StatusInternalServerError, nil
	}
	header := w.Header()
	if status == http.StatusMethodNotAllowed {
		header.Set("Allow", "GET, HEAD")
	}
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	// A head out of a cache would hide events.
	header.Set("Cache-Control", "no-store")
	// The length shows a reader that the answer was cut.
	header.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// refusal is what the one who asked may learn of an error. The rest is logged,
// unless the caller has gone.
func (h *handler) refusal(r *http.Request, err error) *refusal {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused
	}
	if r.Context().Err() != nil {
		return &refusal{http.StatusServiceUnavailable, "the request was cancelled"}
	}
	h.app.Logger().ErrorContext(r.Context(), "notification log could not be read", "application", h.app.Name(), "error", err)
	if errors.Is(err, persistence.ErrOperational) || errors.Is(err, persistence.ErrClosed) {
		return &refusal{http.StatusServiceUnavailable, "the log cannot be read at the moment"}
	}
	return &refusal{http.StatusInternalServerError, "the log cannot be read; the service's own log says why"}
}

func (h *handler) answer(r *http.Request) (any, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, &refusal{http.StatusMethodNotAllowed, "the log can only be read: use GET"}
	}
	switch path.Clean("/" + r.URL.Path) {
	case "/head":
		return h.newest(r)
	case "/notifications":
		return h.page(r)
	}
	return nil, &refusal{http.StatusNotFound, "there are only head and notifications here"}
}

func (h *handler) head(ctx context.Context) (headAnswer, error) {
	head, err := h.app.Recorder().MaxNotificationID(ctx)
	return headAnswer{Format: format, Application: h.app.Name(), Head: &head}, err
}

// newest also has the newest event, which only a follower asks for whose
// position is above the head. With the argument held it also has the
// transaction that keeps readers from newer events, if there is one.
func (h *handler) newest(r *http.Request) (headAnswer, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return headAnswer{}, wrong("the arguments cannot be read")
	}
	ctx, recorder := r.Context(), h.app.Recorder()
	answer, err := h.head(ctx)
	if err != nil {
		return answer, err
	}
	newest, err := recorder.NewestNotificationID(ctx)
	if err != nil {
		return answer, err
	}
	answer.Newest = &newest
	reader := h.app.RecorderCapabilities().Hold
	if reader == nil || !values.Has("held") {
		return answer, nil
	}
	held, err := reader.LogHold(ctx, recentlyRead)
	answer.Held = holdToWire(held)
	return answer, err
}

// recentlyRead is for how long the whole log is taken to be readable after a
// read of all of it. A transaction that is open for less is not told of anyway.
const recentlyRead = time.Second

// page reads the head first: what is recorded in between is after it.
func (h *handler) page(r *http.Request) (pageAnswer, error) {
	selected, err := h.parse(r.URL.RawQuery)
	if err != nil {
		return pageAnswer{}, err
	}
	head, err := h.head(r.Context())
	if err != nil {
		return pageAnswer{}, err
	}
	page, complete, err := h.read(r.Context(), selected)
	return pageAnswer{headAnswer: head, Complete: complete, Notifications: toWire(page)}, err
}

// firstRead is how many events are read before it is known how large they are.
const firstRead = 16

// read reads a page in a few steps, each of as many events as will probably fit
// into what is left of it, so that no more of large states is held in memory
// than is sent.
func (h *handler) read(
	ctx context.Context, r persistence.NotificationRange,
) (page []persistence.Notification, complete bool, err error) {
	size := 0
	for step := firstRead; len(page) < r.Limit; step = fitting(h.maxBytes-size, size/len(page)) {
		want := r
		want.Limit = min(step, r.Limit-len(page))
		events, err := h.app.Recorder().SelectNotifications(ctx, want)
		if err != nil {
			return nil, false, err
		}
		for _, n := range events {
			if size += len(n.State); size > h.maxBytes && len(page) > 0 {
				return page, false, nil
			}
			page = append(page, n)
			r.After = n.ID
		}
		if len(events) < want.Limit {
			return page, true, nil
		}
	}
	return page, false, nil
}

// fitting is how many events of a size fit into the room, and at least one.
func fitting(room, size int) int { return max(room/max(size, 1), 1) }

func (h *handler) parse(query string) (r persistence.NotificationRange, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return r, wrong("the arguments cannot be read")
	}
	if values.Has("start") && values.Has("after") {
		return r, wrong("give either start or after")
	}
	start, err1 := number(values, "start", 1, 1)
	after, err2 := number(values, "after", start-1, 0)
	stop, err3 := number(values, "stop", 0, 1)
	limit, err4 := number(values, "limit", defaultPage, 1)
	topics, err5 := h.topics(values["topics"])
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return r, wrong("%v", err)
	}
	return persistence.NotificationRange{
		After: after, Stop: stop, Limit: int(min(limit, int64(h.maxPage))), Topics: topics,
	}, nil
}

// number is an argument that may be given once.
func number(values url.Values, name string, otherwise, least int64) (int64, error) {
	given := values[name]
	switch len(given) {
	case 0:
		return otherwise, nil
	case 1:
		if n, err := strconv.ParseInt(given[0], 10, 64); err == nil && n >= least {
			return n, nil
		}
		return least, fmt.Errorf("%s %.40q must be a whole number from %d", name, given[0], least)
	}
	return least, fmt.Errorf("%s must be given once", name)
}

func (h *handler) topics(given []string) ([]string, error) {
	if len(given) > h.maxTopics {
		return nil, fmt.Errorf("there are %d topics; at most %d may be given", len(given), h.maxTopics)
	}
	for _, topic := range given {
		if topic == "" {
			return nil, errors.New("a topic must not be empty")
		}
	}
	return given, nil
}
