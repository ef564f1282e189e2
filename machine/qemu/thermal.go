package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/hooklift/gowsdl/soap"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine"
)

// loadTime is how long the processors are watched for how busy they are.
const loadTime = 200 * time.Millisecond

// Thermal measures what a machine without parts that get warm has: how busy its processors are, how much of its memory
// is in use, and what the host measures of itself, where the operator has that shown. A virtual machine has no fans of
// its own.
func (m *Machine) Thermal(ctx context.Context) (*generated.ThermalReading, error) {
	reading := &generated.ThermalReading{TakenAt: soap.CreateXsdDateTime(time.Now().UTC(), true)}
	if b := m.running(); b != nil {
		loads, err := b.loads(ctx)
		if err != nil {
			return nil, err
		}
		reading.Sensor = append(loads, b.memory(ctx)...)
	}
	if err := m.host.show(ctx, reading); err != nil {
		return nil, err
	}
	if len(reading.Sensor)+len(reading.Fan) == 0 {
		return nil, fault.Unavailable(fault.MachineUnavailable, 0, "The machine is off: there is nothing that could be measured.")
	}
	return reading, nil
}

// percent makes a sensor of a share.
func percent(name string, kind generated.SensorKind, part, whole float64, high *generated.SensorReading) *generated.ThermalSensor {
	s := &generated.ThermalSensor{
		Name: name, SensorKind: &kind, SensorUnit: new(generated.SensorUnitPercent), Reading: new(generated.SensorReading(max(0, min(100, 100*part/whole)))),
		UpperNonCritical: high,
	}
	s.SensorState = new(machine.State(s))
	return s
}

// show adds what the host measures of itself and machines show.
func (h *Host) show(ctx context.Context, reading *generated.ThermalReading) error {
	if h.Sensors == nil {
		return nil
	}
	of, err := h.Sensors(ctx)
	var none *generated.UnavailableFault
	if errors.As(err, &none) {
		return nil
	} else if err != nil {
		return err
	}
	for _, s := range of.Sensor {
		s.Name = "Host " + s.Name
		reading.Sensor = append(reading.Sensor, s)
	}
	for _, f := range of.Fan {
		f.Name = "Host " + f.Name
		reading.Fan = append(reading.Fan, f)
	}
	return nil
}

// memoryHigh is how much of its memory an operating system can use, in percent, before it has little left.
const memoryHigh = 90

// memory tells how much of its memory the operating system uses, which it says itself where it has a driver for the
// balloon, and how much of it the host has had to give.
func (b *boot) memory(ctx context.Context) (list []*generated.ThermalSensor) {
	if s, err := b.statistics(ctx); err != nil {
		b.machine.log.Debug("the guest's memory is not known", "error", err)
	} else if total, free := s.total(), s.free(); total > 0 && free <= total {
		list = append(list, percent("Memory", generated.SensorKindMemory, float64(total-free), float64(total), new(generated.SensorReading(memoryHigh))))
	}
	whole := float64(*b.machine.domain.VirtualMachine.MemoryMiB) * (1 << 20)
	if resident, err := b.process.resident(); err == nil { // else it has ended meanwhile
		list = append(list, percent("Memory on the Host", generated.SensorKindMemory, float64(resident), whole, nil))
	}
	return list
}

// statistics is what a guest says of its memory (virtio 1.2, 5.5.6.3, as QEMU gives it).
type statistics struct {
	Updated int64 `json:"last-update"` // since 1970 in seconds, 0 where the guest never said anything
	Stats   struct {
		Total     uint64 `json:"stat-total-memory"`
		Available uint64 `json:"stat-available-memory"`
		Free      uint64 `json:"stat-free-memory"`
	}
}

// said is false of what a guest leaves open.
func said(v uint64) bool { return v != 1<<64-1 }

func (s *statistics) total() uint64 {
	// What is old is of a guest that is silent, or was.
	if !said(s.Stats.Total) || time.Since(time.Unix(s.Updated, 0)) > 3*balloonSeconds*time.Second {
		return 0
	}
	return s.Stats.Total
}

// free is what can be had without giving anything up for it that is needed.
func (s *statistics) free() uint64 {
	if said(s.Stats.Available) {
		return s.Stats.Available
	}
	return s.Stats.Free
}

func (b *boot) statistics(ctx context.Context) (s *statistics, err error) {
	m, err := b.asked(ctx)
	if err != nil {
		return nil, err
	}
	s = &statistics{}
	return s, m.ask(ctx, qmp.Command{Execute: "qom-get", Args: map[string]string{"path": "/machine/peripheral/balloon", "property": "guest-stats"}}, s)
}

// resident is how much memory of the host a process has, in bytes (proc(5), statm).
func (p *process) resident() (bytes uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		return 0, err
	}
	var size, pages uint64
	_, err = fmt.Sscan(string(text), &size, &pages)
	return pages * uint64(os.Getpagesize()), err
}

// loads measures how busy the processors are: the share of a time in which the threads that QEMU has for them ran.
func (b *boot) loads(ctx context.Context) (list []*generated.ThermalSensor, err error) {
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
	for i := range threads {
		list = append(list, percent(fmt.Sprintf("CPU %d", i), generated.SensorKindLoad, float64(after[i]-before[i]), float64(took), nil))
	}
	return list, nil
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
