package libvirt

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/beevik/etree"
)

// mostDefinition bounds a definition, in bytes; the longest that people have are of some 100 kB.
const mostDefinition = 1 << 20

// definition is a machine as libvirt describes it (libvirt, "Domain XML format").
type definition struct{ *etree.Document }

// parse reads a definition. What libvirt writes is read and written again as it was.
func parse(text string) (*definition, error) {
	if len(text) > mostDefinition {
		return nil, fmt.Errorf("the definition has %d bytes; at most %d are read", len(text), mostDefinition)
	}
	d := etree.NewDocument()
	d.WriteSettings.AttrSingleQuote = true
	if err := d.ReadFromString(text); err != nil {
		return nil, fmt.Errorf("read the definition: %w", err)
	}
	if root := d.Root(); root == nil || root.Tag != "domain" {
		return nil, fmt.Errorf("read the definition: it is not that of a domain")
	} else if len(d.ChildElements()) > 1 {
		return nil, fmt.Errorf("read the definition: something follows it")
	}
	return &definition{d}, nil
}

// text is indented as libvirt does, so that a difference shows what was changed and nothing else.
func (d *definition) text() (string, error) {
	d.Indent(2)
	return d.WriteToString()
}

// copied gives another definition of the same text.
func (d *definition) copied() *definition { return &definition{d.Copy()} }

// child gives an element below the root by its path; nil where there is none.
func (d *definition) child(names ...string) *etree.Element { return below(d.Root(), names...) }

func below(e *etree.Element, names ...string) *etree.Element {
	for _, n := range names {
		if e == nil {
			return nil
		}
		e = e.SelectElement(n)
	}
	return e
}

func text(e *etree.Element) string {
	if e == nil {
		return ""
	}
	return strings.TrimSpace(e.Text())
}

func attribute(e *etree.Element, name string) string {
	if e == nil {
		return ""
	}
	return e.SelectAttrValue(name, "")
}

func (d *definition) uuid() string { return text(d.child("uuid")) }

// memory is in MiB.
func (d *definition) memory() uint32 {
	e := d.child("memory")
	n, err := strconv.ParseUint(text(e), 10, 64)
	if err != nil {
		return 0
	}
	if unit := attribute(e, "unit"); unit == "KiB" || unit == "" { // libvirt writes no other
		n /= 1024
	}
	return uint32(min(n, 1<<32-1))
}

// processors is how many the machine has when it starts.
func (d *definition) processors() uint32 {
	e := d.child("vcpu")
	count := text(e)
	if current := attribute(e, "current"); current != "" {
		count = current
	}
	n, err := strconv.ParseUint(count, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// devices of a kind, such as interface.
func (d *definition) devices(kind string) []*etree.Element {
	devices := d.child("devices")
	if devices == nil {
		return nil
	}
	return devices.SelectElements(kind)
}

// flash is the file of the machine's variables, and the one that libvirt makes it from where it is missing.
func (d *definition) flash() (path, template string) {
	e := d.child("os", "nvram")
	path = text(e)
	if s := below(e, "source"); s != nil {
		path = attribute(s, "file")
	}
	return path, attribute(e, "template")
}

// unfit says why a machine cannot be attached; empty where it can.
func (d *definition) unfit() string {
	loader, nvram := d.child("os", "loader"), d.child("os", "nvram")
	path, _ := d.flash()
	switch {
	case d.metadata() != nil:
		return "its definition has what an attachment adds already, of a biosv that does not know it any more: take that away with virsh edit"
	case !slices.Contains([]string{"qemu", "kvm"}, attribute(d.Root(), "type")):
		return fmt.Sprintf("it is of type %q, and only qemu and kvm are known here", attribute(d.Root(), "type"))
	case attribute(d.child("os", "type"), "arch") != "x86_64" || !strings.Contains(attribute(d.child("os", "type"), "machine"), "q35"):
		return "its machine is none of QEMU's q35 for x86_64"
	case attribute(loader, "type") != "pflash":
		return "it has no UEFI firmware in flash (<loader type='pflash'>)"
	case attribute(loader, "stateless") == "yes":
		return "its firmware keeps no variables (<loader stateless='yes'>)"
	case path == "" || d.child("devices") == nil:
		return "its definition names no file of variables (<nvram>)"
	case attribute(nvram, "format") == "qcow2" || attribute(loader, "format") == "qcow2":
		return "its flash is in the format qcow2, and only raw is rendered here"
	}
	for _, s := range d.devices("serial") {
		t := below(s, "target")
		if attribute(t, "port") == strconv.Itoa(port) && attribute(t, "type") != "pci-serial" {
			return fmt.Sprintf("its serial port %d is taken, on which the thin virtual BIOS asks", port)
		}
	}
	return ""
}

// chosen says whether the machine's firmware is chosen by libvirt, which takes no other file of variables then.
func (d *definition) chosen() bool { return attribute(d.child("os"), "firmware") == "efi" }

// The nodes of flash on a command line of QEMU, as libvirt names them; and what makes it flash that only system management
// mode writes.
const (
	codeNode      = "libvirt-pflash0-storage"
	variablesNode = "libvirt-pflash1-storage"
	secureFlash   = "driver=cfi.pflash01,property=secure,value=on"
)

// name names the firmware that libvirt chose, as its command line of QEMU tells.
func (d *definition) name(commandLine string) {
	system := d.child("os")
	system.RemoveAttr("firmware")
	if e := below(system, "firmware"); e != nil {
		remove(e)
	}
	if below(system, "loader") == nil {
		loader := etree.NewElement("loader")
		loader.CreateAttr("readonly", "yes")
		if strings.Contains(commandLine, secureFlash) {
			loader.CreateAttr("secure", "yes")
		}
		loader.CreateAttr("type", "pflash")
		loader.SetText(fileOf(commandLine, codeNode))
		insertAfter(below(system, "type"), loader)
	}
	if below(system, "nvram") == nil {
		nvram := etree.NewElement("nvram")
		nvram.SetText(fileOf(commandLine, variablesNode))
		insertAfter(below(system, "loader"), nvram)
	}
	if attribute(below(system, "loader"), "secure") == "yes" {
		appendOnce(d.ensure("features", "os"), "smm").CreateAttr("state", "on")
	}
}

var nodeArgument = regexp.MustCompile(`-blockdev\s+'((?:[^']|'\\'')*)'`)

// fileOf gives the file of a node on a command line of QEMU; empty where there is none.
func fileOf(commandLine, node string) string {
	for _, found := range nodeArgument.FindAllStringSubmatch(commandLine, -1) {
		var n struct {
			Name string `json:"node-name"`
			File string `json:"filename"`
		}
		if json.Unmarshal([]byte(unquoted(found[1])), &n) == nil && n.Name == node {
			return n.File
		}
	}
	return ""
}

// unquoted is a word of the shell within single quotes.
func unquoted(word string) string { return strings.ReplaceAll(word, `'\''`, "'") }

// bootInterfaces are the names of the network interfaces that libvirt gives a bootindex, which it does not tell when it is
// asked for a command line. libvirt numbers those that have no name of their own.
func (d *definition) bootInterfaces() (aliases []string) {
	network := slices.ContainsFunc(below(d.Root(), "os").SelectElements("boot"), func(b *etree.Element) bool { return attribute(b, "dev") == "network" })
	for i, e := range d.devices("interface") {
		if below(e, "boot") == nil && (!network || i > 0) {
			continue
		}
		alias := attribute(below(e, "alias"), "name")
		if alias == "" {
			alias = "net" + strconv.Itoa(i)
		}
		aliases = append(aliases, alias)
	}
	return aliases
}

// end says what the machine's owner wanted of an end: on_reboot, on_poweroff or on_crash.
func (d *definition) end(which string) string { return text(d.child(which)) }

// addresses are those of the network interfaces.
func (d *definition) addresses() (list []string) {
	for _, i := range d.devices("interface") {
		if mac := attribute(below(i, "mac"), "address"); mac != "" {
			list = append(list, mac)
		}
	}
	return list
}
