package host

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"biosv/generated"
	"biosv/machine/host/smbios"
)

// features are the processor features that an inventory tells of, by the names that Linux gives them: those that
// a firmware's settings turn on and off, and those that decide what a machine can be used for.
var features = []string{
	"lm", "ht", "x2apic", // 64 bits, threads, many processors
	"vmx", "ept", "svm", "npt", "vnmi", // virtual machines
	"nx", "smep", "smap", "umip", "shstk", "ibt", // protection of the kernel
	"aes", "sha_ni", "pclmulqdq", "rdrand", "rdseed", "gfni", "pmull", "sha1", "sha2", "sha512", // cryptography
	"avx", "avx2", "avx512f", "amx_tile", "asimd", "sve", // vectors
	"sgx", "tme", "sme", "sev", "sev_es", "sev_snp", "tdx_host_platform", // memory that the host cannot read
	"constant_tsc", "nonstop_tsc", "tsc_deadline_timer", // clocks
}

// cpu is a logical processor as the kernel sees it.
type cpu struct {
	x86            bool
	model          string
	flags          map[string]bool
	pack, core     int64  // -1 where the kernel does not say
	coresOfPackage uint32 // those that are in use; 0 where the kernel does not say
}

// cpus reads /proc/cpuinfo: blocks of lines "key : value", one block a logical processor. What it does not say of
// the topology, as on Arm, is in /sys/devices/system/cpu.
func (h *Host) cpus() (list []cpu) {
	const most = 16 << 20 // a processor takes 1.5 KiB
	b, err := readFile(h.root, "proc/cpuinfo", most)
	if err != nil {
		return nil
	}
	for block := range strings.SplitSeq(string(b), "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(line, ":")
			fields[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
		number, err := strconv.ParseUint(fields["processor"], 10, 16)
		if err != nil {
			continue // a block about something else, such as the board
		}
		topology := fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/", number)
		c := cpu{
			model: smbios.Text(fields["model name"]), flags: map[string]bool{},
			pack: h.topology(fields["physical id"], topology+"physical_package_id"),
			core: h.topology(fields["core id"], topology+"core_id"),
		}
		if n, err := strconv.ParseUint(fields["cpu cores"], 10, 16); err == nil {
			c.coresOfPackage = uint32(n)
		}
		flags, x86 := fields["flags"]
		c.x86 = x86
		for f := range strings.FieldsSeq(flags + " " + fields["Features"]) {
			c.flags[f] = true
		}
		list = append(list, c)
	}
	return list
}

func (h *Host) topology(field, file string) int64 {
	if n, err := strconv.ParseInt(field, 10, 32); err == nil {
		return n
	}
	if n, ok := h.number(file); ok {
		return n
	}
	return -1
}

// processors tells of the processor packages: by SMBIOS, whose counts include cores that are turned off, where it
// has all counts of every package, else by what the kernel sees.
func (h *Host) processors(cpus []cpu) []*generated.ProcessorInventory {
	list := h.processorsBySMBIOS()
	if list == nil {
		list = processorsByKernel(cpus)
	}
	common := commonFeatures(cpus)
	for _, p := range list {
		p.Feature = common
	}
	return list
}

func (h *Host) processorsBySMBIOS() (list []*generated.ProcessorInventory) {
	if h.tables == nil {
		return nil
	}
	for _, p := range h.tables.Processors() {
		if p.Cores == 0 || p.EnabledCores == 0 || p.Threads == 0 {
			return nil
		}
		list = append(list, &generated.ProcessorInventory{
			Socket: p.Socket, Model: p.Version,
			CoreCount: p.Cores, EnabledCoreCount: p.EnabledCores, ThreadCount: p.Threads,
		})
	}
	return list
}

// processorsByKernel counts what the kernel sees of each package. A core that the firmware turned off is not seen,
// so both counts of cores are of those that are in use. Without a topology there is nothing to tell.
func processorsByKernel(cpus []cpu) (list []*generated.ProcessorInventory) {
	packages := map[int64][]cpu{}
	var order []int64
	for _, c := range cpus {
		if c.pack < 0 || c.core < 0 {
			return nil
		}
		if packages[c.pack] == nil {
			order = append(order, c.pack)
		}
		packages[c.pack] = append(packages[c.pack], c)
	}
	slices.Sort(order)
	for _, id := range order {
		members := packages[id]
		cores := members[0].coresOfPackage
		if cores == 0 {
			seen := map[int64]bool{}
			for _, c := range members {
				seen[c.core] = true
			}
			cores = uint32(len(seen))
		}
		list = append(list, &generated.ProcessorInventory{
			Socket: fmt.Sprintf("Package %d", id), Model: members[0].model,
			CoreCount: cores, EnabledCoreCount: cores, ThreadCount: uint32(len(members)),
		})
	}
	return list
}

// commonFeatures are those that every logical processor has: a program may run on any of them.
func commonFeatures(cpus []cpu) (common []string) {
	for _, f := range features {
		if len(cpus) > 0 && !slices.ContainsFunc(cpus, func(c cpu) bool { return !c.flags[f] }) {
			common = append(common, f)
		}
	}
	return common
}

// parseKiB reads a number of KiB as /proc/meminfo writes it, "24684084 kB".
func parseKiB(s string) uint64 {
	number, ok := strings.CutSuffix(strings.TrimSpace(s), " kB")
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
