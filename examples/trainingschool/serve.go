package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/system/health"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "serve [--address 127.0.0.1:8080]",
		Short: "Show the school's pages on a loopback address", Args: cobra.NoArgs}
	address := cmd.Flags().String("address", "127.0.0.1:8080", "The loopback address to listen at; port 0 is any free one.")
	cmd.RunE = withProgram(func(ctx context.Context, p *program, out io.Writer, _ []string) error {
		return serve(ctx, p, out, *address)
	})
	return cmd
}

// serve shows the pages with the demonstration's data until ctx ends. Who opens
// the address that it prints, once, may do everything.
func serve(ctx context.Context, p *program, out io.Writer, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("serve: %s is no loopback address; give one such as 127.0.0.1:8080", address)
	}
	if err := demonstrate(ctx, p, out, nil); err != nil {
		return err
	}
	runner, err := system.NewRunner(p.runner.System(), system.Config{})
	if err != nil {
		return err
	}
	if err := runner.Start(ctx); err != nil {
		return err
	}
	defer runner.Close()
	handler, token, err := pagesOf(runner)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	fmt.Fprintf(out, "Open this address; its token works once: http://%s/?token=%s\n", listener.Addr(), token)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(closing)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// pagesOf returns the pages of a runner with their probes, and the token that
// opens them.
func pagesOf(runner *system.Runner) (http.Handler, string, error) {
	d := &door{token: rand.Text(), session: rand.Text()}
	pages, err := admin.New(runner, admin.Config{Authorize: d.rights, Actions: true})
	if err != nil {
		return nil, "", err
	}
	live, ready, err := health.New(runner, health.Config{})
	if err != nil {
		return nil, "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.open)
	mux.Handle("/admin/", http.StripPrefix("/admin", pages))
	mux.Handle("GET /healthz", live)
	mux.Handle("GET /readyz", ready)
	return mux, d.token, nil
}

// door lets in who has the token, once, and remembers them by a cookie.
type door struct {
	session string

	mu    sync.Mutex // protects token
	token string     // "" when it was used
}

const cookieName = "trainingschool"

func (d *door) open(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	given := r.URL.Query().Get("token")
	if d.token != "" && subtle.ConstantTimeCompare([]byte(given), []byte(d.token)) == 1 {
		d.token = ""
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: d.session, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
	http.Redirect(w, r, "/admin/", http.StatusSeeOther)
}

func (d *door) rights(r *http.Request) (admin.Rights, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil || subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(d.session)) != 1 {
		return admin.Rights{}, nil
	}
	return admin.Rights{Actor: "demonstration", List: true, Payload: true, Operate: true, Reset: true}, nil
}
