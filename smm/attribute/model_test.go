package attribute_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"biosv/generated"
)

// model is what attributes are, said as simply as can be: every value is there, and every change makes all anew.
type model struct {
	current, waits, saved map[string]string
}

// offer is what the random requests draw from: values that the registry allows, with the default first, and one
// that it does not.
type offer struct {
	good  []string
	bad   string
	reset bool
}

var offers = map[string]offer{
	"AssetTag":      {good: []string{"", "rack", "shelf"}, bad: "01234567890"},
	"FanPercent":    {good: []string{"40", "20", "100"}, bad: "21"},
	"ThermalPolicy": {good: []string{"Balanced", "Custom", "Custom"}, bad: "Loud"},
	"Load":          {good: []string{"Idle", "Full"}, bad: "Heavy"},
	"Delay":         {good: []string{"0", "5", "60"}, bad: "61", reset: true},
	"BootMode":      {good: []string{"Uefi", "Legacy", "Http"}, bad: "Floppy", reset: true},
	"BootOrder":     {good: []string{"disk,net", "disk", "usb,disk", "net"}, bad: "floppy", reset: true},
}

var offered = slices.Sorted(maps.Keys(offers))

func newModel() *model {
	m := &model{current: map[string]string{}, waits: map[string]string{}}
	for name, o := range offers {
		m.current[name] = o.good[0]
	}
	return m
}

func (m *model) next() map[string]string {
	next := maps.Clone(m.current)
	maps.Copy(next, m.waits)
	return next
}

// whole says whether BootMode and BootOrder, as they are to be, go together.
func whole(state map[string]string) bool {
	return state["BootMode"] != "Legacy" || state["BootOrder"] != "disk,net" && state["BootOrder"] != "net"
}

// set says whether a request is allowed, and does it.
func (m *model) set(request map[string]string, onReset bool) bool {
	after := m.next()
	maps.Copy(after, request)
	for name, v := range request {
		switch {
		case v == offers[name].bad,
			name == "FanPercent" && after["ThermalPolicy"] != "Custom",
			name == "Delay" && after["BootMode"] == "Http",
			name == "BootMode" && !whole(after) && whole(m.next()), name == "BootOrder" && !whole(after):
			return false
		}
	}
	for name, v := range request {
		m.put(name, v, onReset)
	}
	return true
}

func (m *model) put(name, v string, onReset bool) {
	delete(m.waits, name)
	switch {
	case m.current[name] == v:
	case onReset || offers[name].reset:
		m.waits[name] = v
	default:
		m.current[name] = v
	}
}

// TestRandomRequestsAgreeWithASimpleModel does what comes to mind, restarts in between, and looks at everything
// after each step.
func TestRandomRequestsAgreeWithASimpleModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			agree(t, rand.New(rand.NewPCG(seed, 1)), 80)
		})
	}
}

func agree(t *testing.T, r *rand.Rand, steps int) {
	b, m := newBIOS(t, testRegistry()), newModel()
	for range steps {
		was := fmt.Sprint(m)
		version := b.version()
		did, saves := "", false
		switch n := r.IntN(20); {
		case n < 11:
			request, onReset := map[string]string{}, r.IntN(3) == 0
			for range 1 + r.IntN(3) {
				name := offered[r.IntN(len(offered))]
				o := offers[name]
				request[name] = o.good[r.IntN(len(o.good))]
				if r.IntN(12) == 0 {
					request[name] = o.bad
				}
			}
			did = fmt.Sprint("set ", request, onReset)
			if err, allowed := b.setAll(r, request, onReset), m.set(request, onReset); (err == nil) != allowed {
				t.Fatalf("after %s: %s: allowed is %t in the model, and it is %v", was, did, allowed, err)
			}
		case n < 13:
			did = "discard all"
			got, err := b.discard()
			must(t, err)
			equal(t, "number of values discarded", len(got), len(m.waits))
			m.waits = map[string]string{}
		case n < 14:
			name := offered[r.IntN(len(offered))]
			did = "discard " + name
			_, err := b.discard(name)
			rest := maps.Clone(m.waits)
			delete(rest, name)
			_, waits := m.waits[name]
			if after := (&model{current: m.current, waits: rest}).next(); !waits || len(rest) > 0 && !whole(after) && (name == "BootOrder" || name == "BootMode" && whole(m.next())) {
				if err == nil {
					t.Fatalf("after %s: %s was to be refused", was, did)
				}
				break
			}
			must(t, err)
			m.waits = rest
		case n < 15:
			did = "factory defaults"
			_, err := b.resetTo(generated.DefaultSetFactory)
			must(t, err)
			for name, o := range offers {
				m.put(name, o.good[0], false)
			}
		case n < 16:
			did = "saved defaults"
			if _, err := b.resetTo(generated.DefaultSetSaved); (err == nil) != (m.saved != nil) {
				t.Fatalf("after %s: %s: %v", was, did, err)
			}
			for name, v := range m.saved {
				m.put(name, v, false)
			}
		case n < 17:
			did, saves = "save", m.saved == nil || !maps.Equal(m.saved, m.current)
			b.saveDefaults()
			m.saved = maps.Clone(m.current)
		case n < 19:
			did = "start"
			b.start()
			maps.Copy(m.current, m.waits)
			m.waits = map[string]string{}
		default:
			did = "reopen"
			b.reopen(testRegistry())
		}
		for _, name := range offered {
			want := m.current[name]
			if v, ok := m.waits[name]; ok {
				want += "→" + v
			}
			if got := b.state(name); got != want {
				t.Fatalf("after %s: %s: %s is %s in the model, and it is %s", was, did, name, want, got)
			}
		}
		if changed := saves || did != "save" && fmt.Sprint(m) != was; changed != (b.version() != version) {
			t.Fatalf("after %s: %s: changed is %t, and the version went from %d to %d", was, did, changed, version, b.version())
		}
	}
}

// setAll asks for values in any order.
func (b *bios) setAll(r *rand.Rand, request map[string]string, onReset bool) error {
	var list []*generated.AttributeValue
	for name, v := range request {
		a := value(name, v)
		if name == "BootOrder" {
			a.NewValue = split(v)
		}
		list = append(list, a)
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	set := &generated.SetAttributesRequest{Attribute: list}
	if onReset {
		set.ApplyTime = new(generated.ApplyTimeOnReset)
	}
	_, err := b.request(set)
	return err
}

// FuzzValues gives any value to an attribute of each kind: it is refused, or kept so that it can be given again.
func FuzzValues(f *testing.F) {
	f.Add("true", "")
	f.Add("-9223372036854775808", "disk")
	f.Add("日本", "\x00")
	b := newBIOS(f, testRegistry())
	f.Fuzz(func(t *testing.T, first, second string) {
		b.t = t
		for _, d := range testRegistry().Definition {
			for _, v := range [][]string{{first}, {first, second}} {
				if *d.AttributeKind == generated.AttributeKindPassword || b.try(value(d.Name, v...)) != nil {
					continue
				}
				reply, err := b.GetAttributes(t.Context(), b.call(), &generated.GetAttributesRequest{Name: []string{d.Name}})
				must(t, err)
				now := reply.Attribute[0].CurrentValue
				if reply.Attribute[0].Pending {
					now = reply.Attribute[0].PendingValue
				}
				version := b.version()
				must(t, b.try(value(d.Name, now...)))
				if !reply.Attribute[0].Pending && b.version() != version {
					t.Fatalf("%s took %q, keeps %q, and takes that for another value", d.Name, v, now)
				}
			}
		}
	})
}

func split(v string) []string { return strings.Split(v, ",") }
