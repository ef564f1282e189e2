// Command standin stands for QEMU in a guest that is itself one, so that biosv in there has a virtual machine without
// that anything is emulated twice. It is started by biosv as QEMU is, in the run folder: it tells its process, has a
// monitor, and says on the socket of the thin virtual BIOS what a guest was recorded to say, again and again. With each
// answer to a SetVariable it writes a line to the console of the guest that it runs in:
//
//	replay: NUMBER STATUS
//
// NUMBER counts the frames of biosv/internal/powercut.Storm.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"biosv/internal/powercut"
	"biosv/service/uefi/frame"
)

func main() {
	console, err := os.OpenFile("/dev/ttyS0", os.O_WRONLY, 0)
	if err == nil {
		err = run(console)
	}
	fmt.Fprintln(os.Stderr, "standin:", err)
	os.Exit(1)
}

func run(console *os.File) error {
	if err := os.WriteFile("pid", fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return err
	}
	monitor, err := net.Listen("unix", "qmp")
	if err != nil {
		return err
	}
	go accept(monitor)
	frames, err := powercut.Storm()
	if err != nil {
		return err
	}
	for {
		// What biosv that dies and starts again does not answer is said again to the next one, as the driver would.
		if err := replay(console, frames); err != nil {
			fmt.Fprintln(os.Stderr, "standin:", err)
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// accept answers as the monitor of a machine that runs.
func accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			fmt.Fprintln(conn, `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}`)
			for commands := json.NewDecoder(conn); ; {
				var command struct{ Execute string }
				if commands.Decode(&command) != nil {
					return
				}
				answer := `{"return": {}}`
				if command.Execute == "query-status" {
					answer = `{"return": {"status": "running"}}`
				}
				fmt.Fprintln(conn, answer)
				if command.Execute == "quit" {
					os.Exit(0)
				}
			}
		}()
	}
}

// replay says the frames, over and over, on one connection.
func replay(console *os.File, frames []*frame.Frame) error {
	conn, err := net.Dial("unix", "vbios")
	if err != nil {
		return err
	}
	defer conn.Close()
	d := frame.NewDecoder(conn)
	sequence := uint32(0)
	ask := func(f frame.Frame) (frame.Answer, error) {
		sequence++
		f.Sequence = sequence
		if _, err := conn.Write(f.AppendTo(nil)); err != nil {
			return nil, err
		}
		got, err := d.Next()
		if err != nil {
			return nil, err
		}
		return frame.ParseAnswer(got.Kind, got.Body)
	}
	a, err := ask(frame.Frame{Kind: frame.Hello, Body: frame.AppendBody(nil, &frame.HelloRequest{Lowest: frame.Version, Highest: frame.Version})})
	if err != nil {
		return err
	}
	hello, ok := a.(*frame.HelloAnswer)
	if !ok {
		return fmt.Errorf("hello is answered by %+v", a)
	}
	for {
		for i, f := range frames {
			a, err := ask(frame.Frame{Kind: f.Kind, Phase: f.Phase, Session: hello.Session, Body: f.Body})
			if err != nil {
				return err
			}
			if refused, ok := a.(*frame.RefusalAnswer); ok {
				return fmt.Errorf("frame %d, %s, is refused: %d", i, f.Kind, refused.Reason)
			}
			if s, ok := a.(*frame.StatusAnswer); ok && f.Kind == frame.SetVariable {
				if _, err := console.WriteString(strings.Join([]string{"replay:", fmt.Sprint(i), s.Status.Error()}, " ") + "\n"); err != nil {
					return err
				}
			}
		}
	}
}
