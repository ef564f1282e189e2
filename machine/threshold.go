// Package machine holds what the machines under a BIOS have in common: the rule that says where a reading stands
// among its thresholds. The machines themselves are host (the host that BIOS.v runs on) and sim (a simulated one);
// each gives an smm.Opener.
package machine

import "biosv/generated"

// State says where the reading of a sensor stands among its thresholds: the gravest one that it has reached
// counts, and a threshold that is absent is never reached. To stand exactly on a threshold is to have reached it
// (IPMI 2.0 section 35.14: "at or above" an upper, "at or below" a lower one). A sensor without a reading is
// Normal; whoever makes one leaves it out instead.
//
// IPMI calls Fatal non-recoverable. Its hysteresis (section 41.2) bears on events alone and has no part here: a
// reading is observed, not remembered.
func State(s *generated.ThermalSensor) generated.SensorState {
	if s.Reading == nil {
		return generated.SensorStateNormal
	}
	reached := func(lower, upper *generated.SensorReading) bool {
		return lower != nil && *s.Reading <= *lower || upper != nil && *s.Reading >= *upper
	}
	switch {
	case reached(s.LowerFatal, s.UpperFatal):
		return generated.SensorStateFatal
	case reached(s.LowerCritical, s.UpperCritical):
		return generated.SensorStateCritical
	case reached(s.LowerNonCritical, s.UpperNonCritical):
		return generated.SensorStateNonCritical
	}
	return generated.SensorStateNormal
}
