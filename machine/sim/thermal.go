package sim

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/hooklift/gowsdl/soap"

	"biosv/generated"
	"biosv/machine"
)

// How the machine takes power and gets warm.
const (
	idleWatts    = 60  // a processor without work
	fullWatts    = 205 // and with all it can do
	otherWatts   = 75  // memory, drives, adapters
	standbyWatts = 12  // off
	fanWatts     = 18  // a fan at its greatest speed; it takes the cube of its speed

	fans       = 4
	fullRpm    = 14000
	warmUpTime = 10 * time.Second // until the parts have made 63 % of their way
)

// Thermal reads the sensors and fans. Without power there is one temperature everywhere and nothing turns.
func (m *Machine) Thermal(context.Context) (*generated.ThermalReading, error) {
	now := m.now()
	policy := now.setup.thermalPolicy()
	inlet := m.inlet(now.at)
	r := &generated.ThermalReading{TakenAt: soap.CreateXsdDateTime(now.at.UTC(), true), ThermalPolicy: &policy}

	speed, warm, watts, busiest := 0.0, 0.0, float64(standbyWatts), 0.0
	var load, taken [processors]float64
	if now.state != generated.PowerStateOff {
		for n := range processors {
			load[n] = m.load(now, n)
			taken[n] = min(idleWatts+(fullWatts-idleWatts)*load[n], float64(now.setup.number("ProcessorPowerLimitWatts")))
			busiest = max(busiest, load[n])
		}
		speed = fanSpeed(now.setup, busiest)
		warm = 1 - math.Exp(-max(0, now.at.Sub(now.since).Seconds())/warmUpTime.Seconds())
		watts = otherWatts + taken[0] + taken[1] + fans*fanWatts*math.Pow(speed, 3)
	}
	r.Sensor = append(r.Sensor, upper("Inlet", generated.SensorKindTemperature, generated.SensorUnitMilliCelsius, inlet, 35, 40, 45))
	for n := range processors {
		r.Sensor = append(r.Sensor, upper(fmt.Sprintf("CPU%d", n+1), generated.SensorKindTemperature, generated.SensorUnitMilliCelsius,
			inlet+warm*taken[n]*resistance(speed), 80, 90, 100))
	}
	for n := range processors {
		r.Sensor = append(r.Sensor, upper(fmt.Sprintf("Memory of CPU%d", n+1), generated.SensorKindTemperature, generated.SensorUnitMilliCelsius,
			inlet+warm*(8+14*load[n])*(1.4-speed), 75, 85, 95))
	}
	r.Sensor = append(r.Sensor, upper("System Power", generated.SensorKindPower, generated.SensorUnitMilliwatts, watts, 700, 750, 800))
	if now.state != generated.PowerStateOff {
		r.Sensor = append(r.Sensor, m.rail(now.at, watts))
	}
	for n := range processors {
		s := sensor(fmt.Sprintf("CPU%d Load", n+1), generated.SensorKindLoad, generated.SensorUnitPercent, 100*load[n])
		r.Sensor = append(r.Sensor, judged(s))
	}
	for n := range fans {
		r.Fan = append(r.Fan, &generated.Fan{
			Name: fmt.Sprintf("Fan %d", n+1), ReadingPercent: new(generated.FanPercent(math.Round(100 * speed))),
			ReadingRpm: uint32(speed * fullRpm * between(0.985, 1.015, m.domain.Seed, "fan", int64(n))),
		})
	}
	return r, nil
}

// inlet is the temperature of the air that comes in: that of the place, which the seed has, up and down a little.
func (m *Machine) inlet(at time.Time) float64 {
	return between(20, 25, m.domain.Seed, "place", 0) + m.wave(at, 20*time.Minute, "inlet", 0)
}

// load is what a processor has to do, from 0 to 1. Only an operating system has work for it.
func (m *Machine) load(now now, n int) float64 {
	if now.state != generated.PowerStateOn {
		return 0
	}
	switch now.setup.text("SimulatedLoad") {
	case "Idle":
		return 0
	case "Half":
		return 0.5
	case "Full":
		return 1
	}
	purpose := fmt.Sprintf("load of processor %d", n)
	return min(1, max(0, 0.4+0.2*m.wave(now.at, 15*time.Minute, purpose, 0)+0.12*m.wave(now.at, 97*time.Second, purpose, 1)+0.05*m.flicker(now.at, purpose)))
}

// wave goes from -1 to 1 and back in a period, from where the seed has it begin.
func (m *Machine) wave(at time.Time, period time.Duration, purpose string, which int64) float64 {
	turns := math.Mod(float64(at.UnixMilli())/float64(period.Milliseconds()), 1)
	return math.Sin(2 * math.Pi * (turns + draw(m.domain.Seed, purpose+" begins", which)))
}

// flicker goes from a drawn value in [-1, 1) to the next in two seconds each.
func (m *Machine) flicker(at time.Time, purpose string) float64 {
	const every = 2000
	slot, part := at.UnixMilli()/every, float64(at.UnixMilli()%every)/every
	return (1-part)*between(-1, 1, m.domain.Seed, purpose, slot) + part*between(-1, 1, m.domain.Seed, purpose, slot+1)
}

// fanSpeed is what the policy makes of the load of the busiest processor; both are from 0 to 1.
func fanSpeed(s setup, load float64) float64 {
	switch s.thermalPolicy() {
	case generated.ThermalPolicyQuiet:
		return 0.20 + 0.35*load
	case generated.ThermalPolicyPerformance:
		return 0.45 + 0.55*load
	case generated.ThermalPolicyCustom:
		return min(1, float64(s.number("FanMinimumPercent"))/100+0.1*load)
	}
	return 0.30 + 0.45*load
}

// resistance is by how many degrees a processor is warmer than the air for each watt, at a speed of the fans.
func resistance(speed float64) float64 { return 0.16 + 0.30*math.Pow(1-speed, 1.5) }

// rail is the supply of 12 volts, which gives way a little under load.
func (m *Machine) rail(at time.Time, watts float64) *generated.ThermalSensor {
	s := sensor("12 V Supply", generated.SensorKindVoltage, generated.SensorUnitMillivolts, 12.12-watts/4000+0.01*m.flicker(at, "rail"))
	s.LowerFatal, s.LowerCritical, s.LowerNonCritical = reading(10.8), reading(11.2), reading(11.4)
	s.UpperNonCritical, s.UpperCritical, s.UpperFatal = reading(12.6), reading(12.8), reading(13.2)
	return judged(s)
}

// upper makes a sensor with upper thresholds: non-critical, critical, fatal.
func upper(name string, kind generated.SensorKind, unit generated.SensorUnit, value, nonCritical, critical, fatal float64) *generated.ThermalSensor {
	s := sensor(name, kind, unit, value)
	s.UpperNonCritical, s.UpperCritical, s.UpperFatal = reading(nonCritical), reading(critical), reading(fatal)
	return judged(s)
}

// sensor makes one of a value in degrees, watts, volts or percent.
func sensor(name string, kind generated.SensorKind, unit generated.SensorUnit, value float64) *generated.ThermalSensor {
	s := &generated.ThermalSensor{Name: name, SensorKind: &kind, SensorUnit: &unit, Reading: reading(value)}
	if unit == generated.SensorUnitPercent {
		*s.Reading = generated.SensorReading(math.Round(value))
	}
	return s
}

// reading is in thousandths, as all units of sensors but percent are.
func reading(value float64) *generated.SensorReading {
	return new(generated.SensorReading(math.Round(1000 * value)))
}

func judged(s *generated.ThermalSensor) *generated.ThermalSensor {
	s.SensorState = new(machine.State(s))
	return s
}
