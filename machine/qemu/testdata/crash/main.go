// Command crash makes the kernel panic (Linux, Documentation/admin-guide/sysrq.rst).
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}
