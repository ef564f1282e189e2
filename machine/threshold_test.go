package machine

import (
	"math"
	"testing"

	"biosv/generated"
)

func TestStateIsTheGravestThresholdReached(t *testing.T) {
	t.Parallel()
	all := generated.ThermalSensor{
		LowerFatal: new(generated.SensorReading(-20)), LowerCritical: new(generated.SensorReading(-10)), LowerNonCritical: new(generated.SensorReading(0)),
		UpperNonCritical: new(generated.SensorReading(70)), UpperCritical: new(generated.SensorReading(80)), UpperFatal: new(generated.SensorReading(90)),
	}
	upperFatal := generated.ThermalSensor{UpperFatal: new(generated.SensorReading(90))}
	lowerCritical := generated.ThermalSensor{LowerCritical: new(generated.SensorReading(5))}
	crossed := generated.ThermalSensor{ // a maker's mistake: the non-critical threshold lies beyond the critical one
		UpperNonCritical: new(generated.SensorReading(95)), UpperCritical: new(generated.SensorReading(80)),
	}
	for _, row := range []struct {
		name    string
		sensor  generated.ThermalSensor
		reading generated.SensorReading
		want    generated.SensorState
	}{
		{"the least reading there is", all, math.MinInt32, generated.SensorStateFatal},
		{"on lower fatal", all, -20, generated.SensorStateFatal},
		{"above lower fatal", all, -19, generated.SensorStateCritical},
		{"on lower critical", all, -10, generated.SensorStateCritical},
		{"above lower critical", all, -9, generated.SensorStateNonCritical},
		{"on lower non-critical", all, 0, generated.SensorStateNonCritical},
		{"above lower non-critical", all, 1, generated.SensorStateNormal},
		{"below upper non-critical", all, 69, generated.SensorStateNormal},
		{"on upper non-critical", all, 70, generated.SensorStateNonCritical},
		{"below upper critical", all, 79, generated.SensorStateNonCritical},
		{"on upper critical", all, 80, generated.SensorStateCritical},
		{"below upper fatal", all, 89, generated.SensorStateCritical},
		{"on upper fatal", all, 90, generated.SensorStateFatal},
		{"the greatest reading there is", all, math.MaxInt32, generated.SensorStateFatal},
		{"no thresholds", generated.ThermalSensor{}, math.MaxInt32, generated.SensorStateNormal},
		{"only upper fatal, below", upperFatal, 89, generated.SensorStateNormal},
		{"only upper fatal, reached", upperFatal, 90, generated.SensorStateFatal},
		{"only lower critical, above", lowerCritical, 6, generated.SensorStateNormal},
		{"only lower critical, reached", lowerCritical, 5, generated.SensorStateCritical},
		{"thresholds in the wrong order", crossed, 80, generated.SensorStateCritical},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := row.sensor
			s.Reading = new(row.reading)
			if got := State(&s); got != row.want {
				t.Errorf("a reading of %d is %s, want %s", row.reading, got, row.want)
			}
		})
	}
}

func TestStateWithoutAReadingIsNormal(t *testing.T) {
	t.Parallel()
	if got := State(&generated.ThermalSensor{UpperFatal: new(generated.SensorReading(-1))}); got != generated.SensorStateNormal {
		t.Errorf("got %s", got)
	}
}
