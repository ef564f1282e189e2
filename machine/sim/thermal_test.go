package sim

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hooklift/gowsdl/soap"

	"biosv/generated"
	"biosv/smm"
)

var timesEqual = cmp.Comparer(func(a, b soap.XSDDateTime) bool { return a.ToGoTime().Equal(b.ToGoTime()) })

func thermalOf(t *testing.T, m smm.Machine) *generated.ThermalReading {
	t.Helper()
	r, err := m.Thermal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sensorOf(t *testing.T, r *generated.ThermalReading, name string) *generated.ThermalSensor {
	t.Helper()
	i := slices.IndexFunc(r.Sensor, func(s *generated.ThermalSensor) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("there is no sensor %s", name)
	}
	return r.Sensor[i]
}

func readingOf(t *testing.T, r *generated.ThermalReading, name string) int {
	t.Helper()
	return int(*sensorOf(t, r, name).Reading)
}

func policy(p generated.ThermalPolicy) smm.Settings {
	return smm.Settings{"ThermalPolicy": {string(p)}}
}

func TestAFasterPolicyCoolsMore(t *testing.T) {
	t.Parallel()
	m, c, _ := running(t, nil)
	for range 200 {
		c.pass(23 * time.Second)
		var last *generated.ThermalReading
		for _, p := range []generated.ThermalPolicy{generated.ThermalPolicyQuiet, generated.ThermalPolicyBalanced, generated.ThermalPolicyPerformance} {
			if err := m.Configure(t.Context(), policy(p)); err != nil {
				t.Fatal(err)
			}
			r := thermalOf(t, m)
			if *r.ThermalPolicy != p {
				t.Fatalf("the policy is %s, want %s", *r.ThermalPolicy, p)
			}
			for i := range r.Fan {
				if last != nil && (r.Fan[i].ReadingRpm <= last.Fan[i].ReadingRpm || *r.Fan[i].ReadingPercent <= *last.Fan[i].ReadingPercent) {
					t.Fatalf("%s: %s turns no faster than under the quieter policy", p, r.Fan[i].Name)
				}
			}
			for _, name := range []string{"CPU1", "CPU2", "Memory of CPU1", "Memory of CPU2"} {
				if last != nil && readingOf(t, r, name) >= readingOf(t, last, name) {
					t.Fatalf("%s: %s is no cooler than under the quieter policy", p, name)
				}
			}
			last = r
		}
	}
}

func TestMoreLoadIsWarmerTakesMorePowerAndMoreAir(t *testing.T) {
	t.Parallel()
	m, _, _ := running(t, nil)
	var last *generated.ThermalReading
	for percent, load := range []string{"Idle", "Half", "Full"} {
		if err := m.Configure(t.Context(), smm.Settings{"SimulatedLoad": {load}}); err != nil {
			t.Fatal(err)
		}
		r := thermalOf(t, m)
		for _, name := range []string{"CPU1 Load", "CPU2 Load"} {
			if got := readingOf(t, r, name); got != 50*percent {
				t.Errorf("%s: %s is %d %%", load, name, got)
			}
		}
		if last != nil {
			for _, name := range []string{"CPU1", "CPU2", "Memory of CPU1", "System Power"} {
				if readingOf(t, r, name) <= readingOf(t, last, name) {
					t.Errorf("%s: %s does not rise", load, name)
				}
			}
			if readingOf(t, r, "12 V Supply") >= readingOf(t, last, "12 V Supply") {
				t.Errorf("%s: the supply of 12 volts does not give way", load)
			}
			if r.Fan[0].ReadingRpm <= last.Fan[0].ReadingRpm {
				t.Errorf("%s: the fans turn no faster", load)
			}
		}
		last = r
	}
}

func TestWithoutPowerNothingTurnsAndEverythingIsAsTheAir(t *testing.T) {
	t.Parallel()
	m, c, _ := running(t, nil)
	reset(t, m, generated.ResetTypeForceOff)
	c.pass(time.Minute)
	r := thermalOf(t, m)
	for _, f := range r.Fan {
		if f.ReadingRpm != 0 || *f.ReadingPercent != 0 {
			t.Errorf("%s turns", f.Name)
		}
	}
	for _, s := range r.Sensor {
		switch *s.SensorKind {
		case generated.SensorKindTemperature:
			if *s.Reading != *sensorOf(t, r, "Inlet").Reading {
				t.Errorf("%s is not as the air", s.Name)
			}
		case generated.SensorKindLoad:
			if *s.Reading != 0 {
				t.Errorf("%s is %d %%", s.Name, *s.Reading)
			}
		case generated.SensorKindPower:
			if *s.Reading != standbyWatts*1000 {
				t.Errorf("%s is %d mW", s.Name, *s.Reading)
			}
		case generated.SensorKindVoltage:
			t.Errorf("%s is measured where there is none", s.Name)
		}
	}
}

func TestPartsWarmUpAndARestartLeavesThemWarm(t *testing.T) {
	t.Parallel()
	m, c, _ := opened(t, smm.Settings{"SimulatedLoad": {"Half"}})
	reset(t, m, generated.ResetTypeOn)
	rise := func() int { r := thermalOf(t, m); return readingOf(t, r, "CPU1") - readingOf(t, r, "Inlet") }
	if got := rise(); got != 0 {
		t.Errorf("just started, CPU1 is %d thousandths of a degree warmer than the air", got)
	}
	c.pass(bootTime)
	last := rise()
	for range 10 {
		c.pass(3 * time.Second)
		if now := rise(); now <= last {
			t.Errorf("after %d, CPU1 is no warmer: %d", last, now)
		} else {
			last = now
		}
	}
	c.pass(time.Minute)
	warm := rise()
	reset(t, m, generated.ResetTypeForceRestart)
	c.pass(bootTime)
	if got := rise(); got < warm*9/10 {
		t.Errorf("a restart cooled CPU1 from %d to %d", warm, got)
	}
}

func TestThresholdsAreReachedUnderFullLoadWithSlowFans(t *testing.T) {
	t.Parallel()
	worst := func(settings smm.Settings) generated.SensorState {
		m, _, _ := running(t, settings)
		return *sensorOf(t, thermalOf(t, m), "CPU1").SensorState
	}
	slow := smm.Settings{"SimulatedLoad": {"Full"}, "ThermalPolicy": {"Custom"}, "FanMinimumPercent": {"20"}}
	if got := worst(slow); got != generated.SensorStateCritical && got != generated.SensorStateNonCritical {
		t.Errorf("with slow fans: %s", got)
	}
	slow["FanMinimumPercent"] = []string{"80"}
	if got := worst(slow); got != generated.SensorStateNormal {
		t.Errorf("with fast fans: %s", got)
	}
}

// A machine with the settings of the factory raises no alarm, whatever its seed, and its readings are a server's.
func TestReadingsStayWithinTheirThresholds(t *testing.T) {
	t.Parallel()
	for seed := range uint32(40) {
		d := demo
		d.Seed = seed * 0x9e3779b9
		for _, p := range []generated.ThermalPolicy{generated.ThermalPolicyQuiet, generated.ThermalPolicyBalanced, generated.ThermalPolicyPerformance} {
			c := newClock()
			m := open(d, policy(p), &supervised{settings: policy(p)}, c)
			reset(t, m, generated.ResetTypeOn)
			least, most := math.MaxInt, 0
			for range 120 {
				c.pass(31 * time.Second)
				r := thermalOf(t, m)
				if !r.TakenAt.ToGoTime().Equal(c.Now()) {
					t.Fatalf("taken at %v, and it is %v", r.TakenAt.ToGoTime(), c.Now())
				}
				for _, s := range r.Sensor {
					if *s.SensorState != generated.SensorStateNormal {
						t.Fatalf("seed %#x, %s: %s is %s at %d", d.Seed, p, s.Name, *s.SensorState, *s.Reading)
					}
					if *s.SensorKind == generated.SensorKindLoad && (*s.Reading < 0 || *s.Reading > 100) {
						t.Fatalf("%s is %d %%", s.Name, *s.Reading)
					}
				}
				for _, f := range r.Fan {
					if *f.ReadingPercent < 15 || *f.ReadingPercent > 100 || f.ReadingRpm < 2000 || f.ReadingRpm > 15000 {
						t.Fatalf("%s: %d %%, %d rpm", f.Name, *f.ReadingPercent, f.ReadingRpm)
					}
				}
				load := readingOf(t, r, "CPU1 Load")
				least, most = min(least, load), max(most, load)
			}
			if most-least < 20 {
				t.Errorf("seed %#x: the load stays between %d and %d %%", d.Seed, least, most)
			}
			closed(t, m)
		}
	}
}

func TestSensorsAndFansHaveNamesAndUnits(t *testing.T) {
	t.Parallel()
	units := map[generated.SensorKind]generated.SensorUnit{
		generated.SensorKindTemperature: generated.SensorUnitMilliCelsius, generated.SensorKindPower: generated.SensorUnitMilliwatts,
		generated.SensorKindVoltage: generated.SensorUnitMillivolts, generated.SensorKindLoad: generated.SensorUnitPercent,
	}
	m, _, _ := running(t, nil)
	r := thermalOf(t, m)
	seen := map[string]bool{}
	kinds := map[generated.SensorKind]bool{}
	for _, s := range r.Sensor {
		if seen[s.Name] || strings.TrimSpace(s.Name) == "" {
			t.Errorf("%q is no name, or that of two sensors", s.Name)
		}
		seen[s.Name], kinds[*s.SensorKind] = true, true
		if *s.SensorUnit != units[*s.SensorKind] {
			t.Errorf("%s is in %s", s.Name, *s.SensorUnit)
		}
	}
	if len(kinds) != len(units) {
		t.Errorf("the sensors are of %d kinds, want %d", len(kinds), len(units))
	}
	for n, f := range r.Fan {
		if f.Name != fmt.Sprintf("Fan %d", n+1) {
			t.Errorf("fan %d is named %q", n+1, f.Name)
		}
	}
}
