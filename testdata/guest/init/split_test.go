package main

import (
	"slices"
	"testing"
)

func TestALineIsSplitAtItsBlanks(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"poweroff":                   {"poweroff"},
		"  run\t/bin/a  b ":          {"run", "/bin/a", "b"},
		"run /bin/sh -c 'echo a  b'": {"run", "/bin/sh", "-c", "echo a  b"},
		"run /bin/a '' b":            {"run", "/bin/a", "", "b"},
		"run /bin/a x'y z'w":         {"run", "/bin/a", "xy zw"},
		`run /bin/a "b c"`:           {"run", "/bin/a", `"b`, `c"`},
		"run /bin/é 'ü ö'":           {"run", "/bin/é", "ü ö"},
		"":                           nil,
	} {
		if got, err := split(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", line, got, err, want)
		}
	}
	if got, err := split("run 'a"); err == nil {
		t.Errorf("a quote that does not end gives %q", got)
	}
}
