package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a storm writes: Storm0 to Storm3 in turn, each value with the number of the write, 16 times, and after each
// its number is appended to StormLog.
const (
	stormNames = 4
	stormTimes = 16
	everywhere = 7
	appends    = 0x40
)

// storm writes, and says after each write "NUMBER NAME ok MICROSECONDS", or the error's name for ok.
func storm(vendor string) error {
	files := map[string]*os.File{}
	for i := uint32(1); ; i++ {
		number := binary.LittleEndian.AppendUint32(nil, i)
		for _, w := range []struct {
			name       string
			attributes uint32
			data       []byte
		}{
			{fmt.Sprintf("Storm%d", i%stormNames), everywhere, bytes.Repeat(number, stormTimes)},
			{"StormLog", everywhere | appends, number},
		} {
			start := time.Now()
			outcome := "ok"
			err := stormWrite(files, w.name+"-"+vendor, append(binary.LittleEndian.AppendUint32(nil, w.attributes), w.data...))
			if errno := syscall.Errno(0); errors.As(err, &errno) {
				outcome = unix.ErrnoName(errno)
			} else if err != nil {
				return err
			}
			fmt.Println(i, w.name, outcome, time.Since(start).Microseconds())
		}
	}
}

// stormWrite writes in one write, which is one SetVariable.
func stormWrite(files map[string]*os.File, name string, content []byte) error {
	f := files[name]
	if f == nil {
		if err := allow(dir + name); err != nil {
			return err
		}
		var err error
		if f, err = os.OpenFile(dir+name, os.O_WRONLY|os.O_CREATE, 0o644); err != nil {
			return err
		}
		files[name] = f
	}
	_, err := f.Write(content)
	return err
}

func median(name, ms string) error {
	most, err := strconv.Atoi(ms)
	if err != nil {
		return err
	}
	f, err := os.Open(dir + name)
	if err != nil {
		return err
	}
	defer f.Close()
	var took []time.Duration
	content := make([]byte, 64<<10)
	for began := time.Now(); time.Since(began) < time.Duration(most)*time.Millisecond; {
		start := time.Now()
		if n, err := f.ReadAt(content, 0); n == 0 {
			return err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	fmt.Println(len(took), took[len(took)/2].Microseconds(), took[len(took)-1].Microseconds())
	return nil
}
