package sim

import (
	"strconv"
	"time"

	"biosv/generated"
	"biosv/smm"
)

// setup is what the firmware works with: a value of every attribute.
type setup smm.Settings

// everything fills in the defaults.
func (m *Machine) everything(settings smm.Settings) setup {
	s := setup{}
	for _, d := range m.registry.Definition {
		if v, ok := settings[d.Name]; ok {
			s[d.Name] = v
		} else {
			s[d.Name] = d.DefaultValue
		}
	}
	return s
}

func (s setup) text(name string) string {
	if v := s[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

func (s setup) is(name string) bool { return s.text(name) == "true" }

// number gives 0 for what is no number; what is kept was judged by the registry when it was set.
func (s setup) number(name string) int {
	n, _ := strconv.Atoi(s.text(name))
	return n
}

func (s setup) bootDelay() time.Duration {
	return time.Duration(s.number("BootDelaySeconds")) * time.Second
}

func (s setup) thermalPolicy() generated.ThermalPolicy {
	return generated.ThermalPolicy(s.text("ThermalPolicy"))
}
