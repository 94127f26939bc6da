// Package admin is an http.Handler with pages about a running service: its
// logs, the history and the state of each aggregate, its followers and what
// keeps them from their work, and the settings in force.
//
//	pages, err := admin.New(runner, admin.Config{Authorize: authorize})
//	mux.Handle("/admin/", http.StripPrefix("/admin", pages))
//
// The pages work without JavaScript and under any prefix that http.StripPrefix
// can remove, load nothing from other hosts, and have a JSON twin each: the same
// path after api/, such as /admin/api/followers.
//
// No page is shown without a right that Config.Authorize gives. The pages
// change nothing unless Config.Actions is set; then followers can be
// synchronised, paused, resumed and reset, and parked events retried or
// discarded, by the functions that the commands of package management use.
// Events cannot be changed.
package admin

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

// Runner is what the pages show: a *system.Runner or a
// *system.SingleThreadedRunner, whose methods System, CatchUp, Statuses, Parked,
// RetryParked, Rebuild and Close it has. It need not be started.
type Runner = operations.Runner

// Rights say what the sender of a request may do.
type Rights struct {
	// Actor is who it is, for the log of actions and for others to see.
	Actor string
	// List is the right to see everything but what events contain: names, ids,
	// times, positions, and errors of followers. Every other right needs it.
	List bool
	// Payload is the right to see payloads, metadata and states.
	Payload bool
	// Operate is the right to synchronise, pause and resume followers and to
	// retry parked events.
	Operate bool
	// Reset is the right to reset followers and to discard parked events, which
	// cannot be undone.
	Reset bool
}

// Config says who may see and do what. Authorize is required.
type Config struct {
	// Authorize returns the rights of a request. The zero Rights are none. An
	// error refuses the request as well, and is logged.
	Authorize func(*http.Request) (Rights, error)
	// Actions allows what changes anything, for those who have the right. The
	// default is read-only.
	Actions bool
	// Redact returns what to show of a payload or a state, both as JSON, in
	// place of data. about is the topic that the payload's type has today, also
	// of an event that was stored under a former name, or "state". A nil Redact
	// shows all of it. Metadata is shown as it is to those who may see payloads.
	Redact func(about string, data json.RawMessage) json.RawMessage
	// Logger gets a line for each action and each failure. The default is
	// slog.Default().
	Logger *slog.Logger
	// Timeout is how long a page may take; the default is two seconds. Actions
	// may take thirty times as long.
	Timeout time.Duration
	// TrustedOrigins are origins, such as "https://ops.example.com", that may
	// send actions although they are not the host of the pages.
	TrustedOrigins []string
}

//go:embed static templates
var files embed.FS

// handler is the pages. It is safe for concurrent use.
type handler struct {
	runner    Runner
	config    Config
	templates map[string]*template.Template
	mux       *http.ServeMux
	rates     rates
}

// New makes the pages of a runner's system. The runner is a *system.Runner or a
// *system.SingleThreadedRunner, and need not be started. New returns an error if
// the runner or Config.Authorize is nil, or an origin is not one.
func New(runner Runner, config Config) (http.Handler, error) {
	if operations.IsNil(runner) {
		return nil, errors.New("admin/new: the runner is nil; give the runner of the service")
	}
	if config.Authorize == nil {
		return nil, errors.New("admin/new: Config.Authorize is nil; give a function that decides who may see the pages")
	}
	if config.Timeout < 0 {
		return nil, fmt.Errorf("admin/new: Config.Timeout is %v; give a positive time, or 0 for the default", config.Timeout)
	}
	if config.Timeout == 0 {
		config.Timeout = 2 * time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	h := &handler{runner: runner, config: config, mux: http.NewServeMux()}
	var err error
	if h.templates, err = parseTemplates(); err != nil {
		return nil, err
	}
	protection := http.NewCrossOriginProtection()
	for _, origin := range config.TrustedOrigins {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("admin/new: Config.TrustedOrigins: %w", err)
		}
	}
	protection.SetDenyHandler(http.HandlerFunc(h.refuseOrigin))
	for _, p := range pages {
		h.mux.HandleFunc("GET "+p.pattern, h.page(p, false))
		h.mux.HandleFunc("GET /api"+p.apiPattern(), h.page(p, true))
	}
	h.mux.HandleFunc("GET /static/{file}", h.static)
	h.mux.Handle("POST /followers/{follower}/{action}", protection.Handler(http.HandlerFunc(h.act)))
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "+
		"img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if r.URL.Path == "" { // the prefix without its slash
		redirectToSlash(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// redirectToSlash sends the browser from the prefix to the first page, which
// links relative to the prefix need. The address is relative, so it does not
// depend on what a proxy has removed from the path.
func redirectToSlash(w http.ResponseWriter, r *http.Request) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	redirect(w, "./"+path[strings.LastIndex(path, "/")+1:]+"/")
}

// static serves the stylesheet and htmx, which are no secret.
func (h *handler) static(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=3600")
	http.ServeFileFS(w, r, files, "static/"+r.PathValue("file"))
}

// pageError is an error with a status and a text for the page.
type pageError struct {
	status int
	text   string
}

func (e *pageError) Error() string { return e.text }

func refuse(status int, format string, arguments ...any) error {
	return &pageError{status, fmt.Sprintf(format, arguments...)}
}

// authorize returns the rights of a request, and an error if they do not include
// the right to list.
func (h *handler) authorize(r *http.Request) (Rights, error) {
	rights, err := h.config.Authorize(r)
	if err != nil {
		h.config.Logger.WarnContext(r.Context(), "admin: a request was refused", "path", r.URL.Path, "error", err)
		rights = Rights{}
	}
	if !rights.List {
		return rights, refuse(http.StatusForbidden, "This page needs the right to list, which you do not have.")
	}
	return rights, nil
}

// pageErrorOf turns an error into one with a status. The text of an error of the
// database is for the log.
func (h *handler) pageErrorOf(r *http.Request, err error) *pageError {
	known, ok := errors.AsType[*pageError](err)
	switch {
	case ok:
		return known
	case r.Context().Err() != nil: // the client does not wait for the page
		return &pageError{http.StatusServiceUnavailable, "The request was ended."}
	case errors.Is(err, context.DeadlineExceeded):
		return &pageError{http.StatusGatewayTimeout, "The database did not answer in time. Narrow the search, or try again."}
	case errors.Is(err, operations.ErrNoVersion):
		return &pageError{http.StatusNotFound, "The aggregate does not exist, or does not have this version."}
	}
	if reason, ok := errors.AsType[*operations.ResetError](err); ok {
		return &pageError{http.StatusConflict, valid(reason.Problem)}
	}
	if missing, ok := errors.AsType[*operations.MigrationError](err); ok {
		return &pageError{http.StatusServiceUnavailable, fmt.Sprintf("%v. Create what is missing with the command migrate.", missing)}
	}
	if _, unknown := errors.AsType[*operations.ApplicationsError](err); unknown {
		return &pageError{http.StatusNotFound, "There is no such application in this process."}
	}
	if _, unknown := errors.AsType[*operations.UnknownFollowersError](err); unknown {
		return &pageError{http.StatusNotFound, "There is no such follower in this process."}
	}
	h.config.Logger.ErrorContext(r.Context(), "admin: a page failed", "path", r.URL.Path, "error", err)
	return &pageError{http.StatusInternalServerError, "The page could not be made. The log of the service says why."}
}
