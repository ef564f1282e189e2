package attribute_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"biosv/fault"
	"biosv/generated"
	"biosv/security"
	"biosv/security/audit"
	"biosv/smm"
	"biosv/smm/attribute"
	"biosv/smm/eventlog"
	"biosv/store"
)

const domain = "vm"

// machine is a machine that has a registry and takes settings.
type machine struct {
	smm.Machine // what these tests do not use
	registry    generated.GetAttributeRegistryReply
	supervisor  smm.Supervisor
	opened      smm.Settings

	mu         sync.Mutex
	configured []smm.Settings
	configure  func() error // runs at each Configure; nil is fine
}

func (m *machine) Registry() generated.GetAttributeRegistryReply { return m.registry }
func (m *machine) Close() error                                  { return nil }

func (m *machine) Configure(_ context.Context, s smm.Settings) error {
	m.mu.Lock()
	hook := m.configure
	m.mu.Unlock()
	if hook != nil {
		if err := hook(); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.configured = append(m.configured, s)
	return nil
}

func (m *machine) onConfigure(hook func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.configure = hook
}

func (m *machine) last(t *testing.T) smm.Settings {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.configured) == 0 {
		t.Fatal("the machine was given no settings")
	}
	return m.configured[len(m.configured)-1]
}

// bios is a service with one domain, over a state that outlives it.
type bios struct {
	*attribute.Function
	t       testing.TB
	path    string
	log     *bytes.Buffer
	store   *store.Store
	bios    *smm.BIOS
	machine *machine
	events  *eventlog.Function
	close   func()

	mu    sync.Mutex
	now   time.Time
	begun func() // runs in each transaction; nil is fine
}

func newBIOS(t testing.TB, registry generated.GetAttributeRegistryReply) *bios {
	t.Helper()
	b := &bios{t: t, path: filepath.Join(t.TempDir(), "state.db"), log: &bytes.Buffer{}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.open(registry)
	t.Cleanup(func() { b.close() })
	return b
}

func (b *bios) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// transaction is the clock as the transactions read it, each once.
func (b *bios) transaction() time.Time {
	b.mu.Lock()
	begun := b.begun
	b.mu.Unlock()
	if begun != nil {
		begun()
	}
	return b.clock()
}

// onTransaction runs a function when the nth transaction from now has begun, in it.
func (b *bios) onTransaction(n int, fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun = func() {
		b.mu.Lock()
		n--
		run := n == 0
		b.mu.Unlock()
		if run {
			fn()
		}
	}
}

func (b *bios) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *bios) open(registry generated.GetAttributeRegistryReply) {
	b.t.Helper()
	s, err := store.Open(b.path, store.Options{NoSync: true})
	must(b.t, err)
	log := slog.New(slog.NewTextHandler(io.MultiWriter(b.log, testWriter{b.t}), nil))
	rows := audit.New(b.clock)
	refusals := audit.NewRefusals(rows, s, log)
	b.store, b.machine = s, &machine{registry: registry}
	b.bios = smm.New(smm.Config{
		Store: s, Ledger: eventlog.NewLedger(rows, refusals), Log: log, Clock: b.transaction,
		Machines: map[generated.DomainKind]smm.Opener{
			generated.DomainKindPrivileged: func(context.Context, smm.Domain, smm.Settings, smm.Supervisor) (smm.Machine, error) {
				return &machine{}, nil
			},
			generated.DomainKindSimulated: func(_ context.Context, _ smm.Domain, settings smm.Settings, s smm.Supervisor) (smm.Machine, error) {
				if registry.RegistryId == "" {
					return nil, errors.New("this machine does not open")
				}
				b.machine.opened, b.machine.supervisor = settings, s
				return b.machine, nil
			},
		},
	})
	b.Function, b.events = attribute.New(b.bios), eventlog.New(b.bios, rows)
	must(b.t, b.bios.EnsurePrivileged(b.t.Context(), uuid.NewString()))
	host := b.bios.LocalCall(smm.PrivilegedDomain)
	err = b.bios.Change(b.t.Context(), host, generated.OpCreateDomain, func(tx *smm.Tx) error {
		return tx.AddDomain(smm.Domain{Name: domain, Kind: generated.DomainKindSimulated, UUID: uuid.NewString()})
	})
	var exists *generated.ConflictFault
	if err != nil && !errors.As(err, &exists) {
		b.t.Fatal(err)
	}
	must(b.t, b.bios.Start(b.t.Context()))
	b.close = func() {
		must(b.t, b.bios.Close())
		refusals.Close()
		must(b.t, s.Close())
	}
}

// reopen is a restart of the service, with the machine's registry as it is then.
func (b *bios) reopen(registry generated.GetAttributeRegistryReply) {
	b.t.Helper()
	b.close()
	b.open(registry)
}

func (b *bios) call() generated.Call {
	return generated.Call{ID: uuid.NewString(), Principal: security.Local(), Door: security.DoorSOAP, Domain: domain}
}

// start is what a machine does before it starts.
func (b *bios) start() smm.Settings {
	b.t.Helper()
	settings, err := b.machine.supervisor.Starting(b.t.Context())
	must(b.t, err)
	return settings
}

type testWriter struct{ testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// value is an attribute with a value asked for.
func value(name string, v ...string) *generated.AttributeValue {
	return &generated.AttributeValue{Name: name, NewValue: v}
}

func (b *bios) request(r *generated.SetAttributesRequest) (*generated.SetAttributesReply, error) {
	return b.SetAttributes(b.t.Context(), b.call(), r)
}

func (b *bios) try(list ...*generated.AttributeValue) error {
	_, err := b.request(&generated.SetAttributesRequest{Attribute: list})
	return err
}

func (b *bios) set(list ...*generated.AttributeValue) {
	b.t.Helper()
	must(b.t, b.try(list...))
}

func (b *bios) setOnReset(list ...*generated.AttributeValue) {
	b.t.Helper()
	_, err := b.request(&generated.SetAttributesRequest{Attribute: list, ApplyTime: new(generated.ApplyTimeOnReset)})
	must(b.t, err)
}

// state is an attribute as text: its value, and one that waits after an arrow.
func (b *bios) state(name string) string {
	b.t.Helper()
	reply, err := b.GetAttributes(b.t.Context(), b.call(), &generated.GetAttributesRequest{Name: []string{name}})
	must(b.t, err)
	return told(reply.Attribute[0])
}

func told(a *generated.AttributeState) string {
	text := strings.Join(a.CurrentValue, ",")
	if a.Pending {
		text += "→" + strings.Join(a.PendingValue, ",")
	}
	return text
}

// all is every attribute that is shown, as text.
func (b *bios) all() map[string]string {
	b.t.Helper()
	reply, err := b.GetAttributes(b.t.Context(), b.call(), &generated.GetAttributesRequest{})
	must(b.t, err)
	m := map[string]string{}
	for _, a := range reply.Attribute {
		m[a.Name] = told(a)
	}
	return m
}

func (b *bios) version() generated.StateVersion {
	b.t.Helper()
	reply, err := b.GetPendingAttributes(b.t.Context(), b.call(), &generated.GetPendingAttributesRequest{})
	must(b.t, err)
	return *reply.Version
}

// told gives the domain's event log as lines.
func (b *bios) eventLines() (lines []string) {
	b.t.Helper()
	reply, err := b.events.GetEventLog(b.t.Context(), b.call(), &generated.GetEventLogRequest{})
	must(b.t, err)
	for _, r := range reply.Record {
		line := strings.TrimPrefix(r.MessageId, "BiosV.1.0.")
		for _, c := range r.Change {
			line += " " + c.Name + ":" + c.OldValue + ">" + c.NewValue
		}
		lines = append(lines, line)
	}
	return lines
}

// auditLines gives operations with their outcomes.
func (b *bios) auditLines() (lines []string) {
	b.t.Helper()
	host := b.bios.LocalCall(smm.PrivilegedDomain)
	reply, err := b.events.GetAuditLog(b.t.Context(), host, &generated.GetAuditLogRequest{MostRecords: new(generated.RecordLimit(1000))})
	must(b.t, err)
	for _, r := range reply.Record {
		lines = append(lines, r.Operation+" "+string(*r.AuditOutcome))
	}
	return lines
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// code gives the code of a fault.
func code(err error) fault.Code {
	var f generated.Fault
	if !errors.As(err, &f) {
		return ""
	}
	switch f := f.(type) {
	case *generated.InvalidAttributeFault:
		return fault.Code(f.Code)
	case *generated.NotFoundFault:
		return fault.Code(f.Code)
	case *generated.ConflictFault:
		return fault.Code(f.Code)
	case *generated.AccessDeniedFault:
		return fault.Code(f.Code)
	case *generated.LockedFault:
		return fault.Code(f.Code)
	case *generated.UnavailableFault:
		return fault.Code(f.Code)
	}
	return fault.Code(f.Info().Name)
}

func wantCode(t testing.TB, what string, err error, want fault.Code) {
	t.Helper()
	if got := code(err); got != want {
		t.Errorf("%s: %q was to be expected, and it is %q (%v)", what, want, got, err)
	}
}

// refusals gives what is refused, and why.
func refusals(t testing.TB, err error) (list []string) {
	t.Helper()
	var f *generated.InvalidAttributeFault
	if !errors.As(err, &f) {
		t.Fatalf("attributes were to be refused, and it is %v", err)
	}
	for _, r := range f.Refusal {
		if r.MessageId == "" || r.Message == "" {
			t.Errorf("the refusal of %s says too little: %+v", r.Name, r)
		}
		list = append(list, r.Name+" "+r.Code)
	}
	return list
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s is not as expected (-want +got):\n%s", what, d)
	}
}

// holds says whether the state of the store or what was logged has a text in it.
func (b *bios) holds(text string) bool {
	b.t.Helper()
	raw, err := os.ReadFile(b.path)
	must(b.t, err)
	return bytes.Contains(raw, []byte(text)) || bytes.Contains(b.log.Bytes(), []byte(text))
}

// definition makes a definition; more sets what else it has.
func definition(name string, kind generated.AttributeKind, first []string, more ...func(*generated.AttributeDefinition)) *generated.AttributeDefinition {
	d := &generated.AttributeDefinition{Name: name, MenuGroup: "Test", DisplayName: name, HelpText: name, AttributeKind: &kind, DefaultValue: first}
	for _, m := range more {
		m(d)
	}
	return d
}

func reset(d *generated.AttributeDefinition)     { d.ResetRequired = true }
func readOnly(d *generated.AttributeDefinition)  { d.ReadOnly = true }
func immutable(d *generated.AttributeDefinition) { d.Immutable = true }
func hidden(d *generated.AttributeDefinition)    { d.Hidden = true }

func choice(values ...string) func(*generated.AttributeDefinition) {
	return func(d *generated.AttributeDefinition) {
		for _, v := range values {
			d.PossibleValue = append(d.PossibleValue, &generated.PossibleValue{ValueName: v, ValueDisplayName: v})
		}
	}
}

func within(lower, upper int64) func(*generated.AttributeDefinition) {
	return func(d *generated.AttributeDefinition) {
		d.LowerBound, d.UpperBound = new(generated.IntegerBound(lower)), new(generated.IntegerBound(upper))
	}
}

func stepping(n int64) func(*generated.AttributeDefinition) {
	return func(d *generated.AttributeDefinition) { d.ScalarIncrement = new(generated.IntegerBound(n)) }
}

func long(least, most uint32) func(*generated.AttributeDefinition) {
	return func(d *generated.AttributeDefinition) {
		d.MinLength, d.MaxLength = new(generated.LengthBound(least)), new(generated.LengthBound(most))
	}
}

func expression(e string) func(*generated.AttributeDefinition) {
	return func(d *generated.AttributeDefinition) { d.ValueExpression = e }
}

func depends(to, from, value string, effect generated.DependencyEffect, limited ...string) *generated.AttributeDependency {
	return &generated.AttributeDependency{MapFromAttribute: from, MapFromValue: value, MapToAttribute: to, DependencyEffect: &effect, LimitedValue: limited}
}

// testRegistry has attributes of every kind.
func testRegistry() generated.GetAttributeRegistryReply {
	return generated.GetAttributeRegistryReply{
		RegistryId: "Test.v1_0_0",
		Definition: []*generated.AttributeDefinition{
			definition("AssetTag", generated.AttributeKindString, []string{""}, long(0, 10)),
			definition("Location", generated.AttributeKindString, []string{"hall"}, long(2, 6), expression("[a-z]+|日本")),
			definition("Notes", generated.AttributeKindString, []string{""}),
			definition("FanPercent", generated.AttributeKindInteger, []string{"40"}, within(20, 100), stepping(5)),
			definition("Offset", generated.AttributeKindInteger, []string{"0"}, within(-9223372036854775808, 9223372036854775807), stepping(10)),
			definition("Delay", generated.AttributeKindInteger, []string{"0"}, within(0, 60), reset),
			definition("Bias", generated.AttributeKindInteger, nil, stepping(3)),
			definition("Quiet", generated.AttributeKindBoolean, []string{"false"}),
			definition("Tpm", generated.AttributeKindBoolean, []string{"true"}, reset),
			definition("ThermalPolicy", generated.AttributeKindEnumeration, []string{"Balanced"}, choice("Quiet", "Balanced", "Custom")),
			definition("BootMode", generated.AttributeKindEnumeration, []string{"Uefi"}, choice("Uefi", "Legacy", "Http"), reset),
			definition("BootOrder", generated.AttributeKindOrderedList, []string{"disk", "net"}, choice("disk", "net", "usb"), reset),
			definition("Alerts", generated.AttributeKindOrderedList, nil, choice("mail", "snmp", "syslog")),
			definition("Serial", generated.AttributeKindString, []string{"S-1"}, readOnly),
			definition("Uuid", generated.AttributeKindString, []string{"u-1"}, immutable),
			definition("Load", generated.AttributeKindEnumeration, []string{"Idle"}, choice("Idle", "Full"), hidden),
			definition(attribute.AdministratorSecret, generated.AttributeKindPassword, nil, long(4, 20)),
			definition("StartSecret", generated.AttributeKindPassword, nil, reset),
		},
		Dependency: []*generated.AttributeDependency{
			depends("FanPercent", "ThermalPolicy", "Balanced", generated.DependencyEffectReadOnly),
			depends("FanPercent", "ThermalPolicy", "Quiet", generated.DependencyEffectReadOnly),
			depends("Delay", "BootMode", "Http", generated.DependencyEffectHidden),
			depends("BootOrder", "BootMode", "Legacy", generated.DependencyEffectLimited, "disk", "usb"),
			depends("Alerts", "Quiet", "1", generated.DependencyEffectLimited, "syslog"),
			depends("StartSecret", "Tpm", "false", generated.DependencyEffectReadOnly),
			depends("Notes", "Alerts", "mail", generated.DependencyEffectReadOnly),
		},
	}
}

func TestNamesWithoutADomainOrAMachineAreRefused(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	call := b.call()
	call.Domain = "nowhere"
	_, err := b.GetAttributes(t.Context(), call, &generated.GetAttributesRequest{})
	wantCode(t, "a domain that is not there", err, fault.UnknownDomain)

	call.Domain = smm.PrivilegedDomain
	reply, err := b.GetAttributes(t.Context(), call, &generated.GetAttributesRequest{})
	must(t, err)
	equal(t, "attributes of a machine without a registry", len(reply.Attribute), 0)
	_, err = b.SetAttributes(t.Context(), call, &generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{value("AssetTag", "x")}})
	equal(t, "refusals", refusals(t, err), []string{"AssetTag UnknownAttribute"})

	b.set(value("AssetTag", "kept"))
	b.setOnReset(value("Quiet", "true"))
	b.reopen(generated.GetAttributeRegistryReply{}) // which makes the machine not open
	for what, call := range map[string]func() error{
		"GetAttributes": func() error {
			_, err := b.GetAttributes(t.Context(), b.call(), &generated.GetAttributesRequest{})
			return err
		},
		"GetAttributeRegistry": func() error {
			_, err := b.GetAttributeRegistry(t.Context(), b.call(), &generated.GetAttributeRegistryRequest{})
			return err
		},
		"SetAttributes": func() error { return b.try(value("AssetTag", "x")) },
	} {
		wantCode(t, what+" of a machine that does not open", call(), fault.MachineUnavailable)
	}
	must(t, b.bios.Change(t.Context(), b.call(), generated.OpSetAttributes, func(tx *smm.Tx) error {
		settings, err := b.Apply(tx)
		equal(t, "settings without a registry", settings, smm.Settings{"AssetTag": {"kept"}})
		return err
	}))
	b.reopen(testRegistry())
	equal(t, "AssetTag", b.state("AssetTag"), "kept")
	equal(t, "Quiet, which waits on", b.state("Quiet"), "false→true")
}

func TestGetAttributesGivesWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	get := func(names ...string) ([]string, error) {
		reply, err := b.GetAttributes(t.Context(), b.call(), &generated.GetAttributesRequest{Name: names})
		if err != nil {
			return nil, err
		}
		got := []string{}
		for _, a := range reply.Attribute {
			got = append(got, a.Name+"="+told(a))
		}
		return got, nil
	}
	got, err := get()
	must(t, err)
	want := []string{
		"AssetTag=", "Location=hall", "Notes=", "FanPercent=40", "Offset=0", "Delay=0", "Bias=", "Quiet=false", "Tpm=true", "ThermalPolicy=Balanced",
		"BootMode=Uefi", "BootOrder=disk,net", "Alerts=", "Serial=S-1", "Uuid=u-1", "AdministratorSecret=", "StartSecret=",
	}
	equal(t, "a fresh domain's attributes", got, want)

	got, err = get("Load", "BootMode", "Load")
	must(t, err)
	equal(t, "attributes named", got, []string{"Load=Idle", "BootMode=Uefi", "Load=Idle"})

	b.set(value("BootMode", "Http"))
	got, err = get()
	must(t, err)
	if slices.Contains(got, "Delay=0") {
		t.Error("Delay is shown while BootMode, pending, hides it")
	}
	got, err = get("Delay")
	must(t, err)
	equal(t, "a hidden attribute that is named", got, []string{"Delay=0"})

	_, err = get("BootMode", "bootmode")
	wantCode(t, "a name in another case", err, fault.UnknownAttribute)
	var f *generated.NotFoundFault
	if errors.As(err, &f) {
		equal(t, "the element at fault", f.ElementPath+" "+f.RefusedValue, "/GetAttributes/Name[2] bootmode")
	}
}

func TestAMachineThatIsOpenedAgainBringsItsRegistry(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("AssetTag", "0123456789"))
	must(t, b.bios.Close())
	_, err := b.GetAttributes(t.Context(), b.call(), &generated.GetAttributesRequest{})
	wantCode(t, "attributes of a machine that is closed", err, fault.MachineUnavailable)
	other := testRegistry()
	long(0, 5)(other.Definition[0])
	b.machine = &machine{registry: other}
	must(t, b.bios.OpenMachine(t.Context(), smm.Domain{Name: domain, Kind: generated.DomainKindSimulated}))
	equal(t, "refusals", refusals(t, b.try(value("AssetTag", "012345"))), []string{"AssetTag ValueLength"})
}

func TestTheStateIsWhatTheStoreHas(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("AssetTag", "mine"), value("Location", "attic"))
	settings := b.start()
	settings["Location"][0] = "cellar"
	equal(t, "Location, which nobody changes through settings", b.state("Location"), "attic")
	change := func(fn func(*store.Bucket)) {
		t.Helper()
		must(t, b.bios.Change(t.Context(), b.call(), generated.OpRestoreState, func(tx *smm.Tx) error {
			fn(tx.State("attribute"))
			return nil
		}))
	}
	change(func(s *store.Bucket) { s.Delete([]byte("values")) })
	equal(t, "AssetTag after the values were taken away", b.state("AssetTag"), "")
	change(func(s *store.Bucket) { s.Put([]byte("values"), []byte("{")) })
	_, err := b.GetAttributes(t.Context(), b.call(), &generated.GetAttributesRequest{})
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("that the state is damaged was to be expected, and it is %v", err)
	}
	if err := b.try(value("AssetTag", "mine")); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("that the state is damaged was to be expected, and it is %v", err)
	}
}

func TestAFactIsToldAsItIsAtTheTime(t *testing.T) {
	t.Parallel()
	registry := testRegistry()
	kind := generated.AttributeKindBoolean
	registry.Definition = append(registry.Definition, &generated.AttributeDefinition{Name: "SecureBoot", AttributeKind: &kind, DefaultValue: []string{"false"}, ReadOnly: true})
	b := newBIOS(t, registry)
	equal(t, "SecureBoot before anybody tells", b.state("SecureBoot"), "false")
	fact, refuse := "true", error(nil)
	b.Tell("SecureBoot", func(tx *smm.Tx) (string, error) {
		equal(t, "the domain that is asked for", tx.Domain.Name, domain)
		return fact, refuse
	})
	equal(t, "SecureBoot", b.state("SecureBoot"), "true")
	equal(t, "SecureBoot among all", b.all()["SecureBoot"], "true")
	fact = "false" // nothing of the state has changed
	equal(t, "SecureBoot among all, later", b.all()["SecureBoot"], "false")
	if err := b.try(value("SecureBoot", "true")); err == nil {
		t.Error("a fact was written")
	}
	refuse = errors.New("it cannot be read")
	if _, err := b.GetAttributes(t.Context(), b.call(), &generated.GetAttributesRequest{}); !errors.Is(err, refuse) {
		t.Errorf("a fact that cannot be read: %v", err)
	}
}

func TestTheRegistryIsTheMachines(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	reply, err := b.GetAttributeRegistry(t.Context(), b.call(), &generated.GetAttributeRegistryRequest{})
	must(t, err)
	equal(t, "the registry", *reply, testRegistry())
}

func TestARegistryThatContradictsItselfStopsRequestsAndNotTheMachine(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*generated.GetAttributeRegistryReply){
		"a name twice": func(r *generated.GetAttributeRegistryReply) { r.Definition = append(r.Definition, r.Definition[0]) },
		"no kind":      func(r *generated.GetAttributeRegistryReply) { r.Definition[0].AttributeKind = nil },
		"an expression that is none": func(r *generated.GetAttributeRegistryReply) {
			r.Definition[0].ValueExpression = "("
		},
		"a dependency on nothing": func(r *generated.GetAttributeRegistryReply) {
			r.Dependency = append(r.Dependency, depends("AssetTag", "Nothing", "x", generated.DependencyEffectReadOnly))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBIOS(t, testRegistry())
			b.set(value("Quiet", "true"))
			broken := testRegistry()
			change(&broken)
			b.reopen(broken)
			_, err := b.GetAttributes(t.Context(), b.call(), &generated.GetAttributesRequest{})
			if err == nil || code(err) != "" {
				t.Errorf("an error that is no fault was to be expected, for the log, and it is %v", err)
			}
			equal(t, "settings of a start", b.start(), smm.Settings{"Quiet": {"true"}})
		})
	}
}
