// Package vbios holds the thin virtual BIOS: what runs inside a guest. It is a UEFI runtime driver of a few kilobytes, in
// a PCI option ROM that the machine monitor gives to the guest, and it asks BIOS.v for the guest's variables over a
// trapped UART. Its source is in driver/, in C; build.sh makes the ROM of it, and docs/vbios.md specifies what it says to
// the other side, which is package service/uefi.
package vbios

import _ "embed"

// ROM is the option ROM.
//
//go:embed vbios.rom
var ROM []byte
