package remotelog_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system/remotelog"
)

func TestClientStatuses(t *testing.T) {
	for code, test := range map[int]struct {
		class error
		says  string
		asked int
	}{
		302: {persistence.ErrProgramming, "redirects", 1},
		204: {persistence.ErrProgramming, "status 204", 1},
		400: {persistence.ErrProgramming, `the service says "limit is wrong"`, 1},
		401: {persistence.ErrOperational, "ClientConfig.Header", 1},
		404: {persistence.ErrProgramming, "address", 1},
		429: {persistence.ErrOperational, "429", 3},
		500: {persistence.ErrOperational, "500", 1},
		502: {persistence.ErrOperational, "502", 3},
		503: {persistence.ErrOperational, "503", 3},
		504: {persistence.ErrOperational, "504", 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			client := answering(func(*http.Request) (*http.Response, error) {
				asked++
				return status(code, `{"error": "limit is wrong"}`), nil
			}).client(t, remotelog.ClientConfig{Retries: 2})
			_, err := client.Head(t.Context())
			expect.ErrorIs(t, err, test.class)
			expect.Contains(t, err.Error(), fmt.Sprintf(": status %d: ", code), test.says)
			if asked != test.asked {
				t.Errorf("status %d: got %v after %d requests, want %d", code, err, asked, test.asked)
			}
		})
	}
}

// Redirects are not followed: headers with credentials would go wherever they
// lead.
func TestClientFollowsNoRedirects(t *testing.T) {
	client := newClient(t, serve(t, http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound)), remotelog.ClientConfig{})
	_, err := client.Head(t.Context())
	expect.Contains(t, fmt.Sprint(err), ": status 302; ")
}

func TestClientMaxResponse(t *testing.T) {
	dogs := newSchool(t)
	register(t, dogs, "Fido", 9)
	service := from(remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{}))
	body := ask(t, remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{}), http.MethodGet, "/notifications?after=0&limit=10").Body.Len()
	for _, more := range []int64{0, -1} {
		client := service.client(t, remotelog.ClientConfig{MaxResponse: int64(body) + more})
		_, err := client.Notifications(t.Context(), persistence.NotificationRange{Limit: 10})
		if errors.Is(err, remotelog.ErrTooLarge) != (more < 0) || errors.Is(err, persistence.ErrOperational) {
			t.Errorf("%d more than the answer: got %v, want ErrTooLarge exactly if it is less", more, err)
		}
	}
}

const one = `{"id": 5, "originator_id": "f7ae7a4a-0000-4000-8000-000000000000", "originator_version": 1, "topic": "a", "state": ""}`

func pageOf(head int, complete bool, notifications ...string) string {
	return fmt.Sprintf(`{"format": 1, "application": %q, "head": %d, "complete": %t, "notifications": [%s], "new": [1]}`,
		schoolName, head, complete, strings.Join(notifications, ","))
}

func answeringWith(body string) answering {
	return func(*http.Request) (*http.Response, error) { return status(200, body), nil }
}

// An answer that cannot be true is not believed.
func TestClientMalformed(t *testing.T) {
	six := strings.Replace(one, "5", "6", 1)
	for name, body := range map[string]string{
		"empty":                      "",
		"a page for people":          "<html>Log in</html>",
		"other JSON":                 `{"status": "ok"}`,
		"a list":                     "[]",
		"two answers":                pageOf(6, true, one) + pageOf(6, true, one),
		"a newer format":             strings.Replace(pageOf(6, true, one), "1", "2", 1),
		"no head":                    strings.Replace(pageOf(6, true, one), "head", "foot", 1),
		"a negative head":            pageOf(-1, true, one),
		"not behind the position":    pageOf(6, true, strings.Replace(one, "5", "4", 1)),
		"twice":                      pageOf(6, true, one, one),
		"the wrong way round":        pageOf(6, true, six, one),
		"beyond the end":             pageOf(6, true, strings.Replace(one, "5", "9", 1)),
		"more than asked for":        pageOf(6, true, one, six, strings.Replace(one, "5", "7", 1)),
		"another topic":              pageOf(6, true, strings.Replace(one, `"a"`, `"b"`, 1)),
		"no state":                   pageOf(6, true, strings.Replace(one, "state", "estate", 1)),
		"a null state":               pageOf(6, true, strings.Replace(one, `""`, `null`, 1)),
		"not base64":                 pageOf(6, true, strings.Replace(one, `""`, `"!"`, 1)),
		"no originator":              pageOf(6, true, strings.Replace(one, "f7ae7a4a-0000-4000-8", "00000000-0000-0000-0", 1)),
		"not a UUID":                 pageOf(6, true, strings.Replace(one, "f7ae7a4a-", "x", 1)),
		"a negative version":         pageOf(6, true, strings.Replace(one, `_version": 1`, `_version": -1`, 1)),
		"nothing, and more to come":  pageOf(6, false),
		"does not say that it ended": strings.Replace(pageOf(6, true), "complete", "finished", 1),
	} {
		client := answeringWith(body).client(t, remotelog.ClientConfig{})
		_, err := client.Notifications(t.Context(), persistence.NotificationRange{After: 4, Stop: 8, Limit: 2, Topics: []string{"a"}})
		if !errors.Is(err, remotelog.ErrMalformed) || !errors.Is(err, persistence.ErrDatabase) || errors.Is(err, persistence.ErrOperational) {
			t.Errorf("%s: got %v, want an error that is %v and that is %v", name, err, remotelog.ErrMalformed, persistence.ErrDatabase)
		}
	}
	client := answeringWith(pageOf(6, true, one)).client(t, remotelog.ClientConfig{})
	if page, err := client.Notifications(t.Context(), persistence.NotificationRange{After: 4, Limit: 2}); err != nil || len(page) != 1 || page[0].State == nil {
		t.Errorf("got %v, %v; want unknown fields to be ignored", page, err)
	}
}

// Positions in another log mean nothing, so not even its head is used.
func TestClientWrongApplication(t *testing.T) {
	client := from(remotelog.NewHandler(newApplication(t, "CatSchool"), remotelog.HandlerConfig{})).client(t, remotelog.ClientConfig{})
	_, err := client.Head(t.Context())
	_, err2 := client.Notifications(t.Context(), persistence.NotificationRange{Limit: 1})
	for _, err := range []error{err, err2} {
		if !errors.Is(err, remotelog.ErrWrongApplication) || !errors.Is(err, persistence.ErrProgramming) || !strings.Contains(err.Error(), "CatSchool") {
			t.Errorf("got %v, want an error that is %v, that is %v and that contains %q", err, remotelog.ErrWrongApplication, persistence.ErrProgramming, "CatSchool")
		}
	}
}

// Whatever a service answers, what a client takes is in order and after the
// position.
func FuzzClientAnswer(f *testing.F) {
	f.Add(pageOf(6, true, one))
	f.Add(pageOf(6, true, one, strings.Replace(one, "5", "6", 1)))
	f.Add(pageOf(6, false))
	f.Add(`{"format": 1, "notifications": [null]}`)
	f.Fuzz(func(t *testing.T, body string) {
		client := answering(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("after") != "4" { // further pages
				return status(400, ""), nil
			}
			return status(200, body), nil
		}).client(t, remotelog.ClientConfig{})
		page, err := client.Notifications(t.Context(), persistence.NotificationRange{After: 4, Limit: 3})
		if err != nil && page != nil || len(page) > 3 {
			t.Errorf("got %d, %v, want at most 3, or an error alone", len(page), err)
		}
		after := int64(4)
		for _, n := range page {
			if n.ID <= after || n.Topic == "" || n.State == nil {
				t.Errorf("got %+v after %d, want a whole notification with a higher id", n, after)
			}
			after = n.ID
		}
	})
}
