package remotelog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system/remotelog"
)

func repositoryOf(t *testing.T, app *application.Application) *application.Repository[school.Dog] {
	t.Helper()
	repository, err := application.NewRepository(app, school.Dogs)
	expect.NoError(t, err)
	return repository
}

// A client says what the recorder says, whatever is asked and however the
// service cuts its pages.
func TestClientReadsWhatTheRecorderHas(t *testing.T) {
	t.Parallel()
	store := memory.New()
	dogs := newSchool(t, application.WithStore(store))
	other := newApplication(t, "Other", application.WithStore(store))
	register(t, dogs, "Fido", 20)
	expect.NoError(t, repositoryOf(t, other).Save(t.Context(), school.RegisterDog("Rex"))) // a gap
	register(t, dogs, "Bella", 13)
	for name, config := range map[string]remotelog.HandlerConfig{
		"default":       {},
		"short pages":   {MaxPage: 7},
		"small pages":   {MaxPageBytes: 300},
		"one at a time": {MaxPageBytes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, serve(t, remotelog.NewHandler(dogs.Application, config)), remotelog.ClientConfig{})
			head, err := client.Head(t.Context())
			if want, _ := bridge.Of(dogs).Recorder().MaxNotificationID(t.Context()); err != nil || head != want {
				t.Errorf("got head %d, %v; want %d", head, err, want)
			}
			for _, after := range []int64{0, 1, 20, 21, 35, 36, 1000} {
				for _, stop := range []int64{0, 1, 22, 36, 1000} {
					for _, limit := range []int{1, 7, 14, 35, 36, 5000} {
						for _, topics := range [][]string{nil, {"Dog.Registered"}, {"Dog.TrickAdded", "Cat, & ünicorn?.Born"}} {
							r := persistence.NotificationRange{After: after, Stop: stop, Limit: limit, Topics: topics}
							wantSame(t, client, dogs.Application, r)
						}
					}
				}
			}
		})
	}
}

func wantSame(t *testing.T, client *remotelog.Client, app *application.Application, r persistence.NotificationRange) {
	t.Helper()
	want, err := bridge.Of(app).Recorder().SelectNotifications(t.Context(), r)
	expect.NoError(t, err)
	got, err := client.Notifications(t.Context(), r)
	if err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v: got %d, %v; want %d", r, len(got), err, len(want))
	}
}

// Two writers save 30 events each; sections of 10 are full up to 60, and then
// empty.
func TestClientReadsSections(t *testing.T) {
	t.Parallel()
	dogs := newSchool(t)
	client := newClient(t, serve(t, remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{})), remotelog.ClientConfig{})
	var writers sync.WaitGroup
	for _, name := range []string{"Fido", "Rex"} {
		writers.Go(func() {
			for i := range 30 {
				if err := dogs.Register(t.Context(), fmt.Sprint(name, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	for after := int64(0); after <= 60; after += 10 {
		want := min(10, int(60-after))
		if page, err := client.Notifications(t.Context(), persistence.NotificationRange{After: after, Limit: 10}); err != nil || len(page) != want {
			t.Errorf("after %d: got %d, %v; want %d", after, len(page), err, want)
		}
	}
}

// A follower that could process a part of a page asks for the rest of it again.
// Nothing is sent twice.
func TestClientKeepsTheRest(t *testing.T) {
	dogs := newSchool(t)
	register(t, dogs, "Fido", 19)
	var asked []string
	client := answering(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.RawQuery)
		return from(remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{}))(r)
	}).client(t, remotelog.ClientConfig{})
	for _, step := range []struct {
		r    persistence.NotificationRange
		asks string
	}{
		{persistence.NotificationRange{Limit: 10}, "[after=0&limit=10]"},
		{persistence.NotificationRange{After: 4, Limit: 10}, "[after=10&limit=4]"},
		{persistence.NotificationRange{After: 5, Limit: 3}, "[]"},
		{persistence.NotificationRange{After: 6, Limit: 8}, "[]"},
		{persistence.NotificationRange{After: 14, Limit: 10}, "[after=14&limit=10]"},
		{persistence.NotificationRange{After: 17, Limit: 10}, "[after=20&limit=7]"},
		// Further back than what is kept.
		{persistence.NotificationRange{After: 16, Limit: 2}, "[after=16&limit=2]"},
		{persistence.NotificationRange{After: 16, Stop: 17, Limit: 2}, "[after=16&limit=2&stop=17]"},
		{persistence.NotificationRange{After: 16, Limit: 1, Topics: []string{"Dog.TrickAdded"}}, "[after=16&limit=1&topics=Dog.TrickAdded]"},
		{persistence.NotificationRange{After: 16, Limit: 1}, "[]"},
	} {
		asked = nil
		wantSame(t, client, dogs.Application, step.r)
		if got := fmt.Sprint(asked); got != step.asks {
			t.Errorf("%+v: asks %s, want %s", step.r, got, step.asks)
		}
	}
	t.Run("but not of a log that was restored", func(t *testing.T) {
		head := 6
		asked := 0
		client := answering(func(*http.Request) (*http.Response, error) {
			asked++
			return status(200, pageOf(head, true, one)), nil
		}).client(t, remotelog.ClientConfig{})
		ctx, r := t.Context(), persistence.NotificationRange{After: 4, Limit: 1}
		for _, step := range []struct{ head, asked int }{{6, 2}, {6, 3}, {5, 5}} {
			head = step.head
			if _, err := client.Head(ctx); errors.Is(err, remotelog.ErrStale) != (step.head < 6) {
				t.Error(err)
			}
			if _, _ = client.Notifications(ctx, r); asked != step.asked {
				t.Errorf("head %d: asked %d times, want %d", step.head, asked, step.asked)
			}
		}
	})
}

func TestClientInvalidRange(t *testing.T) {
	client := from(remotelog.NewHandler(newSchool(t).Application, remotelog.HandlerConfig{})).client(t, remotelog.ClientConfig{})
	for _, r := range []persistence.NotificationRange{{}, {Limit: -1}, {Limit: 1, After: -1}, {Limit: 1, Stop: -1}} {
		_, err := client.Notifications(t.Context(), r)
		expect.ErrorAs[*invalid.Error](t, err)
	}
}

// States are sent as they are stored: the service that has them needs neither
// keys nor definitions, the one that reads needs both.
func TestClientDecodes(t *testing.T) {
	secret, err := cipher.CreateKey(32)
	expect.NoError(t, err)
	keys, err := cipher.ParseKeys(secret)
	expect.NoError(t, err)
	aes, err := cipher.NewAES(keys...)
	expect.NoError(t, err)
	zlib, err := compressor.NewZlib()
	expect.NoError(t, err)
	store := memory.New()
	dogs := newSchool(t, application.WithStore(store), application.WithCipher(aes), application.WithCompressor(zlib))
	register(t, dogs, "Fido", 1)
	bare, err := application.New(schoolName, application.WithStore(store))
	expect.NoError(t, err)
	service := from(remotelog.NewHandler(bare, remotelog.HandlerConfig{}))

	for name, options := range map[string][]application.Option{
		"options":  {application.WithCipher(aes), application.WithCompressor(zlib)},
		"settings": {application.WithEnv(map[string]string{"TRAININGSCHOOL_CIPHER_KEY": secret, "COMPRESSOR_TOPIC": "zlib"})},
	} {
		client := service.client(t, remotelog.ClientConfig{Application: options})
		page, err := client.Notifications(t.Context(), persistence.NotificationRange{Limit: 10})
		expect.NoError(t, err)
		event, err := client.Decode(page[1])
		if err != nil || event.Data != (school.TrickAdded{Trick: "sit"}) || event.NotificationID != 2 || event.Application != schoolName {
			t.Errorf("%s: got %+v, %v, want no error, Data %v, NotificationID 2 and Application %v", name, event, err, (school.TrickAdded{Trick: "sit"}), schoolName)
		}
	}
	client := service.client(t, remotelog.ClientConfig{})
	page, err := client.Notifications(t.Context(), persistence.NotificationRange{Limit: 1})
	expect.NoError(t, err)
	_, err = client.Decode(page[0])
	expect.ErrorAs[*persistence.MappingError](t, err)
	if len(client.Topics(reflect.TypeFor[school.Registered]())) == 0 || len(client.Topics(reflect.TypeFor[int]())) > 0 || client.Name() != schoolName {
		t.Errorf("the client does not know its definitions: got %v, want some Topics, 0 Topics and Name %v", client.Name(), schoolName)
	}
}

func TestNewClientMistakes(t *testing.T) {
	for _, address := range []string{"", "service", "/log", "ftp://service", "http://", "http://:80", "http://service#x",
		"http://user:secret@ser vice/", "http://user:secret", "http://service?after=1", "http://service?topics=a"} {
		_, err := remotelog.NewClient(schoolName, address, remotelog.ClientConfig{Application: known})
		if expect.ErrorAs[*invalid.Error](t, err); strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %q, want an error without the secret", address, err)
		}
	}
	_, err := remotelog.NewClient(strings.Repeat("x", 33), "http://service", remotelog.ClientConfig{Application: known})
	expect.ErrorAs[*invalid.Error](t, err)
	_, err = remotelog.NewClient(schoolName, "service", remotelog.ClientConfig{Timeout: -1, MaxResponse: -1})
	for _, part := range []string{"address", "Application", "Timeout", "MaxResponse"} {
		if !errors.Is(err, persistence.ErrProgramming) || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want it to say what is wrong with %s", err, part)
		}
	}
}

// Headers and arguments of the address are sent, and show up in no error.
func TestClientCredentials(t *testing.T) {
	var asked []*http.Request
	client, err := remotelog.NewClient(schoolName, "https://user:secret1@service/log/?token=secret2", remotelog.ClientConfig{
		Application: known,
		Header:      http.Header{"Authorization": {"Bearer secret3"}},
		Retries:     -1,
		HTTPClient: &http.Client{Transport: answering(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r)
			if len(asked) == 1 {
				return nil, errors.New("no route")
			}
			return status(403, ""), nil
		})},
	})
	expect.NoError(t, err)
	for range 2 {
		_, err := client.Notifications(t.Context(), persistence.NotificationRange{After: 4, Stop: 9, Limit: 3, Topics: []string{"a", "b"}})
		expect.ErrorIs(t, err, persistence.ErrOperational)
		if strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), " at https://service/log/notifications: ") {
			t.Errorf("got %v, want the address without its secret", err)
		}
	}
	got := asked[0]
	if got.Header.Get("Authorization") != "Bearer secret3" || got.URL.RawQuery != "after=4&limit=3&stop=9&token=secret2&topics=a&topics=b" {
		t.Errorf("got %v %v, want Get %q and RawQuery %q", got.URL, got.Header, "Bearer secret3", "after=4&limit=3&stop=9&token=secret2&topics=a&topics=b")
	}
}

// cut is the body of an answer whose connection is lost.
type cut struct{ io.Reader }

func (c cut) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (cut) Close() error { return nil }

// What may pass is tried again within the call, with waits in between.
func TestClientRetries(t *testing.T) {
	for name, test := range map[string]struct {
		fail     func() (*http.Response, error)
		min, max time.Duration // of the wait
	}{
		"no connection": {func() (*http.Response, error) { return nil, errors.New("refused") }, 225 * time.Millisecond, 300 * time.Millisecond},
		"cut": {func() (*http.Response, error) {
			r := status(200, "")
			r.Body = cut{strings.NewReader(`{"for`)}
			return r, nil
		}, 225 * time.Millisecond, 300 * time.Millisecond},
		"busy":           {func() (*http.Response, error) { return status(503, ""), nil }, 225 * time.Millisecond, 300 * time.Millisecond},
		"busy for a bit": {func() (*http.Response, error) { return status(429, "", "Retry-After", "3"), nil }, 6 * time.Second, 6 * time.Second},
		"busy until": {func() (*http.Response, error) {
			return status(503, "", "Retry-After", time.Now().Add(2*time.Second).UTC().Format(http.TimeFormat)), nil
		}, 2 * time.Second, 4 * time.Second},
		"busy since": {func() (*http.Response, error) { return status(503, "", "Retry-After", "-5"), nil }, 225 * time.Millisecond, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dogs := newSchool(t)
				register(t, dogs, "Fido", 0)
				asked := 0
				client := answering(func(r *http.Request) (*http.Response, error) {
					if asked++; asked < 3 {
						return test.fail()
					}
					return from(remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{}))(r)
				}).client(t, remotelog.ClientConfig{})
				start := time.Now()
				head, err := client.Head(t.Context())
				if waited := time.Since(start); err != nil || head != 1 || asked != 3 || waited < test.min || waited > test.max {
					t.Errorf("got %d, %v after %d requests and %v, want no error, 1, 3, at least %v and at most %v", head, err, asked, waited, test.min, test.max)
				}
			})
		})
	}
}

// A service that asks for a long wait is left to the caller.
func TestClientLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		client := answering(func(*http.Request) (*http.Response, error) {
			asked++
			return status(503, "", "Retry-After", "3600"), nil
		}).client(t, remotelog.ClientConfig{})
		_, err := client.Head(t.Context())
		if expect.ErrorIs(t, err, persistence.ErrOperational); asked != 1 {
			t.Errorf("got %v after %d requests, want 1", err, asked)
		}
	})
}

func TestClientTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		client := answering(func(r *http.Request) (*http.Response, error) {
			asked++
			<-r.Context().Done()
			return nil, r.Context().Err()
		}).client(t, remotelog.ClientConfig{})
		start := time.Now()
		_, err := client.Head(t.Context())
		if !errors.Is(err, persistence.ErrOperational) || !errors.Is(err, context.DeadlineExceeded) || asked != 1 || time.Since(start) != 10*time.Second {
			t.Errorf("got %v after %d requests and %v, want an error that is %v, that is %v, 1 and %v", err, asked, time.Since(start), persistence.ErrOperational, context.DeadlineExceeded, 10*time.Second)
		}
	})
}

func TestClientCancelled(t *testing.T) {
	for name, service := range map[string]answering{
		"in a request": func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
		"in a wait":    func(*http.Request) (*http.Response, error) { return status(503, "", "Retry-After", "5"), nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			client := service.client(t, remotelog.ClientConfig{})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			_, err := client.Head(ctx)
			if err != context.Canceled || time.Since(start) != time.Second {
				t.Errorf("%s: got %v after %v, want %v and %v", name, err, time.Since(start), context.Canceled, time.Second)
			}
		})
	}
}

func newApplication(t testing.TB, name string, options ...application.Option) *application.Application {
	t.Helper()
	app, err := application.New(name, options...)
	expect.NoError(t, err)
	return app
}

// A follower that was told of a head moves there when no more events come, so
// these must not come from a replica that does not have them yet.
func TestClientStale(t *testing.T) {
	head, after := 6, 0
	client := answering(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/head") {
			return status(200, pageOf(head, true)), nil
		}
		return status(200, pageOf(after, true)), nil
	}).client(t, remotelog.ClientConfig{})
	ctx, r := t.Context(), persistence.NotificationRange{After: 4, Limit: 2}
	for _, step := range []struct {
		head, page int
		stale      bool
	}{{6, 6, false}, {6, 5, true}, {6, 7, false}, {3, 3, true}} { // the last one is a restored log
		head, after = step.head, step.page
		got, err := client.Head(ctx)
		if behind := step.head < 6; !behind && (err != nil || got != int64(step.head)) || behind != errors.Is(err, remotelog.ErrStale) {
			t.Errorf("got head %d, %v, want %d, or ErrStale below 6", got, err, step.head)
		}
		_, err = client.Notifications(ctx, r)
		if errors.Is(err, remotelog.ErrStale) != step.stale || errors.Is(err, persistence.ErrOperational) != step.stale {
			t.Errorf("%+v: got %v, want ErrStale: %v", step, err, step.stale)
		}
	}
}
