package uefi

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"biosv/service/uefi/frame"
	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
)

// What a guest waits for: from its request on the socket to the answer, by the door, the gate with its policy, and the
// variables in the store, of which there are a hundred and more. The pace that a guest is held to is left out.
func BenchmarkGuest(b *testing.B) {
	gate, _ := guestOf(b, "demo", "demo")
	for i := range 100 {
		v := Variable{vendor, fmt.Sprintf("Variable%03d", i)}
		if err := gate.SetVariable(b.Context(), frame.BootServices, v, nvBSRT, make([]byte, 64)); err != nil {
			b.Fatal(err)
		}
	}
	update, err := os.ReadFile("../../smm/variable/keys/microsoft/updates/DBXUpdate.bin")
	if err != nil {
		b.Fatal(err)
	}
	signed, lists, err := auth.Parse(update)
	if err != nil {
		b.Fatal(err)
	}
	signed.CertData = nil // in setup mode nobody signs
	dbx := Variable{uuid.MustParse(efi.ImageSecurityDatabase.String()), "dbx"}
	if err := gate.SetVariable(b.Context(), frame.BootServices, dbx, nvBSRT|at, append(signed.Append(nil), lists...)); err != nil {
		b.Fatal(err)
	}
	s := New(Config{Services: gate, Phase: frame.OperatingSystem, Log: slog.New(slog.DiscardHandler)})
	s.pace.now = func() func() time.Time {
		now := time.Now()
		return func() time.Time { now = now.Add(time.Second); return now }
	}()
	path := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	served := make(chan error)
	go func() { served <- s.Listen(ctx, l) }()
	b.Cleanup(func() { stop(); <-served })
	conn, err := net.Dial("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	d := waiter{&driver{conn: conn, decoder: frame.NewDecoder(conn), phase: frame.OperatingSystem}, bufio.NewReaderSize(conn, 1<<17)}
	d.hello(b)
	for _, c := range []struct {
		name    string
		request frame.Request
	}{
		{"GetVariable", &frame.GetVariableRequest{Vendor: vendor, Name: "Variable050", Room: 1024}},
		{"GetVariable/dbx of Microsoft", &frame.GetVariableRequest{Vendor: dbx.Vendor, Name: dbx.Name, Room: 1 << 16}},
		{"GetVariable/that is not there", &frame.GetVariableRequest{Vendor: vendor, Name: "None", Room: 1024}},
		{"GetNextVariableName", &frame.GetNextVariableNameRequest{Vendor: vendor, Name: "Variable050", Room: 1024}},
		{"QueryVariableInfo", &frame.QueryVariableInfoRequest{Attributes: nvBSRT}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.wait(b, c.request)
			}
		})
	}
	b.Run("SetVariable", func(b *testing.B) {
		b.ReportAllocs()
		for n := byte(0); b.Loop(); n++ {
			d.wait(b, &frame.SetVariableRequest{Vendor: vendor, Name: "Variable050", Attributes: nvBSRT, Data: []byte{n}})
		}
	})
}

// waiter is a driver that takes an answer as bytes, from one flag to the next: what a guest does with it is the guest's
// time.
type waiter struct {
	*driver
	in *bufio.Reader
}

func (w waiter) wait(b *testing.B, r frame.Request) {
	w.sequence++
	f := frame.Frame{Kind: r.Kind(), Phase: w.phase, Session: w.session, Sequence: w.sequence, Body: frame.AppendBody(nil, r)}
	if _, err := w.conn.Write(f.AppendTo(nil)); err != nil {
		b.Fatal(err)
	}
	const flag = 0x7e
	for range 2 {
		if _, err := w.in.ReadSlice(flag); err != nil {
			b.Fatal(err)
		}
	}
}
