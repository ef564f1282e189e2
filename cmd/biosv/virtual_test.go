package main

import (
	"strings"
	"testing"

	"biosv/generated"
)

func TestOfTheHostsSensorsThoseAreShownThatAreNamed(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"coretemp Core 0": "coretemp Core 0;", "coretemp *": "coretemp Core 0 coretemp Core 1;", "*": "coretemp Core 0 coretemp Core 1;nct6775 fan1", "core": ";", "*fan?": ";nct6775 fan1",
	} {
		all := &generated.ThermalReading{Sensor: []*generated.ThermalSensor{{Name: "coretemp Core 0"}, {Name: "coretemp Core 1"}}, Fan: []*generated.Fan{{Name: "nct6775 fan1"}}}
		var sensors, fans []string
		reading := shown(all, []string{"nothing", pattern})
		for _, s := range reading.Sensor {
			sensors = append(sensors, s.Name)
		}
		for _, f := range reading.Fan {
			fans = append(fans, f.Name)
		}
		if got := strings.Join(sensors, " ") + ";" + strings.Join(fans, " "); got != want {
			t.Errorf("%s shows %s, not %s", pattern, got, want)
		}
	}
	if _, err := hostSensors([]string{"core[temp"}); err == nil || !strings.Contains(err.Error(), `--host-sensor "core[temp"`) {
		t.Errorf("a pattern that is none: %v", err)
	}
	if sensors, err := hostSensors(nil); sensors != nil || err != nil {
		t.Errorf("without a pattern, something is shown: %v", err)
	}
}
