package qemu

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"biosv/generated"
)

// arguments are QEMU's for a boot that begins now. All files but those of the host are named relative to the run
// folder. The places of devices on the PCI bus are in boot options, so what an attribute takes away comes last.
func (m *Machine) arguments(accelerator, firmware string, user int, s setup, now time.Time) ([]string, error) {
	v := m.domain.VirtualMachine
	b := &line{}
	b.add("-name", m.domain.Name)
	b.add("-uuid", m.domain.UUID)
	b.add("-pidfile", filePID)
	b.base(accelerator, user, firmware)
	b.add("-cpu", s.cpu())
	b.add("-smp", fmt.Sprint(*v.ProcessorCount))
	b.add("-m", fmt.Sprint(*v.MemoryMiB))
	b.add("-action", "panic="+panicActions[s["PanicAction"]])

	b.add("-chardev", "socket,id=qmp,path="+socketQMP+",server=on,wait=off", "-mon", "chardev=qmp,mode=control")
	b.add("-chardev", "pipe,id=events,path="+strings.TrimSuffix(fileEvents, ".out"), "-mon", "chardev=events,mode=control")

	if s["SerialConsole"] == "true" {
		b.add("-chardev", "socket,id=console,path="+socketSerial+",server=on,wait=off", "-device", "isa-serial,index=0,chardev=console")
	}
	if v.VirtualTpm {
		b.add("-chardev", "socket,id=tpm,path="+socketTPM, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	b.add("-device", "pvpanic")
	b.add("-rtc", "base="+s.clock(now))
	b.add("-smbios", s.smbios(1, "manufacturer", "SystemManufacturer", "product", "SystemProductName", "family", "SystemFamily", "sku", "SkuNumber", "serial", "SerialNumber"))
	b.add("-smbios", s.smbios(3, "asset", "AssetTag"))
	if s["BootMenu"] == "true" {
		b.add("-boot", "menu=on,splash-time="+s["BootMenuSeconds"]+"000") // ms
	}
	// No device has a bootindex: with one, OVMF rewrites BootOrder at each start.
	for i, d := range v.DiskImage {
		path, err := m.host.image("DiskImage", *d)
		if err != nil {
			return nil, err
		}
		format := "raw"
		if strings.HasSuffix(path, ".qcow2") {
			format = "qcow2"
		}
		b.node(map[string]any{
			"driver": format, "node-name": fmt.Sprintf("disk%d", i), "discard": "unmap",
			"file": map[string]any{"driver": "file", "filename": path, "discard": "unmap"},
		})
		b.add("-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d,serial=disk%d", i, i))
	}
	if *v.NetworkMode == generated.NetworkModeUser {
		b.card(s["NetworkBoot"], m.mac())
	}
	b.add("-device", fmt.Sprintf("virtio-balloon-pci,id=balloon,guest-stats-polling-interval=%d", balloonSeconds))
	if s["Watchdog"] == "true" {
		b.add("-device", "i6300esb", "-action", "watchdog="+watchdogActions[s["WatchdogAction"]])
	}
	if v.KernelImage != nil {
		path, err := m.host.image("KernelImage", *v.KernelImage)
		if err != nil {
			return nil, err
		}
		b.add("-kernel", path)
		if v.InitrdImage != nil {
			if path, err = m.host.image("InitrdImage", *v.InitrdImage); err != nil {
				return nil, err
			}
			b.add("-initrd", path)
		}
		if v.KernelArguments != "" {
			b.add("-append", v.KernelArguments)
		}
	}
	return b.words, b.err
}

// balloonSeconds is how often the operating system is asked how much memory it uses.
const balloonSeconds = 5

// What the values of attributes are in QEMU's option action.
var (
	panicActions    = map[string]string{"StandStill": "pause", "PowerOff": "shutdown", "Restart": "shutdown"}
	watchdogActions = map[string]string{"Restart": "reset", "PowerOff": "poweroff"}
)

// mac is the address of the network card: of QEMU's own range, and the end of the UUID.
func (m *Machine) mac() string {
	u := strings.ReplaceAll(m.domain.UUID, "-", "")
	u = u[len(u)-6:]
	return "52:54:00:" + u[:2] + ":" + u[2:4] + ":" + u[4:]
}

// clock is what the machine's clock shows when it starts, as QEMU's option rtc takes it.
func (s setup) clock(now time.Time) string {
	offset, err := strconv.Atoi(s["RtcOffsetMinutes"])
	if err != nil || offset == 0 {
		return "utc"
	}
	return now.UTC().Add(time.Duration(offset) * time.Minute).Format("2006-01-02T15:04:05")
}

type line struct {
	words []string
	err   error
}

// card adds the network card. The firmware has a driver of its own for virtio, and none for Intel's.
func (b *line) card(networkBoot, mac string) {
	model := "virtio-net-pci"
	switch networkBoot {
	case noNetworkBoot:
		model = "e1000e"
	case "HTTP":
		// Read by OvmfPkg/Library/PxeBcPcdProducerLib of edk2.
		b.add("-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
	}
	b.add("-netdev", "user,id=net0", "-device", model+",netdev=net0,romfile=,mac="+mac)
}

// base is what all machines have: their user, the sandbox, the firmware with its flash, and the thin virtual BIOS.
func (b *line) base(accelerator string, user int, firmware string) {
	b.add("-nodefaults", "-no-user-config", "-display", "none")
	elevate := "deny"
	if user != 0 {
		// It opens what it needs and becomes that user, which the sandbox must allow; then it has no privileges to change.
		b.add("-runas", fmt.Sprintf("%d:%d", user, user))
		elevate = "allow"
	}
	b.add("-sandbox", "on,obsolete=deny,elevateprivileges="+elevate+",spawn=deny,resourcecontrol=deny")
	b.add("-machine", "q35,accel="+accelerator+",smm=off,vmport=off,dump-guest-core=off,pflash0=firmware,pflash1=variables")
	// One boot is one process, and there is no way back into an earlier phase of it (docs/vbios.md, section 6).
	b.add("-action", "reboot=shutdown,shutdown=poweroff", "-global", "ICH9-LPC.disable_s3=1")
	b.node(map[string]any{"driver": "file", "node-name": "firmware", "filename": firmware, "read-only": true})
	b.node(map[string]any{"driver": "file", "node-name": "variables", "filename": fileFlash})
	b.add("-chardev", "socket,id=vbios,path="+socketVBIOS+",reconnect=1", "-device", "isa-serial,index=2,iobase=0x3e8,irq=11,chardev=vbios")
	b.add("-device", "pci-testdev,romfile="+fileROM)
}

func (b *line) add(words ...string) { b.words = append(b.words, words...) }

// node adds a block device's node, as JSON, so that a file's name may have commas.
func (b *line) node(n map[string]any) {
	text, err := json.Marshal(n)
	if err != nil {
		b.err = err
	}
	b.add("-blockdev", string(text))
}
