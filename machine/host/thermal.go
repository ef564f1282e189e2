package host

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"github.com/hooklift/gowsdl/soap"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine"
)

const (
	hwmon      = "sys/class/hwmon"
	maxChips   = 256
	maxSensors = 1024 // and fans
)

// measured are the kinds of sensors that hwmon has and the contract too. The unit of hwmon is divisor times smaller
// than the contract's (Linux, Documentation/hwmon/sysfs-interface.rst).
var measured = map[string]struct {
	kind    generated.SensorKind
	unit    generated.SensorUnit
	divisor int64
}{
	"temp":  {generated.SensorKindTemperature, generated.SensorUnitMilliCelsius, 1},
	"power": {generated.SensorKindPower, generated.SensorUnitMilliwatts, 1000},
	"in":    {generated.SensorKindVoltage, generated.SensorUnitMillivolts, 1},
}

// Thermal reads the host's sensors and fans. A sensor that does not answer, or that its chip reports as broken, is
// left out. It gives UnavailableFault where none is left.
func (h *Host) Thermal(ctx context.Context) (*generated.ThermalReading, error) {
	reading := &generated.ThermalReading{TakenAt: soap.CreateXsdDateTime(h.now().UTC(), true)}
	chips := h.chips()
	for _, c := range chips {
		for _, file := range h.names(c.folder) {
			// A chip behind a slow bus takes milliseconds for each of its sensors.
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if len(reading.Sensor)+len(reading.Fan) == maxSensors {
				break
			}
			if s := h.sensor(c, file); s != nil {
				reading.Sensor = append(reading.Sensor, s)
			}
			if f := h.fan(c, file); f != nil {
				reading.Fan = append(reading.Fan, f)
			}
		}
	}
	if len(reading.Sensor)+len(reading.Fan) == 0 {
		if len(chips) == 0 {
			return nil, fault.Unavailable(fault.NotOnThisHost, 0, "This host shows no sensors in /%s. A virtual machine has none of its own; a physical one needs its kernel's drivers for them.", hwmon)
		}
		return nil, fault.Unavailable(fault.NotOnThisHost, 0, "No sensor of this host answers, of %d chips in /%s.", len(chips), hwmon)
	}
	// hwmon numbers chips as their drivers come: names are steadier.
	slices.SortStableFunc(reading.Sensor, func(a, b *generated.ThermalSensor) int { return compareNames(a.Name, b.Name) })
	slices.SortStableFunc(reading.Fan, func(a, b *generated.Fan) int { return compareNames(a.Name, b.Name) })
	return reading, nil
}

type chip struct{ name, folder string }

// chips are the folders of hwmon, each by the name of its driver, and where two have the same, by the address of
// its device too.
func (h *Host) chips() (list []chip) {
	count := map[string]int{}
	for _, entry := range h.names(hwmon) {
		folder := hwmon + "/" + entry
		name := h.text(folder + "/name")
		if name == "" || len(list) == maxChips {
			continue
		}
		count[name]++
		list = append(list, chip{name, folder})
	}
	for i, c := range list {
		if count[c.name] > 1 {
			list[i].name += "-" + cmp.Or(h.target(c.folder+"/device"), strings.TrimPrefix(c.folder, hwmon+"/"))
		}
	}
	return list
}

// sensor reads the sensor whose reading is in a file of a chip; nil where it is another kind of file, or the sensor
// does not answer.
func (h *Host) sensor(c chip, file string) *generated.ThermalSensor {
	channel, what, _ := strings.Cut(file, "_")
	prefix, number := cutNumber(channel)
	m, ok := measured[prefix]
	if !ok || number < 0 {
		return nil
	}
	switch what {
	case "input":
	case "average": // of a meter of power, which may have no other reading
		if h.exists(c.folder + "/" + channel + "_input") {
			return nil
		}
	default:
		return nil
	}
	value := func(name string) *generated.SensorReading {
		n, ok := h.number(c.folder + "/" + channel + "_" + name)
		n /= m.divisor
		if !ok || n < math.MinInt32 || n > math.MaxInt32 {
			return nil
		}
		return new(generated.SensorReading(n))
	}
	// A limit of 0 is one that nobody set: drivers have no other way to say so.
	limit := func(name string) *generated.SensorReading {
		if v := value(name); v != nil && *v != 0 {
			return v
		}
		return nil
	}
	s := &generated.ThermalSensor{
		Name: h.channelName(c, channel), SensorKind: new(m.kind), Reading: value(what), SensorUnit: new(m.unit),
		LowerCritical: limit("lcrit"), LowerNonCritical: limit("min"),
		UpperNonCritical: limit("max"), UpperCritical: limit("crit"), UpperFatal: limit("emergency"),
	}
	if s.Reading == nil || h.broken(c, channel) {
		return nil
	}
	s.SensorState = new(machine.State(s))
	return s
}

// fan reads the fan whose speed is in a file of a chip; nil where it is another kind of file, or the fan does not
// answer.
func (h *Host) fan(c chip, file string) *generated.Fan {
	channel, what, _ := strings.Cut(file, "_")
	if prefix, number := cutNumber(channel); prefix != "fan" || number < 0 || what != "input" {
		return nil
	}
	rpm, ok := h.number(c.folder + "/" + file)
	if !ok || rpm < 0 || rpm > math.MaxUint32 || h.broken(c, channel) {
		return nil
	}
	f := &generated.Fan{Name: h.channelName(c, channel), ReadingRpm: uint32(rpm)}
	if greatest, ok := h.number(c.folder + "/" + channel + "_max"); ok && greatest > 0 {
		f.ReadingPercent = new(generated.FanPercent(min(100*rpm/greatest, 100)))
	}
	return f
}

// channelName is what a sensor or fan is called: the chip, and the label that its driver gives, or else the channel.
func (h *Host) channelName(c chip, channel string) string {
	return c.name + " " + cmp.Or(h.text(c.folder+"/"+channel+"_label"), channel)
}

// broken says whether a chip reports that what it measures with is.
func (h *Host) broken(c chip, channel string) bool {
	n, ok := h.number(c.folder + "/" + channel + "_fault")
	return ok && n != 0
}
