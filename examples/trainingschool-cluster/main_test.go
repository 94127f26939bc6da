package main

import (
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if settings := os.Getenv(serverVariable); settings != "" {
		exit(serve(settings))
	}
	os.Exit(m.Run())
}

func TestDemonstration(t *testing.T) {
	var out strings.Builder
	err := demonstrate(t.Context(), &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"is killed\n", "the log has 168 of 168 events\n", "trick 5: 24 of 24 dogs\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}
