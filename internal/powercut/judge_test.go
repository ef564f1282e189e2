//go:build guest

package powercut

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"biosv/smm"
	"biosv/store"
)

// What a power cut must never leave behind is noticed: it is made up here, of a state that is right.
func TestAnOperationThatIsThereInPartIsNoticed(t *testing.T) {
	t.Parallel()
	s, err := store.Open(filepath.Join(t.TempDir(), "state.db"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	port, end, err := functions(t.Context(), s, func(b *smm.BIOS) error { return b.EnsurePrivileged(t.Context(), uuid.NewString()) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	}()
	l := newTeam()
	for i, w := range l.writers {
		for n := range 10 + i { // some have created a domain, some have destroyed it again
			version, err := w.do(t.Context(), port, n)
			if err != nil {
				t.Fatal(err)
			}
			w.acks = append(w.acks, ack{version: version})
		}
	}
	w := l.writers[0]
	last := len(w.acks) - 1
	for name, test := range map[string]struct {
		change func(*state)
		lost   bool
	}{
		"all is right":                   {change: nil},
		"an attribute is of before":      {change: func(s *state) { s.domains["w0"].attributes[location].CurrentValue = []string{w.token(last - 2)} }},
		"a waiting value is of before":   {change: func(s *state) { s.domains["w0"].attributes[bootDelay].PendingValue = []string{delay(last - 2)} }},
		"an event is missing":            {change: func(s *state) { d := s.domains["w0"]; d.events = d.events[:len(d.events)-1] }},
		"an event tells less":            {change: func(s *state) { delete(s.domains["w0"].events[0].changes, location) }},
		"an event is there twice":        {change: func(s *state) { d := s.domains["w0"]; d.events = append(d.events, d.events[0]) }},
		"the version is of before":       {change: func(s *state) { s.domains["w0"].version-- }},
		"version and log are of before":  {change: func(s *state) { s.domains["w0"].version--; s.domains["w0"].last-- }},
		"an audit row is missing":        {change: func(s *state) { s.outcomes["SetAttributes Done w0"]-- }},
		"an audit row is there twice":    {change: func(s *state) { s.outcomes["SetAttributes Done w0"]++ }},
		"a domain is missing":            {change: func(s *state) { delete(s.domains, "w0") }},
		"a destroyed domain is there":    {change: func(s *state) { s.domains["w0-5"] = s.domains["w0"] }},
		"a creation is not in the log":   {change: func(s *state) { d := s.domains[privileged]; d.events = d.events[1:] }},
		"a creation is not in the audit": {change: func(s *state) { s.outcomes["CreateDomain Done dom0"]-- }},
		"more was acknowledged":          {change: func(*state) { w.acks = append(w.acks, ack{}) }, lost: true},
		"less was asked for":             {change: func(*state) { w.acks = w.acks[:last] }},
	} {
		acks := w.acks
		found := &state{}
		if err := found.read(t.Context(), port); err != nil {
			t.Fatal(err)
		}
		if test.change != nil {
			test.change(found)
		}
		_, err := found.judge(l, now)
		w.acks = acks
		if (err != nil) != (test.change != nil) || errors.Is(err, errLost) != test.lost {
			t.Errorf("%s: %v", name, err)
		}
	}
}
