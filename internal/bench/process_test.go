//go:build bench

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cores gives a core for the server and one for the loader.
func cores(t *testing.T) (server, loader int) {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	var all []int
	for i := range 64 * len(set) {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	if len(all) < 2 {
		t.Fatal("two cores are needed: one for the server, one for the loader")
	}
	return all[0], all[1]
}

// on runs what starts a process, which inherits the core.
func on(t *testing.T, core int, start func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	set.Set(core)
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
	}()
	start()
}

// pinSelf puts all threads of this process on a core; those that come later inherit it.
func pinSelf(t *testing.T, core int) {
	t.Helper()
	var set unix.CPUSet
	set.Set(core)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH {
			t.Fatal(err)
		}
	}
}

// cpuTime is what a process and its threads have used so far (proc(5): utime and stime), in steps of 10 ms.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100) // USER_HZ
}

// peakMemory is the most memory that a process had resident (proc(5): VmHWM), in MiB.
func peakMemory(t *testing.T, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatal("the kernel does not tell VmHWM")
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n / 1024
}

// here is the machine that figures were taken on.
func here() string {
	model := "a processor without a name"
	text, _ := os.ReadFile("/proc/cpuinfo") // a figure is a figure without its name
	if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(text); m != nil {
		model = string(m[1])
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	busy, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%s, Linux %s, %s; load average at the end %s", model, strings.TrimSpace(string(release)), runtime.Version(), busy)
}

// spread is a median with the least and the greatest.
type spread struct{ median, least, most float64 }

func spreadOf(values []float64) spread {
	slices.Sort(values)
	return spread{values[len(values)/2], values[0], values[len(values)-1]}
}

func report(t *testing.T, cases []*testCase, service, peer, immediate int) {
	t.Helper()
	fmt.Printf("\n%s\n%d connections, TLS 1.3, SOAP 1.2; server and loader on a core each; %d rounds of %s, interleaved\n\n",
		here(), connections, *rounds, *turn)
	fmt.Printf("%-28s %26s %11s %8s %8s %9s %9s\n", "", "CPU µs/request", "requests/s", "request", "answer", "allocs", "allocated")
	fmt.Printf("%-28s %26s %11s %8s %8s %9s %9s\n", "", "median (least - most)", "median", "bytes", "bytes", "/request", "bytes")
	for _, c := range cases {
		var cpu, rate, mallocs, bytes []float64
		for _, m := range c.turns {
			n := float64(m.requests)
			cpu = append(cpu, float64(m.cpu.Nanoseconds())/1000/n)
			rate = append(rate, n/m.elapsed.Seconds())
			mallocs = append(mallocs, float64(m.mallocs)/n)
			bytes = append(bytes, float64(m.bytes)/n)
		}
		s := spreadOf(cpu)
		first := c.loader.connections[0]
		fmt.Printf("%-28s %10.1f (%5.1f - %5.1f) %11.0f %8d %8d", c.name, s.median, s.least, s.most, spreadOf(rate).median, len(first.requests[0]), first.answer)
		if c.metrics != "" {
			fmt.Printf(" %9.1f %9.0f", spreadOf(mallocs).median, spreadOf(bytes).median)
		}
		fmt.Println()
	}
	fmt.Printf("\nOf the %d attributes of SetAttributes %d change at once and %d become pending; each request changes state and is on\n", changed, immediate, changed-immediate)
	fmt.Printf("disk (%s) before it is answered; each connection changes a domain of its own. Bytes are those of HTTP.\n", filepath.Clean(os.TempDir()))
	fmt.Printf("Peak memory: biosv %.0f MiB, net/http %.0f MiB.\n\n", peakMemory(t, service), peakMemory(t, peer))
}
