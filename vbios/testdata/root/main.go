// Command root is what the root of a guest can do, beside asking for variables as everybody does: speak to the port of
// the thin virtual BIOS itself, flood it, put the machine to sleep in ways that it ought not to have, and start another
// kernel.
//
//	root say PHASE REQUEST...   says a request in a frame of its own, and prints the answer (see request)
//	root wake PHASE REQUEST...  has the machine's firmware wake from S3 to a program that says a request, and resets it
//	root flood PORT KIND TIME   writes to a serial port without a pause: random, half, huge or requests
//	root kexec KERNEL INITRD ARGUMENTS
//	root hibernate DEVICE       writes the memory to a swap partition, and turns the machine off
//	root resume DEVICE          takes it from there, if there is any
//	root count                  counts tenths of seconds, and says when one was long
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 3 && args[0] == "say":
		return say(args[1], args[2:])
	case len(args) >= 3 && args[0] == "wake":
		return wake(args[1], args[2:])
	case len(args) == 4 && args[0] == "flood":
		return flood(args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "kexec":
		return startKernel(args[1], args[2], args[3])
	case len(args) == 2 && args[0] == "hibernate":
		return hibernate(args[1])
	case len(args) == 2 && args[0] == "resume":
		return resume(args[1])
	case len(args) == 1 && args[0] == "count":
		count()
	}
	return fmt.Errorf("%q is no command", args)
}

// count says each second that it is there, and how long the longest pause was that it did not intend.
func count() {
	longest, last := time.Duration(0), time.Now()
	for i := 1; ; i++ {
		time.Sleep(100 * time.Millisecond)
		now := time.Now()
		longest, last = max(longest, now.Sub(last)), now
		if i%10 == 0 {
			fmt.Printf("alive, longest %d ms\n", longest.Milliseconds())
			longest = 0
		}
	}
}
