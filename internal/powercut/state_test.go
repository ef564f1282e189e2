//go:build guest

package powercut

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"biosv/generated"
)

// errLost is wrapped by what says that an acknowledged operation is not there; any other error of [state.judge] says
// that one is there in part, or that what belongs together does not agree.
var errLost = errors.New("an acknowledged operation is lost")

// state is what a service told of itself. What logs tell is added up over the readings, since a log may be cut.
type state struct {
	domains map[string]*domainState

	audit    uint64            // position of the newest row read
	digest   string            // of that row
	outcomes map[string]uint64 // "OPERATION OUTCOME DOMAIN" -> requests
}

type domainState struct {
	version    uint64
	attributes map[string]*generated.AttributeState
	last       uint64 // position of the newest event
	events     []event
}

type event struct {
	id      string
	changes map[string]string // name -> new value
	removed string            // old value of a change without a new one
}

const mostRecords = 1000

// read reads what is new in the logs, and all else.
func (s *state) read(ctx context.Context, port generated.Port) error {
	list, err := port.ListDomains(ctx, generated.Call{}, &generated.ListDomainsRequest{})
	if err != nil {
		return err
	}
	before := s.domains
	s.domains = map[string]*domainState{}
	for _, d := range list.Domain {
		name := string(*d.Name)
		now := &domainState{attributes: map[string]*generated.AttributeState{}}
		if then := before[name]; then != nil {
			*now = *then
			if now.version > uint64(*d.Version) {
				return fmt.Errorf("%s was at version %d and is at version %d", name, now.version, *d.Version)
			}
		}
		s.domains[name], now.version = now, uint64(*d.Version)
		if err := s.readDomain(ctx, port, name, now); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(list.Domain) == 0 {
		return nil // the service has not even set itself up
	}
	return s.readAudit(ctx, port)
}

func (s *state) readDomain(ctx context.Context, port generated.Port, name string, d *domainState) error {
	call := generated.Call{Domain: name}
	if name != privileged && name != machineName { // which have others
		reply, err := port.GetAttributes(ctx, call, &generated.GetAttributesRequest{Name: []string{assetTag, location, bootDelay}})
		if err != nil {
			return err
		}
		for _, a := range reply.Attribute {
			d.attributes[a.Name] = a
		}
	}
	for {
		reply, err := port.GetEventLog(ctx, call, &generated.GetEventLogRequest{After: new(generated.LogPosition(d.last)), MostRecords: new(generated.RecordLimit(mostRecords))})
		if err != nil {
			return err
		}
		for _, r := range reply.Record {
			if uint64(*r.Position) != d.last+1 {
				return fmt.Errorf("event %d follows event %d", *r.Position, d.last)
			}
			d.last++
			e := event{id: r.MessageId, changes: map[string]string{}}
			for _, c := range r.Change {
				if c.NewValue != "" {
					e.changes[c.Name] = c.NewValue
				} else {
					e.removed = c.OldValue
				}
			}
			d.events = append(d.events, e)
		}
		if last := uint64(*reply.LastPosition); last < d.last {
			return fmt.Errorf("the event log ends at %d, and has ended at %d", last, d.last)
		} else if last == d.last {
			return nil
		}
	}
}

const privileged = "dom0"

// readAudit reads the rows that are new, from the newest known one on, which must be as it was.
func (s *state) readAudit(ctx context.Context, port generated.Port) error {
	if s.outcomes == nil {
		s.outcomes = map[string]uint64{}
	}
	after := max(s.audit, 1) - 1
	for {
		reply, err := port.GetAuditLog(ctx, generated.Call{}, &generated.GetAuditLogRequest{After: new(generated.LogPosition(after)), MostRecords: new(generated.RecordLimit(mostRecords))})
		if err != nil {
			return err
		}
		if !reply.ChainIntact {
			return errors.New("the audit log's chain is broken")
		}
		if len(reply.Record) == 0 {
			break
		}
		for _, r := range reply.Record {
			after++
			switch at := uint64(*r.Position); {
			case at != after:
				return fmt.Errorf("audit row %d follows audit row %d", at, after-1)
			case at == s.audit && r.Digest != s.digest:
				return fmt.Errorf("audit row %d is another than it was", at)
			case at > s.audit:
				s.audit, s.digest = at, r.Digest
				s.outcomes[fmt.Sprintf("%s %s %s", r.Operation, *r.AuditOutcome, r.Domain)] += max(uint64(r.RepeatCount), 1)
			}
		}
	}
	if after < s.audit {
		return fmt.Errorf("the audit log ends at row %d, and has ended at row %d", after, s.audit)
	}
	return nil
}

// judge says of each writer how many of its operations are there, and that what is there is so many, each whole,
// and nothing else. It takes the writers to where they are.
func (s *state) judge(l *team, b bounds) (there []int, err error) {
	for _, w := range l.writers {
		least, most := b(w)
		n, err := s.find(w, most)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.domain, err)
		}
		if n < least {
			return nil, fmt.Errorf("%s: %w: %d are there, and %d were acknowledged", w.domain, errLost, n, least)
		}
		there = append(there, n)
	}
	for _, op := range []struct{ name, event string }{{"CreateDomain", eventCreated}, {"DestroyDomain", eventRemoved}} {
		rows, events := s.outcomes[op.name+" Done "+privileged], uint64(0)
		for _, e := range s.privilegedEvents() {
			if e.id == op.event {
				events++
			}
		}
		if rows != events {
			return nil, fmt.Errorf("the audit log has %d rows of %s, and the event log %d events", rows, op.name, events)
		}
	}
	return there, nil
}

// The message ids of the events that writers cause.
const (
	eventCreated = "ResourceEvent.1.3.ResourceCreated"
	eventRemoved = "ResourceEvent.1.3.ResourceRemoved"
	eventChanged = "BiosV.1.0.AttributesChanged"
)

func (s *state) privilegedEvents() []event {
	if d := s.domains[privileged]; d != nil {
		return d.events
	}
	return nil
}

// find gives the number of operations after which the state would be as it is.
func (s *state) find(w *writer, most int) (int, error) {
	var reasons []string
	for n := most; n >= 0; n-- {
		err := s.after(w, n)
		if err == nil {
			return n, nil
		}
		if len(reasons) < 3 {
			reasons = append(reasons, fmt.Sprintf("not after %d operations: %v", n, err))
		}
	}
	return 0, fmt.Errorf("it is in no state that it ever was in:\n\t%s", strings.Join(reasons, "\n\t"))
}

// after says why the state is not that after n operations of a writer.
func (s *state) after(w *writer, n int) error {
	var domains []string // that are there
	var history []event  // of the writer's domains, in the privileged domain's log
	var tokens []int     // that were set
	for i := range n {
		switch what, domain := w.operation(i); what {
		case create:
			domains = append(domains, domain)
			history = append(history, event{id: eventCreated, changes: map[string]string{"Domain": domain}})
		case destroy:
			domains = slices.DeleteFunc(domains, func(d string) bool { return d == domain })
			history = append(history, event{id: eventRemoved, removed: domain})
		case set:
			tokens = append(tokens, i)
		}
	}
	if err := s.matchDomains(w, domains, history); err != nil {
		return err
	}
	if len(domains) == 0 {
		return nil
	}
	d := s.domains[w.domain]
	if d.version != d.last {
		return fmt.Errorf("its version is %d, and its event log tells of %d changes", d.version, d.last)
	}
	if err := d.matchAttributes(w, tokens); err != nil {
		return err
	}
	if err := d.matchEvents(w, tokens); err != nil {
		return err
	}
	if rows := s.outcomes["SetAttributes Done "+w.domain]; rows != uint64(len(tokens)) {
		return fmt.Errorf("the audit log has %d rows of its %d changes", rows, len(tokens))
	}
	if last := len(tokens) - 1; last >= 0 && tokens[last] < len(w.acks) && d.version < w.acks[tokens[last]].version {
		return fmt.Errorf("its version is %d, and %d was acknowledged", d.version, w.acks[tokens[last]].version)
	}
	return nil
}

func (s *state) matchDomains(w *writer, domains []string, history []event) error {
	mine := func(name string) bool { return name == w.domain || strings.HasPrefix(name, w.domain+"-") }
	for _, name := range domains {
		if s.domains[name] == nil {
			return fmt.Errorf("the domain %s is not there", name)
		}
	}
	for name := range s.domains {
		if mine(name) && !slices.Contains(domains, name) {
			return fmt.Errorf("the domain %s is there", name)
		}
	}
	for _, e := range s.privilegedEvents() {
		name := e.changes["Domain"] + e.removed
		if !mine(name) {
			continue
		}
		if len(history) == 0 || history[0].id != e.id || history[0].changes["Domain"]+history[0].removed != name {
			return fmt.Errorf("the event log of %s tells %s of %s", privileged, e.id, name)
		}
		history = history[1:]
	}
	if len(history) > 0 {
		return fmt.Errorf("the event log of %s does not tell %s of %s%s", privileged, history[0].id, history[0].changes["Domain"], history[0].removed)
	}
	return nil
}

func (d *domainState) matchAttributes(w *writer, tokens []int) error {
	token, waits := "", []string(nil)
	if len(tokens) > 0 {
		last := tokens[len(tokens)-1]
		token, waits = w.token(last), []string{delay(last)}
	}
	for _, name := range []string{assetTag, location} {
		if got := d.attributes[name].CurrentValue; !slices.Equal(got, []string{token}) {
			return fmt.Errorf("%s is %q and not %q", name, got, token)
		}
	}
	if got := d.attributes[bootDelay].PendingValue; !slices.Equal(got, waits) {
		return fmt.Errorf("%s has %q waiting and not %q", bootDelay, got, waits)
	}
	return nil
}

func (d *domainState) matchEvents(w *writer, tokens []int) error {
	for _, e := range d.events {
		if e.id != eventChanged {
			continue
		}
		if len(tokens) == 0 {
			return fmt.Errorf("its event log tells of %q", e.changes[assetTag])
		}
		if token := w.token(tokens[0]); e.changes[assetTag] != token || e.changes[location] != token || e.changes[bootDelay] != delay(tokens[0]) {
			return fmt.Errorf("its event log tells of %v where it should tell of %q and %s", e.changes, token, delay(tokens[0]))
		}
		tokens = tokens[1:]
	}
	if len(tokens) > 0 {
		return fmt.Errorf("its event log does not tell of %q", w.token(tokens[0]))
	}
	return nil
}

// settle takes the writers to where they are found to be: what was asked for when the power went either happened or
// did not, and they go on from there.
func (l *team) settle(there []int) {
	for i, w := range l.writers {
		if there[i] > len(w.acks) {
			w.acks = append(w.acks, ack{})
		}
		w.asked = false
	}
}
