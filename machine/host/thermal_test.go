package host

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hooklift/gowsdl/soap"

	"biosv/fault"
	"biosv/generated"
)

// sensor makes what is expected of one: its thresholds from lower fatal to upper fatal, 0 for none.
func sensor(name string, kind generated.SensorKind, unit generated.SensorUnit, reading generated.SensorReading, state generated.SensorState, limits ...generated.SensorReading) *generated.ThermalSensor {
	s := &generated.ThermalSensor{Name: name, SensorKind: &kind, SensorUnit: &unit, Reading: &reading, SensorState: &state}
	for i, to := range []**generated.SensorReading{&s.LowerFatal, &s.LowerCritical, &s.LowerNonCritical, &s.UpperNonCritical, &s.UpperCritical, &s.UpperFatal} {
		if i < len(limits) && limits[i] != 0 {
			*to = &limits[i]
		}
	}
	return s
}

const (
	temperature = generated.SensorKindTemperature
	power       = generated.SensorKindPower
	voltage     = generated.SensorKindVoltage
	celsius     = generated.SensorUnitMilliCelsius
	watts       = generated.SensorUnitMilliwatts
	volts       = generated.SensorUnitMillivolts
	normal      = generated.SensorStateNormal
)

func checkThermal(t *testing.T, root fs.FS, want generated.ThermalReading) {
	t.Helper()
	h := open(root, noLinks)
	h.now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	got, err := h.Thermal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, *got, cmpopts.IgnoreTypes(soap.XSDDateTime{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if at := got.TakenAt.ToGoTime(); !at.Equal(h.now()) {
		t.Errorf("taken at %s", at)
	}
}

// QEMU's NVMe drive reports 323 K, warns at 343 K and is critical at 373 K; the least it can say is 0 K.
func TestThermalReadsTheDriveOfQEMU(t *testing.T) {
	t.Parallel()
	checkThermal(t, os.DirFS(captureDir("ovmf")), generated.ThermalReading{
		Sensor: []*generated.ThermalSensor{sensor("nvme Composite", temperature, celsius, 49850, normal, 0, 0, -273150, 69850, 99850)},
	})
}

func TestThermalReadsEveryKindOfSensor(t *testing.T) {
	t.Parallel()
	root := files(map[string]string{
		"sys/class/hwmon/hwmon0/name":        "coretemp\n",
		"sys/class/hwmon/hwmon0/temp1_input": "91000\n", "sys/class/hwmon/hwmon0/temp1_label": "Package id 0\n", "sys/class/hwmon/hwmon0/temp1_max": "90000\n", "sys/class/hwmon/hwmon0/temp1_crit": "100000\n",
		"sys/class/hwmon/hwmon0/temp10_input": "41000\n", "sys/class/hwmon/hwmon0/temp10_label": "Core 8\n",
		"sys/class/hwmon/hwmon0/temp2_input": "40000\n", "sys/class/hwmon/hwmon0/temp2_label": "Core 0\n",
		// A board: limits that nobody set, a broken sensor, a voltage below its least, fans.
		"sys/class/hwmon/hwmon1/name":        "nct6775\n",
		"sys/class/hwmon/hwmon1/temp1_input": "35000\n", "sys/class/hwmon/hwmon1/temp1_max": "0\n", "sys/class/hwmon/hwmon1/temp1_lcrit": "-10000\n", "sys/class/hwmon/hwmon1/temp1_emergency": "110000\n",
		"sys/class/hwmon/hwmon1/temp2_input": "-128000\n", "sys/class/hwmon/hwmon1/temp2_fault": "1\n",
		"sys/class/hwmon/hwmon1/temp3_input": "30000\n", "sys/class/hwmon/hwmon1/temp3_fault": "0\n",
		"sys/class/hwmon/hwmon1/in0_input": "1000\n", "sys/class/hwmon/hwmon1/in0_min": "1100\n", "sys/class/hwmon/hwmon1/in0_max": "1300\n",
		"sys/class/hwmon/hwmon1/in1_input": "-11900\n", "sys/class/hwmon/hwmon1/in1_min": "-13200\n", "sys/class/hwmon/hwmon1/in1_max": "-10800\n",
		"sys/class/hwmon/hwmon1/fan1_input": "1500\n", "sys/class/hwmon/hwmon1/fan1_max": "2000\n", "sys/class/hwmon/hwmon1/fan1_label": "CPU\n",
		"sys/class/hwmon/hwmon1/fan2_input": "0\n", "sys/class/hwmon/hwmon1/fan3_input": "900\n", "sys/class/hwmon/hwmon1/fan3_fault": "1\n",
		"sys/class/hwmon/hwmon1/fan4_input": "2500\n", "sys/class/hwmon/hwmon1/fan4_max": "2000\n",
		// Power is in microwatts; a meter that averages may have no other reading.
		"sys/class/hwmon/hwmon2/name":         "power_meter\n",
		"sys/class/hwmon/hwmon2/power1_input": "120500999\n", "sys/class/hwmon/hwmon2/power1_average": "999000000\n", "sys/class/hwmon/hwmon2/power1_crit": "120000000\n",
		"sys/class/hwmon/hwmon2/power2_average": "50000000\n",
		// What is not read.
		"sys/class/hwmon/hwmon2/power1_average_interval": "1000\n", "sys/class/hwmon/hwmon2/curr1_input": "7000\n", "sys/class/hwmon/hwmon2/temp1_input": "9999999999\n",
		"sys/class/hwmon/hwmon2/temp2_input": "warm\n", "sys/class/hwmon/hwmon2/temp_input": "1\n", "sys/class/hwmon/hwmon2/fan1_input": "-5\n", "sys/class/hwmon/hwmon2/intrusion0_alarm": "0\n",
		"sys/class/hwmon/hwmon3/temp1_input": "20000\n", // a chip without a name
	})
	checkThermal(t, root, generated.ThermalReading{
		Sensor: []*generated.ThermalSensor{
			sensor("coretemp Core 0", temperature, celsius, 40000, normal),
			sensor("coretemp Core 8", temperature, celsius, 41000, normal),
			sensor("coretemp Package id 0", temperature, celsius, 91000, generated.SensorStateNonCritical, 0, 0, 0, 90000, 100000),
			sensor("nct6775 in0", voltage, volts, 1000, generated.SensorStateNonCritical, 0, 0, 1100, 1300),
			sensor("nct6775 in1", voltage, volts, -11900, normal, 0, 0, -13200, -10800),
			sensor("nct6775 temp1", temperature, celsius, 35000, normal, 0, -10000, 0, 0, 0, 110000),
			sensor("nct6775 temp3", temperature, celsius, 30000, normal),
			sensor("power_meter power1", power, watts, 120500, generated.SensorStateCritical, 0, 0, 0, 0, 120000),
			sensor("power_meter power2", power, watts, 50000, normal),
		},
		Fan: []*generated.Fan{
			{Name: "nct6775 CPU", ReadingRpm: 1500, ReadingPercent: new(generated.FanPercent(75))},
			{Name: "nct6775 fan2", ReadingRpm: 0},
			{Name: "nct6775 fan4", ReadingRpm: 2500, ReadingPercent: new(generated.FanPercent(100))},
		},
	})
}

func TestChipsOfOneNameAreToldApartByTheirDevice(t *testing.T) {
	t.Parallel()
	root := files(map[string]string{
		"sys/class/hwmon/hwmon4/name": "nvme\n", "sys/class/hwmon/hwmon4/temp1_input": "30000\n",
		"sys/class/hwmon/hwmon5/name": "nvme\n", "sys/class/hwmon/hwmon5/temp1_input": "31000\n",
		"sys/class/hwmon/hwmon6/name": "k10temp\n", "sys/class/hwmon/hwmon6/temp1_input": "32000\n",
	})
	root["sys/class/hwmon/hwmon4/device"] = &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte("../../nvme1")}
	checkThermal(t, root, generated.ThermalReading{Sensor: []*generated.ThermalSensor{
		sensor("k10temp temp1", temperature, celsius, 32000, normal),
		sensor("nvme-hwmon5 temp1", temperature, celsius, 31000, normal),
		sensor("nvme-nvme1 temp1", temperature, celsius, 30000, normal),
	}})
}

// failing is a file system in which reading some files fails, as of a device that does not answer.
type failing struct {
	fs.FS
	with map[string]error
}

type failingFile struct {
	fs.File
	err error
}

func (f failingFile) Read([]byte) (int, error) { return 0, f.err }

func (f failing) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if e, ok := f.with[name]; ok && err == nil {
		return failingFile{file, e}, nil
	}
	return file, err
}

func TestSensorsThatDoNotAnswerAreLeftOut(t *testing.T) {
	t.Parallel()
	root := failing{
		files(map[string]string{
			"sys/class/hwmon/hwmon0/name":        "acpitz\n",
			"sys/class/hwmon/hwmon0/temp1_input": "1\n", "sys/class/hwmon/hwmon0/temp2_input": "2\n", "sys/class/hwmon/hwmon0/temp3_input": "30000\n", "sys/class/hwmon/hwmon0/temp3_crit": "1\n",
			"sys/class/hwmon/hwmon0/fan1_input": "3\n",
		}),
		map[string]error{
			"sys/class/hwmon/hwmon0/temp1_input": syscall.EIO, "sys/class/hwmon/hwmon0/temp2_input": syscall.ENODATA,
			"sys/class/hwmon/hwmon0/temp3_crit": syscall.EIO, "sys/class/hwmon/hwmon0/fan1_input": syscall.EAGAIN,
		},
	}
	checkThermal(t, root, generated.ThermalReading{Sensor: []*generated.ThermalSensor{sensor("acpitz temp3", temperature, celsius, 30000, normal)}})
	delete(root.FS.(fstest.MapFS), "sys/class/hwmon/hwmon0/temp3_input")
	checkNoSensors(t, root)
}

func TestThermalOfAHostWithoutSensorsIsAFault(t *testing.T) {
	t.Parallel()
	checkNoSensors(t, os.DirFS(captureDir("seabios")))
}

func checkNoSensors(t *testing.T, root fs.FS) {
	t.Helper()
	_, err := open(root, noLinks).Thermal(t.Context())
	var f *generated.UnavailableFault
	if !errors.As(err, &f) || f.Code != string(fault.NotOnThisHost) {
		t.Errorf("got %v", err)
	}
}
