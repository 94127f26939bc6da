package domain_test

import (
	"os/exec"
	"regexp"
	"testing"
)

// Events of another aggregate do not compile: each package in testdata/compile
// but the good one makes one mistake.
func TestMistakesDoNotCompile(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"good":           `^$`,
		"trigger":        `\*Dog\) does not satisfy domain\.AggregateOf|does not match inferred type|have Apply\(\*Cat\)\s+want Apply\(\*Dog\)`,
		"create":         `have Apply\(\*Cat\)\s+want Apply\(\*Dog\)`,
		"define":         `type domain\.Option\[Cat\] of domain\.On\("Meowed", Meowed\{\}\) does not match inferred type domain\.Option\[Dog\]`,
		"notanaggregate": `\*Stone does not satisfy domain\.AggregateOf\[Stone\]`,
		"fold":           `domain\.Option\[domain\.Fold\[string\]\].* does not match inferred type domain\.Option\[domain\.Fold\[int\]\]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("go", "build", "./testdata/compile/"+name).CombinedOutput()
			if compiles := err == nil; compiles != (name == "good") {
				t.Errorf("compiles: %v, want %v\n%s", compiles, name == "good", out)
			}
			if !regexp.MustCompile(want).Match(out) {
				t.Errorf("got\n%s\nwant it to match %s", out, want)
			}
		})
	}
}
