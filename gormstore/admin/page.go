package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// page is a page and its JSON twin.
type page struct {
	pattern string
	name    string // of the template
	title   string
	load    func(h *handler, ctx context.Context, r *http.Request, rights Rights) (any, error)
}

func (p page) apiPattern() string {
	if p.pattern == "/{$}" {
		return "/overview"
	}
	return p.pattern
}

var pages = []page{
	{"/{$}", "overview", "Overview", (*handler).overview},
	{"/log", "log", "Log", (*handler).log},
	{"/aggregate", "find", "Aggregate", (*handler).find},
	{"/aggregate/{application}/{id}", "aggregate", "Aggregate", (*handler).aggregate},
	{"/followers", "followers", "Followers", (*handler).followers},
	{"/followers/{follower}", "follower", "Follower", (*handler).follower},
	{"/followers/{follower}/{action}", "confirm", "Confirm", (*handler).confirm},
	{"/problems", "problems", "Problems", (*handler).problems},
	{"/settings", "settings", "Settings", (*handler).settings},
}

// view is what a template gets.
type view struct {
	Page   string
	Title  string
	Base   string // from the page to the root of the handler, such as "../"
	Rights Rights
	Acts   bool // whether actions are allowed at all
	Data   any
	Error  *pageError
	Back   string // the page of a refused action, relative to the handler's root
	Reload bool
}

// base returns how a page refers to the root of the handler, whatever prefix it
// is mounted under.
func base(path string) string {
	depth := strings.Count(strings.TrimPrefix(path, "/"), "/")
	if depth == 0 {
		return "./"
	}
	return strings.Repeat("../", depth)
}

// redirector is data that sends the browser elsewhere.
type redirector interface{ redirect() string }

// page handles a page or its JSON twin.
func (h *handler) page(p page, api bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), h.config.Timeout)
		defer cancel()
		v := view{Page: p.name, Title: p.title, Base: base(r.URL.EscapedPath()), Acts: h.config.Actions,
			Reload: p.name == "log" && r.URL.Query().Has("tail")}
		rights, err := h.authorize(r)
		if err == nil {
			err = checkQuery(r.URL)
		}
		if err == nil {
			v.Rights = rights
			v.Data, err = p.load(h, ctx, r, rights)
		}
		if err != nil {
			v.Error = h.pageErrorOf(r, err)
		}
		if target, ok := v.Data.(redirector); ok && v.Error == nil && target.redirect() != "" && !api {
			redirect(w, v.Base+target.redirect())
			return
		}
		if api {
			h.writeJSON(w, r, v)
			return
		}
		h.write(w, r, v)
	}
}

// redirect sends the browser to a relative address. http.Redirect would make it
// absolute without the prefix that the handler is mounted under.
func redirect(w http.ResponseWriter, address string) {
	w.Header().Set("Location", address)
	w.WriteHeader(http.StatusSeeOther)
}

// longestQuery is how long a query of a URL may be.
const longestQuery = 2000

func checkQuery(u *url.URL) error {
	if len(u.RawQuery) > longestQuery {
		return refuse(http.StatusBadRequest, "The query is too long.")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return refuse(http.StatusBadRequest, "The query cannot be parsed.")
	}
	for _, values := range q {
		for _, value := range values {
			// PostgreSQL refuses these texts.
			if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
				return refuse(http.StatusBadRequest, "The query has values that are not text.")
			}
		}
	}
	return nil
}

func (h *handler) writeJSON(w http.ResponseWriter, r *http.Request, v view) {
	data := v.Data
	status := http.StatusOK
	if v.Error != nil {
		status, data = v.Error.status, map[string]string{"error": v.Error.text}
	}
	text, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		h.config.Logger.ErrorContext(r.Context(), "admin: a page failed", "path", r.URL.Path, "error", err)
		status, text = http.StatusInternalServerError, []byte(`{"error": "the page could not be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client may have gone
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, v view) {
	name, status := v.Page, http.StatusOK
	if v.Error != nil {
		name, status = "error", v.Error.status
	}
	var out bytes.Buffer
	if err := h.templates[name].ExecuteTemplate(&out, "layout", v); err != nil {
		h.config.Logger.ErrorContext(r.Context(), "admin: a page failed", "path", r.URL.Path, "error", err)
		http.Error(w, "The page could not be made. The log of the service says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the client may have gone
}

func parseTemplates() (map[string]*template.Template, error) {
	functions := template.FuncMap{
		"time":  formatTime,
		"query": url.QueryEscape,
		"path":  url.PathEscape,
	}
	all := map[string]*template.Template{}
	names := []string{"error"}
	for _, p := range pages {
		names = append(names, p.name)
	}
	for _, name := range names {
		t, err := template.New(name).Funcs(functions).ParseFS(files, "templates/layout.html", "templates/followertable.html", "templates/"+name+".html")
		if err != nil {
			return nil, err
		}
		all[name] = t
	}
	return all, nil
}

// formatTime returns a time in UTC, or "" for the zero time.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
