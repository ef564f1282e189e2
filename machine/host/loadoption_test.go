package host

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
)

// option makes a load option; without nodes its device path is the end alone.
func option(attributes uint32, description string, nodes ...[]byte) []byte {
	var path []byte
	for _, n := range append(nodes, node(0x7f, 0xff, nil)) {
		path = append(path, n...)
	}
	b := binary.LittleEndian.AppendUint32(nil, attributes)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	b = append(b, words(utf16.Encode([]rune(description+"\x00"))...)...)
	return append(b, path...)
}

func node(kind, sub byte, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{kind, sub}, uint16(4+len(data))), data...)
}

// Nodes of network options: an adapter's, of 32 bytes for the address and one for its kind, and what goes over it.
var (
	adapter = node(3, 11, append([]byte{0x52, 0x54, 0, 1, 2, 3}, make([]byte, 27)...))
	ipv4    = node(3, 12, make([]byte, 23))
	ipv6    = node(3, 13, make([]byte, 56))
	uri     = node(3, 24, []byte("https://boot.example.com/"))
	pci     = node(1, 1, []byte{0, 2})
)

func TestLoadOptionsTellTheirNetwork(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name          string
		option        []byte
		description   string
		mac, protocol string
	}{
		{"a disk", option(1, "Debian", pci), "Debian", "", ""},
		{"PXE over IPv4", option(1, "Net", pci, adapter, ipv4), "Net", "52:54:00:01:02:03", "PXEv4"},
		{"PXE over IPv6", option(1, "Net", pci, adapter, ipv6), "Net", "52:54:00:01:02:03", "PXEv6"},
		{"HTTP", option(1, "Net", pci, adapter, ipv4, uri), "Net", "52:54:00:01:02:03", "HTTP"},
		{"an adapter alone", option(1, "Net", adapter), "Net", "52:54:00:01:02:03", ""},
		{"an address without an adapter", option(1, "?", ipv4), "?", "", ""},
		{"an adapter's node that is too short", option(1, "?", node(3, 11, []byte{1, 2, 3})), "?", "", ""},
		{"a second path does not count", append(option(1, "x", pci), adapter...), "x", "", ""},
		{"the loader's own data behind it", append(option(1, "x", pci), 0xde, 0xad), "x", "", ""},
		{"letters beyond the first plane", option(1, "ä😀"), "ä😀", "", ""},
		{"what is not text", option(1, "a\x1b[2Jb\ufffe"), "a[2Jb", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			o, err := parseLoadOption(row.option)
			if err != nil {
				t.Fatal(err)
			}
			if o.Description != row.description || o.MAC.String() != row.mac || o.Protocol != row.protocol {
				t.Errorf("got %q %q %q", o.Description, o.MAC, o.Protocol)
			}
		})
	}
}

func TestLoadOptionsThatAreDamagedAreRefused(t *testing.T) {
	t.Parallel()
	whole := option(1, "Net", pci, adapter, ipv4)
	for n := range whole {
		if _, err := parseLoadOption(whole[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes, it was read", n, len(whole))
		}
	}
	paths := len(whole) - len(pci) - len(adapter) - len(ipv4) - 4
	for _, length := range []byte{0, 3, 200} {
		damaged := append([]byte(nil), whole...)
		damaged[paths+2] = length
		if _, err := parseLoadOption(damaged); err == nil || !strings.Contains(err.Error(), "a node at byte 0") {
			t.Errorf("a node of length %d: %v", length, err)
		}
	}
}

func FuzzLoadOption(f *testing.F) {
	for _, name := range []string{"Boot0000", "Boot0001", "Boot0003", "Boot0006"} {
		b, err := os.ReadFile(filepath.Join(captureDir("ovmf"), efivars, name+"-"+global))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[4:])
	}
	f.Add(option(1, "Net", pci, adapter, ipv4, uri))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseLoadOption(b)
		if err == nil && o.Protocol != "" && len(o.MAC) != 6 {
			t.Errorf("%s over the adapter %q", o.Protocol, o.MAC)
		}
		if len(o.Description) > 256 || strings.ContainsFunc(o.Description, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is not what an answer may bear", o.Description)
		}
	})
}
