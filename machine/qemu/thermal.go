package qemu

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hooklift/gowsdl/soap"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine"
)

// loadTime is how long the processors are watched for how busy they are.
const loadTime = 200 * time.Millisecond

// Thermal measures how busy the machine's processors are: the share of a time in which the threads that QEMU has for
// them ran. A virtual machine has no other sensors, and no fans.
func (m *Machine) Thermal(ctx context.Context) (*generated.ThermalReading, error) {
	b := m.running()
	if b == nil {
		return nil, fault.Unavailable(fault.MachineUnavailable, 0, "The machine is off: its processors do nothing that could be measured.")
	}
	threads, err := b.processors(ctx)
	if err != nil {
		return nil, fault.Unavailable(fault.MachineUnavailable, time.Second, "QEMU does not tell which threads are processors: %v.", err)
	}
	began := time.Now()
	before, err := b.process.runtimes(threads)
	if err != nil {
		return nil, gone(err)
	}
	select {
	case <-time.After(loadTime):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := b.process.runtimes(threads)
	if err != nil {
		return nil, gone(err)
	}
	took := time.Since(began)
	reading := &generated.ThermalReading{TakenAt: soap.CreateXsdDateTime(time.Now().UTC(), true)}
	for i := range threads {
		s := &generated.ThermalSensor{
			Name: fmt.Sprintf("CPU %d", i), SensorKind: new(generated.SensorKindLoad), SensorUnit: new(generated.SensorUnitPercent),
			Reading: new(generated.SensorReading(min(100, 100*(after[i]-before[i])/took))),
		}
		s.SensorState = new(machine.State(s))
		reading.Sensor = append(reading.Sensor, s)
	}
	return reading, nil
}

func gone(err error) error {
	return fault.Unavailable(fault.MachineUnavailable, time.Second, "The machine's processors cannot be measured: %v.", err)
}

// processors gives the threads that are the machine's processors.
func (b *boot) processors(ctx context.Context) (threads []int, err error) {
	m, err := b.asked(ctx)
	if err != nil {
		return nil, err
	}
	var list []struct {
		Thread int `json:"thread-id"`
	}
	if err := m.run(ctx, "query-cpus-fast", &list); err != nil {
		return nil, err
	}
	for _, one := range list {
		threads = append(threads, one.Thread)
	}
	return threads, nil
}

// runtimes gives how long threads have run (Linux, Documentation/scheduler/sched-stats.rst).
func (p *process) runtimes(threads []int) (ran []time.Duration, err error) {
	for _, t := range threads {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", p.pid, t))
		if err != nil {
			return nil, err
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return nil, err
		}
		ran = append(ran, time.Duration(ns))
	}
	return ran, nil
}
