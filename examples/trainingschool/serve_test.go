package main

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestServe opens the address that serve prints: once with the token, and then
// without the cookie.
func TestServe(t *testing.T) {
	t.Setenv("SQLITE_PATH", filepath.Join(t.TempDir(), "school.sqlite3"))
	t.Setenv("POSTGRES_DSN", "")
	ctx, stop := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		root := newRootCommand()
		root.SetArgs([]string{"serve", "--address", "127.0.0.1:0"})
		root.SetOut(writer)
		err := root.ExecuteContext(ctx)
		_ = writer.CloseWithError(err)
		ended <- err
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serve ended with %v", err)
		}
	}()
	printed, address := "", ""
	for buffer := make([]byte, 4096); address == ""; {
		n, err := reader.Read(buffer)
		if err != nil {
			t.Fatalf("serve printed %q and ended: %v", printed, err)
		}
		printed += string(buffer[:n])
		address = regexp.MustCompile(`http://\S+\?token=\S+`).FindString(printed)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	get := func(client *http.Client, url string) (int, string) {
		t.Helper()
		answer, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	client := &http.Client{Jar: jar}
	if code, text := get(client, address); code != 200 || !strings.Contains(text, "TrainingSchool") {
		t.Errorf("with the token: got %d, %s, want 200 and it to contain %q", code, text, "TrainingSchool")
	}
	if code, _ := get(&http.Client{}, address); code != 403 {
		t.Errorf("the token again: got %d, want 403", code)
	}
	root, _, _ := strings.Cut(address, "?")
	if code, text := get(client, root+"readyz"); code != 200 {
		t.Errorf("readyz: got %d, %s, want 200", code, text)
	}
}

func TestServeRefusesOtherAddresses(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "example.com:80", "x"} {
		if err := serve(context.Background(), nil, io.Discard, address); err == nil {
			t.Errorf("%s: got no error", address)
		}
	}
}
