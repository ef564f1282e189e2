package sim

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// Every start that waits has an owner: none is left when the tests are over.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// setClock stands still until a test lets time pass.
type setClock struct {
	mu    sync.Mutex
	at    time.Time
	waits map[chan time.Time]time.Time
}

func newClock() *setClock { return &setClock{at: noon, waits: map[chan time.Time]time.Time{}} }

func (c *setClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *setClock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := make(chan time.Time, 1)
	c.waits[due] = c.at.Add(d)
	return due
}

func (c *setClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	for due, at := range c.waits {
		if !c.at.Before(at) {
			due <- c.at
			delete(c.waits, due)
		}
	}
}

// supervised is a supervisor that a test looks at afterwards.
type supervised struct {
	mu       sync.Mutex
	settings smm.Settings
	refusal  error // of Starting
	unheard  error // of Report
	starts   int
	events   []smm.Event
	during   func(context.Context) // while Starting is under way
}

func (s *supervised) Starting(ctx context.Context) (smm.Settings, error) {
	if s.during != nil {
		s.during(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal != nil {
		return nil, s.refusal
	}
	s.starts++
	return s.settings, ctx.Err()
}

func (s *supervised) Diverge(context.Context, string) error { return nil }

func (s *supervised) Enter(context.Context, generated.GuestPhase, smm.Event) error {
	panic("a simulated machine has no guest")
}

func (s *supervised) Report(_ context.Context, e smm.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unheard != nil {
		return s.unheard
	}
	s.events = append(s.events, e)
	return nil
}

func (s *supervised) messages() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		ids = append(ids, e.MessageID)
	}
	return ids
}

func (s *supervised) started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

var demo = smm.Domain{Name: "demo", Kind: generated.DomainKindSimulated, UUID: "0b8f9e0c-6c1d-4b5e-9d6a-2f1f3f0f7a11", Seed: 0x2a17c0de}

func opened(t *testing.T, settings smm.Settings) (*Machine, *setClock, *supervised) {
	t.Helper()
	c, s := newClock(), &supervised{settings: settings}
	m := open(demo, settings, s, c)
	t.Cleanup(func() { closed(t, m) })
	return m, c, s
}

func closed(t *testing.T, m smm.Machine) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// running is a machine whose operating system has run for a minute.
func running(t *testing.T, settings smm.Settings) (*Machine, *setClock, *supervised) {
	t.Helper()
	m, c, s := opened(t, settings)
	reset(t, m, generated.ResetTypeOn)
	c.pass(time.Minute)
	want(t, m, generated.PowerStateOn)
	return m, c, s
}

func reset(t *testing.T, m smm.Machine, how generated.ResetType) {
	t.Helper()
	if err := m.Reset(t.Context(), how); err != nil {
		t.Fatalf("%s: %v", how, err)
	}
}

func want(t *testing.T, m smm.Machine, state generated.PowerState) {
	t.Helper()
	got, err := m.Power(t.Context())
	if err != nil || got != state {
		t.Fatalf("the power is %s (%v), want %s", got, err, state)
	}
}

func TestEachResetLeadsThroughItsStates(t *testing.T) {
	t.Parallel()
	const off, on, goingOn, goingOff = generated.PowerStateOff, generated.PowerStateOn, generated.PowerStatePoweringOn, generated.PowerStatePoweringOff
	type step struct {
		after time.Duration // since the reset
		state generated.PowerState
	}
	const ms = time.Millisecond
	for _, row := range []struct {
		from   generated.PowerState
		how    generated.ResetType
		starts int // that it causes
		steps  []step
	}{
		{off, generated.ResetTypeOn, 1, []step{{0, goingOn}, {299 * ms, goingOn}, {300 * ms, on}}},
		{off, generated.ResetTypeForceOff, 0, []step{{0, off}}},
		{off, generated.ResetTypePushPowerButton, 1, []step{{0, goingOn}, {300 * ms, on}}},
		{on, generated.ResetTypeForceOff, 0, []step{{0, goingOff}, {299 * ms, goingOff}, {300 * ms, off}}},
		{on, generated.ResetTypeGracefulShutdown, 0, []step{{0, goingOff}, {499 * ms, goingOff}, {500 * ms, off}}},
		{on, generated.ResetTypePushPowerButton, 0, []step{{0, goingOff}, {500 * ms, off}}},
		{on, generated.ResetTypeForceRestart, 1, []step{{0, goingOn}, {300 * ms, on}}},
		{on, generated.ResetTypeGracefulRestart, 1, []step{{0, goingOff}, {499 * ms, goingOff}, {500 * ms, goingOn}, {800 * ms, on}}},
		{on, generated.ResetTypePowerCycle, 1, []step{{0, goingOff}, {300 * ms, off}, {499 * ms, off}, {500 * ms, goingOn}, {800 * ms, on}}},
		{on, generated.ResetTypeNmi, 0, []step{{0, on}}},
		{goingOn, generated.ResetTypeForceOff, 0, []step{{0, goingOff}, {300 * ms, off}}},
		{goingOff, generated.ResetTypeForceOff, 0, []step{{0, goingOff}, {300 * ms, off}}},
	} {
		t.Run(string(row.how)+" from "+string(row.from), func(t *testing.T) {
			t.Parallel()
			m, c, s := opened(t, nil)
			if row.from != off {
				reset(t, m, generated.ResetTypeOn)
			}
			if row.from == on || row.from == goingOff {
				c.pass(time.Minute)
			}
			if row.from == goingOff {
				reset(t, m, generated.ResetTypeGracefulShutdown)
			}
			want(t, m, row.from)
			before := s.started()
			reset(t, m, row.how)
			passed := time.Duration(0)
			for _, st := range row.steps {
				c.pass(st.after - passed)
				passed = st.after
				if st.state == goingOn && st.after > 0 {
					m.starts.Wait() // its time has come
				}
				want(t, m, st.state)
			}
			c.pass(time.Hour)
			want(t, m, row.steps[len(row.steps)-1].state)
			if got := s.started() - before; got != row.starts {
				t.Errorf("%d starts, want %d", got, row.starts)
			}
		})
	}
}

func TestAResetThatCannotBeDoneIsAConflict(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		from generated.PowerState
		how  []generated.ResetType
	}{
		{generated.PowerStateOff, []generated.ResetType{
			generated.ResetTypeGracefulShutdown, generated.ResetTypeGracefulRestart, generated.ResetTypeForceRestart, generated.ResetTypePowerCycle, generated.ResetTypeNmi,
		}},
		{generated.PowerStateOn, []generated.ResetType{generated.ResetTypeOn, "NoSuchReset"}},
	} {
		m, _, s := opened(t, nil)
		if row.from == generated.PowerStateOn {
			m, _, s = running(t, nil)
		}
		starts := s.started()
		for _, how := range row.how {
			var conflict *generated.ConflictFault
			if err := m.Reset(t.Context(), how); !errors.As(err, &conflict) || conflict.Code != string(fault.WrongPowerState) {
				t.Errorf("%s while %s: %v", how, row.from, err)
			}
			want(t, m, row.from)
		}
		if s.started() != starts {
			t.Errorf("a refused reset started a machine that was %s", row.from)
		}
	}
}

func TestAResetTheMachineCanDoIsOneOfItsResets(t *testing.T) {
	t.Parallel()
	m, _, _ := opened(t, nil)
	if got := m.Resets(); len(got) != 8 || len(slices.Compact(slices.Sorted(slices.Values(got)))) != 8 {
		t.Errorf("got %v, want the eight of the contract", got)
	}
}

func TestAStartThatCannotBeWrittenDoesNotHappen(t *testing.T) {
	t.Parallel()
	full := fault.Unavailable(fault.StorageFull, time.Minute, "The disk is full.")

	t.Run("from off", func(t *testing.T) {
		t.Parallel()
		m, c, s := opened(t, nil)
		s.refusal = full
		if err := m.Reset(t.Context(), generated.ResetTypeOn); !errors.Is(err, error(full)) {
			t.Errorf("got %v", err)
		}
		c.pass(time.Second)
		want(t, m, generated.PowerStateOff)
		s.refusal = nil
		reset(t, m, generated.ResetTypeOn)
		want(t, m, generated.PowerStatePoweringOn)
	})
	t.Run("the boot report", func(t *testing.T) {
		t.Parallel()
		m, c, s := opened(t, nil)
		s.unheard = full
		if err := m.Reset(t.Context(), generated.ResetTypeOn); !errors.Is(err, error(full)) {
			t.Errorf("got %v", err)
		}
		c.pass(time.Second)
		want(t, m, generated.PowerStateOff)
	})
	t.Run("a forced restart", func(t *testing.T) {
		t.Parallel()
		m, c, s := running(t, nil)
		s.refusal, s.settings = full, smm.Settings{"MemoryMode": {"Mirrored"}}
		if err := m.Reset(t.Context(), generated.ResetTypeForceRestart); !errors.Is(err, error(full)) {
			t.Errorf("got %v", err)
		}
		c.pass(time.Second)
		want(t, m, generated.PowerStateOn)
		if usableMemory(m.now().setup) != memoryMiB-reservedMiB {
			t.Error("the settings of a start that did not happen are in force")
		}
	})
	for _, how := range []generated.ResetType{generated.ResetTypeGracefulRestart, generated.ResetTypePowerCycle} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			m, c, s := running(t, nil)
			s.refusal = full
			reset(t, m, how)
			c.pass(time.Second)
			m.starts.Wait()
			want(t, m, generated.PowerStateOff)
			last := s.events[len(s.events)-1]
			if last.MessageID != "BiosV.1.0.StartFailed" || last.Severity != generated.EventSeverityCritical {
				t.Errorf("the last event is %v", last)
			}
			s.refusal = nil
			reset(t, m, generated.ResetTypeOn)
			c.pass(time.Second)
			want(t, m, generated.PowerStateOn)
		})
	}
}

func TestForceOffGivesUpARestart(t *testing.T) {
	t.Parallel()
	m, c, s := running(t, nil)
	reset(t, m, generated.ResetTypeGracefulRestart)
	reset(t, m, generated.ResetTypeForceOff)
	m.starts.Wait()
	c.pass(time.Hour)
	want(t, m, generated.PowerStateOff)
	if s.started() != 1 {
		t.Errorf("%d starts, want the first alone", s.started())
	}
}

// Its power stays on: nobody sees it off, however long the start takes to be written.
func TestAGracefulRestartIsNeverOff(t *testing.T) {
	t.Parallel()
	m, c, s := running(t, nil)
	s.during = func(context.Context) {
		if state, _ := m.Power(context.Background()); state != generated.PowerStatePoweringOff {
			t.Errorf("before it starts again, the power is %s", state)
		}
	}
	reset(t, m, generated.ResetTypeGracefulRestart)
	c.pass(time.Hour)
	m.starts.Wait()
	want(t, m, generated.PowerStatePoweringOn)
}

func TestOnInThePauseOfAPowerCycleStartsOnce(t *testing.T) {
	t.Parallel()
	m, c, s := running(t, nil)
	reset(t, m, generated.ResetTypePowerCycle)
	c.pass(cutTime)
	want(t, m, generated.PowerStateOff)
	reset(t, m, generated.ResetTypeOn)
	m.starts.Wait()
	c.pass(time.Hour)
	want(t, m, generated.PowerStateOn)
	if s.started() != 2 {
		t.Errorf("%d starts, want the first and that of On", s.started())
	}
}

func TestNmiIsReported(t *testing.T) {
	t.Parallel()
	m, _, s := running(t, nil)
	reset(t, m, generated.ResetTypeNmi)
	if ids := s.messages(); !slices.Contains(ids, "BiosV.1.0.NonMaskableInterrupt") {
		t.Errorf("the events are %v", ids)
	}
}

func TestCloseEndsARestartThatWaits(t *testing.T) {
	t.Parallel()
	c, s := newClock(), &supervised{}
	m := open(demo, nil, s, c)
	reset(t, m, generated.ResetTypeOn)
	c.pass(time.Second)
	reset(t, m, generated.ResetTypePowerCycle)
	closed(t, m)
	c.pass(time.Hour)
	want(t, m, generated.PowerStateOff)
	if s.started() != 1 {
		t.Errorf("%d starts, want the first alone", s.started())
	}
	var gone *generated.UnavailableFault
	if err := m.Reset(t.Context(), generated.ResetTypeOn); !errors.As(err, &gone) || gone.Code != string(fault.MachineUnavailable) {
		t.Errorf("a reset after Close: %v", err)
	}
	closed(t, m) // again
}

func TestCloseWaitsForAStartThatIsUnderWay(t *testing.T) {
	t.Parallel()
	c, s := newClock(), &supervised{}
	m := open(demo, nil, s, c)
	reset(t, m, generated.ResetTypeOn)
	c.pass(time.Second)
	entered, left := make(chan struct{}), false
	s.during = func(ctx context.Context) {
		close(entered)
		<-ctx.Done() // which Close brings about
		left = true
	}
	reset(t, m, generated.ResetTypeGracefulRestart)
	c.pass(shutdownTime)
	<-entered
	closed(t, m)
	if !left {
		t.Error("Close came back before the start was over")
	}
	want(t, m, generated.PowerStateOff)
}

func TestStateCanBeReadWhileAStartIsWritten(t *testing.T) {
	t.Parallel()
	m, _, s := opened(t, nil)
	s.during = func(ctx context.Context) {
		want(t, m, generated.PowerStateOff)
		if _, err := m.Inventory(ctx); err != nil {
			t.Error(err)
		}
		if err := m.Configure(ctx, nil); err != nil {
			t.Error(err)
		}
	}
	reset(t, m, generated.ResetTypeOn)
}

func TestMachineIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	m, c, _ := opened(t, nil)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 50 {
				_ = m.Reset(context.Background(), m.Resets()[(n+i)%8]) // many are refused
				_ = m.Configure(context.Background(), smm.Settings{"AssetTag": {"rack"}})
				_, _ = m.Thermal(context.Background())
				_, _ = m.Inventory(context.Background())
				c.pass(50 * time.Millisecond)
			}
		})
	}
	all.Wait()
}

func TestConfigureLeavesToTheNextStartWhatNeedsOne(t *testing.T) {
	t.Parallel()
	m, _, s := running(t, nil)
	wanted := smm.Settings{"AssetTag": {"rack <7> & é"}, "MemoryMode": {"Mirrored"}}
	if err := m.Configure(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	i := inventoryOf(t, m)
	if i.AssetTag != "rack <7> & é" || i.UsableMemoryMiB != memoryMiB-reservedMiB {
		t.Errorf("asset tag %q, usable memory %d MiB", i.AssetTag, i.UsableMemoryMiB)
	}
	s.settings = wanted
	reset(t, m, generated.ResetTypeForceRestart)
	i = inventoryOf(t, m)
	if i.AssetTag != "rack <7> & é" || i.UsableMemoryMiB != memoryMiB/2-reservedMiB {
		t.Errorf("after the start: asset tag %q, usable memory %d MiB", i.AssetTag, i.UsableMemoryMiB)
	}
}

func TestSameSeedSettingsAndTimeShowTheSame(t *testing.T) {
	t.Parallel()
	type shown struct {
		Thermal   *generated.ThermalReading
		Inventory *generated.SystemInventory
	}
	show := func(seed uint32) (all []shown) {
		d := demo
		d.Seed = seed
		c := newClock()
		m := open(d, nil, &supervised{}, c)
		defer closed(t, m)
		reset(t, m, generated.ResetTypeOn)
		for range 20 {
			c.pass(7 * time.Second)
			all = append(all, shown{thermalOf(t, m), inventoryOf(t, m)})
		}
		return all
	}
	if d := cmp.Diff(show(7), show(7), timesEqual); d != "" {
		t.Errorf("two machines of one seed differ:\n%s", d)
	}
	for n, other := range show(8) {
		if one := show(7)[n]; cmp.Equal(one.Thermal, other.Thermal, timesEqual) || cmp.Equal(one.Inventory, other.Inventory) {
			t.Error("two machines of different seeds show the same")
		}
	}
}

// The one clock of [Open] is the computer's; in a bubble of synctest it passes when nothing else happens.
func TestOpenGoesByTheWallClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &supervised{}
		m, err := Open(t.Context(), demo, nil, s)
		if err != nil {
			t.Fatal(err)
		}
		reset(t, m, generated.ResetTypeOn)
		time.Sleep(bootTime)
		want(t, m, generated.PowerStateOn)
		reset(t, m, generated.ResetTypePowerCycle)
		time.Sleep(cutTime)
		want(t, m, generated.PowerStateOff)
		time.Sleep(offTime)
		synctest.Wait()
		want(t, m, generated.PowerStatePoweringOn)
		time.Sleep(bootTime)
		want(t, m, generated.PowerStateOn)
		if r := thermalOf(t, m); !r.TakenAt.ToGoTime().Equal(time.Now()) {
			t.Errorf("taken at %v, and it is %v", r.TakenAt.ToGoTime(), time.Now())
		}
		closed(t, m)
		if s.started() != 2 {
			t.Errorf("%d starts, want 2", s.started())
		}
	})
}
