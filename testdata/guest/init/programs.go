package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// program runs in the background.
type program struct {
	process *os.Process
	keep    bool          // start it again when it ends
	ended   chan struct{} // closed when it is not started again
}

const (
	stopTime  = 20 * time.Second
	shortLife = time.Second            // a program that lived no longer is not started again at once
	pause     = 200 * time.Millisecond // but after this
)

// run runs a program to its end.
func (g *guest) run(args []string) error {
	wait, _, err := g.launch("|", args)
	if err != nil {
		return err
	}
	return wait()
}

// launch starts a program and repeats what it says, line by line after a prefix.
func (g *guest) launch(prefix string, args []string) (wait func() error, p *os.Process, err error) {
	output, input, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd := &exec.Cmd{
		Path: args[0], Args: args, Dir: "/", Stdout: input, Stderr: input,
		Env:         []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"},
		SysProcAttr: &syscall.SysProcAttr{Chroot: g.root, Setpgid: true},
	}
	err = cmd.Start()
	input.Close()
	if err != nil {
		output.Close()
		return nil, nil, err
	}
	said := make(chan struct{})
	go func() {
		defer close(said)
		defer output.Close()
		for lines := bufio.NewReader(output); ; {
			text, err := lines.ReadString('\n')
			if n := len(text); n > 0 && text[n-1] == '\n' {
				text = text[:n-1]
			}
			if err == nil || text != "" {
				g.line(prefix + " " + text)
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					g.say("read the output of %s: %v", args[0], err)
				}
				return
			}
		}
	}()
	return func() error {
		err := cmd.Wait()
		<-said
		return err
	}, cmd.Process, nil
}

// start runs a program in the background, under a name that its output bears.
func (g *guest) start(args []string, keep bool) error {
	name, args := args[0], args[1:]
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.programs[name] != nil {
		return fmt.Errorf("there is a program %s already", name)
	}
	wait, process, err := g.launch(name+":", args)
	if err != nil {
		return err
	}
	p := &program{process: process, keep: keep, ended: make(chan struct{})}
	g.programs[name] = p
	go g.attend(name, p, wait, args)
	return nil
}

// attend waits for a program, and starts it again where that is wanted.
func (g *guest) attend(name string, p *program, wait func() error, args []string) {
	for {
		began := time.Now()
		outcome := "it ended"
		if err := wait(); err != nil {
			outcome = err.Error()
		}
		if time.Since(began) < shortLife {
			time.Sleep(pause)
		}
		g.mu.Lock()
		var err error
		again := p.keep
		if again {
			if wait, p.process, err = g.launch(name+":", args); err != nil {
				again = false
				outcome += "; start it again: " + err.Error()
			}
		}
		if !again {
			delete(g.programs, name)
		}
		g.mu.Unlock()
		g.say("%s: %s", name, outcome)
		if !again {
			close(p.ended)
			return
		}
	}
}

func (g *guest) program(name string) (*program, error) {
	if p := g.programs[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no program %s runs", name)
}

// kill sends a signal: KILL unless another is named.
func (g *guest) kill(args []string) error {
	signal := unix.SIGKILL
	if len(args) > 1 {
		if signal = unix.SignalNum("SIG" + args[1]); signal == 0 {
			return fmt.Errorf("there is no signal %s", args[1])
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p, err := g.program(args[0])
	if err != nil {
		return err
	}
	return p.process.Signal(signal)
}

// stop ends a program in order, and waits for that.
func (g *guest) stop(args []string) error {
	g.mu.Lock()
	p, err := g.program(args[0])
	if err == nil {
		p.keep = false
		if err = p.process.Signal(unix.SIGTERM); errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
	}
	g.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTime):
		_ = p.process.Kill() // it is on its way out, one way or the other
		return fmt.Errorf("it did not end within %s", stopTime)
	}
}
