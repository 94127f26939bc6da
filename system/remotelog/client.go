package remotelog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// client reads the log of an application of another service.
type client struct {
	name      string
	base      *url.URL
	mapper    *mapper.Mapper
	config    ClientConfig
	seen      atomic.Int64 // the highest head that was given out
	readAhead readAhead
}

// ClientConfig is the settings of a client. Application is needed; the others
// have defaults.
type ClientConfig struct {
	// Application says how to read the events: what the application of the
	// other service was made with, as far as that concerns its events. These
	// are application.WithDefinitions, and if it has such
	// application.WithCipher, application.WithCompressor,
	// application.WithTranscoder and application.WithTranscodings. Settings by
	// environment count as they do for an application of that name, and a store
	// is not opened.
	Application []application.Option
	// HTTPClient makes the requests, with its certificates, proxies and tokens;
	// its Transport renews tokens that expire. If HTTPClient is nil, a client is
	// made that follows no redirects, so that headers go nowhere else. A program
	// that sets HTTPClient, stops reading and goes on closes the idle
	// connections of HTTPClient itself.
	HTTPClient *http.Client
	// Header is added to every request, such as Authorization.
	Header http.Header
	// Timeout is how long one request may take, with its answer, 10 seconds by
	// default.
	Timeout time.Duration
	// MaxResponse is the largest answer that is read, in bytes, 32 MiB by
	// default. A larger one is refused. States are a third larger in an
	// answer than they are stored.
	MaxResponse int64
	// Retries is how often a request is repeated within a call, 3 times by
	// default, and never if it is negative. A runner tries failed calls again
	// in any case.
	Retries int
}

// withDefaults returns the settings with the defaults in their places.
func (c ClientConfig) withDefaults() ClientConfig {
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.MaxResponse = cmp.Or(c.MaxResponse, 32<<20)
	c.Retries = max(cmp.Or(c.Retries, 3), 0)
	c.Header = c.Header.Clone()
	if c.HTTPClient == nil {
		c.HTTPClient = ownHTTPClient()
	}
	return c
}

// NewClient makes a client of the log that a handler serves at an address, of
// the application of that name: give it to system.Pipe. It does not connect
// yet. It is safe for concurrent use, and several followers may share it.
// Mistakes in the arguments are a persistence.ErrProgramming, and all reported
// together.
//
// An error of reading says what to do. What may pass by itself, and what a
// service or a network is at fault for, is a persistence.ErrOperational; what
// needs another program or another address is a persistence.ErrProgramming; an
// answer that cannot be used is a persistence.ErrDatabase.
func NewClient(name, address string, config ClientConfig) (system.Leader, error) {
	c := &client{name: name, config: config.withDefaults()}
	var errAddress, errReading error
	c.base, errAddress = parseAddress(address)
	c.mapper, errReading = c.readingMapper()
	if err := errors.Join(errAddress, errReading, c.checkLimits()); err != nil {
		return nil, fmt.Errorf("client of the log of %.40q: %w", name, err)
	}
	return c, nil
}

// ownHTTPClient has its own connections. Requests have the timeout, each of
// them.
func ownHTTPClient() *http.Client {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if transport, ok := http.DefaultTransport.(*http.Transport); ok {
		client.Transport = transport.Clone()
	}
	return client
}

// ownArguments are those that the client sets itself.
var ownArguments = []string{"after", "start", "stop", "limit", "topics", "held"}

// parseAddress does not say what is wrong with an address that cannot be
// parsed: that may be half a password.
func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
		return nil, wrongArgument("address", "must be an absolute URL with http or https and a host, and without a fragment")
	}
	for _, name := range ownArguments {
		if u.Query().Has(name) {
			return nil, wrongArgument("address", "must not have the argument "+name)
		}
	}
	return u, nil
}

// readingMapper is that of an application made for it alone, so that options
// and settings mean what they mean there.
func (c *client) readingMapper() (*mapper.Mapper, error) {
	if len(c.config.Application) == 0 {
		return nil, wrongArgument("ClientConfig.Application", "must have the definitions of the events")
	}
	app, err := application.New(c.name, slices.Concat(c.config.Application, []application.Option{application.WithStore(memory.New())})...)
	if err != nil {
		return nil, err
	}
	return bridge.Of(app).Mapper(), app.Close()
}

func (c *client) checkLimits() error {
	var mistakes []error
	if c.config.Timeout < 0 {
		mistakes = append(mistakes, wrongArgument("ClientConfig.Timeout", "must not be negative"))
	}
	if c.config.MaxResponse < 0 {
		mistakes = append(mistakes, wrongArgument("ClientConfig.MaxResponse", "must not be negative"))
	}
	return errors.Join(mistakes...)
}

func wrongArgument(what, problem string) error {
	return &invalid.Error{What: what, Problem: problem, Class: persistence.ErrProgramming}
}

// Name implements system.Leader.
func (c *client) Name() string { return c.name }

// Topics implements system.Leader by the definitions that the client was given.
func (c *client) Topics(payload reflect.Type) []string {
	return c.mapper.TopicsOfPayload(payload)
}

// Decode implements system.Leader. It returns a *persistence.MappingError.
func (c *client) Decode(n persistence.Notification) (domain.Event, error) {
	return c.mapper.NotificationToParts(n)
}

// Head asks for the position of the log's last event, which is 0 if there is
// none. It returns an error of reading, or why ctx has ended.
func (c *client) Head(ctx context.Context) (int64, error) {
	var answer headAnswer
	if err := c.ask(ctx, c.address("head", nil), &answer, &answer); err != nil {
		return 0, err
	}
	head := *answer.Head
	if seen := c.seen.Load(); head < seen {
		c.readAhead.clear()
		return 0, c.stale(c.address("head", nil), head, seen)
	}
	for seen := c.seen.Load(); head > seen && !c.seen.CompareAndSwap(seen, head); seen = c.seen.Load() {
	}
	return head, nil
}

// Newest is the position of the newest event of the log, which may be above
// Head while others are still being written.
func (c *client) Newest(ctx context.Context) (int64, error) {
	var answer headAnswer
	if err := c.ask(ctx, c.address("head", nil), &answer, &answer); err != nil {
		return 0, err
	}
	newest := *answer.Head
	if answer.Newest != nil {
		newest = max(newest, *answer.Newest)
	}
	return newest, nil
}

// Hold asks which transaction of the other service's database keeps readers
// from the newest events of the log. It returns nil if there is none, or if the
// other service does not say. Since is by the clock of this process. Statuses
// of followers show it.
func (c *client) Hold(ctx context.Context, _ time.Duration) (*persistence.LogHold, error) {
	address := c.address("head", url.Values{"held": {"1"}})
	var answer headAnswer
	if err := c.ask(ctx, address, &answer, &answer); err != nil {
		return nil, err
	}
	return holdFromWire(answer.Held), nil
}

// Notifications asks for a page of the log, fewer than r.Limit only at the end
// of the range, however many requests that takes. Beside the errors of reading
// it returns a persistence.ErrProgramming for a range that cannot be.
func (c *client) Notifications(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
	rest, err := r.Validate()
	if err != nil {
		return nil, err
	}
	all := c.readAhead.take(rest)
	if len(all) < rest.Limit {
		if all, err = c.goOn(ctx, rest, all); err != nil {
			return nil, err
		}
		c.readAhead.put(rest, all)
	}
	return slices.Clone(all), nil // what is kept must not be changed
}

// goOn asks for what is missing of a range after its beginning.
func (c *client) goOn(
	ctx context.Context, r persistence.NotificationRange, all []persistence.Notification,
) ([]persistence.Notification, error) {
	// It is read before the requests: a head that is asked for meanwhile may
	// well be higher than theirs.
	seen := c.seen.Load()
	rest := r
	for {
		if rest.Limit = r.Limit - len(all); len(all) > 0 {
			rest.After = all[len(all)-1].ID
		}
		page, err := c.page(ctx, rest, seen)
		if err != nil {
			return nil, err
		}
		all = append(all, fromWire(page.Notifications)...)
		if page.Complete || len(all) == r.Limit {
			return all, nil
		}
	}
}

// page asks for what the service is willing to send at once.
func (c *client) page(ctx context.Context, r persistence.NotificationRange, seen int64) (page pageAnswer, err error) {
	address := c.address("notifications", arguments(r))
	if err := c.ask(ctx, address, &page, &page.headAnswer); err != nil {
		return page, err
	}
	if problem := page.problem(r); problem != "" {
		return page, c.malformed(address, problem)
	}
	if page.Complete && *page.Head < seen {
		return page, c.stale(address, *page.Head, seen)
	}
	return page, nil
}

// stale is the error of an answer in which the log ends before an earlier head.
// One of them, from a replica that lags, must not make the follower one that is
// ahead of its log, which only a person can mend.
func (c *client) stale(address *url.URL, head, seen int64) error {
	return &readError{application: c.name, url: bare(address), status: http.StatusOK, class: persistence.ErrOperational,
		err:  fmt.Errorf("%w: it ends the log at %d, which has been at %d", errStale, head, seen),
		hint: "have the log served from the primary; after a restore, restart those who follow it"}
}

func arguments(r persistence.NotificationRange) url.Values {
	values := url.Values{"after": {strconv.FormatInt(r.After, 10)}, "limit": {strconv.Itoa(r.Limit)}}
	if r.Stop > 0 {
		values.Set("stop", strconv.FormatInt(r.Stop, 10))
	}
	if len(r.Topics) > 0 {
		values["topics"] = r.Topics
	}
	return values
}

// address adds arguments to those of the address that the client was given.
func (c *client) address(path string, arguments url.Values) *url.URL {
	u := c.base.JoinPath(path)
	query := u.Query()
	for name, values := range arguments {
		query[name] = values
	}
	u.RawQuery = query.Encode()
	return u
}

// ask reads an answer, and requires that it comes from the log of the client's
// application. The head is part of it.
func (c *client) ask(ctx context.Context, address *url.URL, answer any, head *headAnswer) error {
	body, err := c.get(ctx, address)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return c.malformed(address, "it is not the JSON of a notification log")
	}
	if problem := head.problem(); problem != "" {
		return c.malformed(address, problem)
	}
	if head.Application != c.name {
		return &readError{application: c.name, url: bare(address), status: http.StatusOK, class: persistence.ErrProgramming,
			err:  fmt.Errorf("%w, %.40q", errWrongApplication, head.Application),
			hint: "positions are kept by name, so the client must have the name of the application that it reads"}
	}
	return nil
}

func (c *client) malformed(address *url.URL, problem string) error {
	return &readError{application: c.name, url: bare(address), status: http.StatusOK, class: persistence.ErrDatabase,
		err:  fmt.Errorf("%w: %s", errMalformed, problem),
		hint: "is the address that of a remotelog handler?"}
}
