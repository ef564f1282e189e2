package libvirt

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/beevik/etree"
	"github.com/rogpeppe/go-internal/diff"
)

// What an attachment adds to a definition is told by these.
const (
	namespace     = "urn:biosv:libvirt:1"
	prefix        = "biosv"
	serialAlias   = "ua-biosv"     // libvirt keeps names of users' own that begin like this
	eventsID      = "biosv-events" // of the chardev
	romID         = "biosv-rom"    // of the device, where no interface bears the ROM
	port          = 2              // of the serial ports: 0x3e8
	qemuNamespace = "http://libvirt.org/schemas/domain/qemu/1.0"
)

// The files of a machine that is attached, in its folder.
const (
	fileFlash    = "variables.fd"
	fileCommands = "events.in"
	fileEvents   = "events.out"
	socketVBIOS  = "vbios"
	// fileNone is never there: libvirt would make the flash of it where nobody rendered it, and says its name when it
	// refuses the start.
	fileNone = "the-hook-of-biosv-did-not-run"
)

// parts are what an attachment adds to a definition.
type parts struct {
	service string   // the folder of the service
	domain  string   // its name there
	rom     string   // path of the thin virtual BIOS
	aliases []string // of the devices that libvirt would give a bootindex
}

func (p *parts) at(file string) string { return filepath.Join(p.service, p.domain, file) }

// ends are what becomes of a process when the guest resets, turns itself off or panics: it ends, and BIOS.v sees to it
// whether there is another one. libvirt would reset the process.
var ends = map[string]map[string]string{
	"on_reboot":   {"restart": "destroy"},
	"on_poweroff": {"restart": "destroy"},
	"on_crash":    {"restart": "destroy", "coredump-restart": "coredump-destroy"},
}

// attach changes a definition so that its firmware asks BIOS.v. One boot is one process, with a flash of its own.
func (d *definition) attach(p *parts) {
	root := d.Root()
	m := etree.NewElement(prefix + ":attached")
	m.CreateAttr("xmlns:"+prefix, namespace)
	m.CreateAttr("folder", p.service)
	m.CreateAttr("domain", p.domain)
	appendTo(d.ensure("metadata", "uuid"), m)

	nvram := d.child("os", "nvram")
	for _, c := range slices.Clone(nvram.Child) {
		nvram.RemoveChild(c)
	}
	nvram.Attr = nil
	nvram.CreateAttr("template", p.at(fileNone))
	nvram.SetText(p.at(fileFlash))

	for _, which := range []string{"on_poweroff", "on_reboot", "on_crash"} {
		if e := d.child(which); e != nil {
			if instead, ok := ends[which][text(e)]; ok {
				e.SetText(instead)
			}
		}
	}
	appendOnce(d.ensure("pm", "on_crash"), "suspend-to-mem").CreateAttr("enabled", "no")

	serial := etree.NewElement("serial")
	serial.CreateAttr("type", "unix")
	source := appendTo(serial, etree.NewElement("source"))
	source.CreateAttr("mode", "connect")
	source.CreateAttr("path", p.at(socketVBIOS))
	reconnect := appendTo(source, etree.NewElement("reconnect"))
	reconnect.CreateAttr("enabled", "yes")
	reconnect.CreateAttr("timeout", "1") // s
	target := appendTo(serial, etree.NewElement("target"))
	target.CreateAttr("type", "isa-serial")
	target.CreateAttr("port", strconv.Itoa(port))
	appendTo(serial, etree.NewElement("alias")).CreateAttr("name", serialAlias)
	devices := d.child("devices")
	if all := devices.SelectElements("serial"); len(all) > 0 {
		insertAfter(all[len(all)-1], serial)
	} else {
		appendTo(devices, serial)
	}

	commandLine := []string{"-chardev", "pipe,id=" + eventsID + ",path=" + escaped(strings.TrimSuffix(p.at(fileEvents), ".out")), "-mon", "chardev=" + eventsID + ",mode=control"}
	if i := d.carrier(); i != nil {
		rom := below(i, "rom")
		if rom == nil {
			rom = etree.NewElement("rom")
			insertAfter(below(i, "model"), rom)
		}
		rom.Attr = nil
		rom.CreateAttr("file", p.rom)
	} else {
		commandLine = append(commandLine, "-device", p.romDevice())
	}
	root.CreateAttr("xmlns:qemu", qemuNamespace)
	line := appendOnce(root, "qemu:commandline")
	for _, word := range commandLine {
		appendTo(line, etree.NewElement("qemu:arg")).CreateAttr("value", word)
	}
	if len(p.aliases) == 0 {
		return
	}
	override := appendOnce(root, "qemu:override")
	for _, alias := range slices.Compact(slices.Sorted(slices.Values(p.aliases))) {
		front := appendOnce(deviceOf(override, alias), "qemu:frontend")
		property := appendTo(front, etree.NewElement("qemu:property"))
		property.CreateAttr("name", "bootindex")
		property.CreateAttr("type", "remove")
	}
}

// romDevice is the device that bears the ROM where no interface does. QEMU makes devices that are given as JSON in their
// order, and so this one when libvirt's own have their places on the bus.
func (p *parts) romDevice() string {
	return fmt.Sprintf(`{"driver":"pci-testdev","id":%q,"romfile":%q}`, romID, p.rom)
}

// escaped is a path in an option of QEMU, in which a comma is written as two.
func escaped(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// deviceOf gives the override of a device.
func deviceOf(override *etree.Element, alias string) *etree.Element {
	for _, e := range override.SelectElements("qemu:device") {
		if attribute(e, "alias") == alias {
			return e
		}
	}
	e := etree.NewElement("qemu:device")
	e.CreateAttr("alias", alias)
	return appendTo(override, e)
}

// carrier is the interface that bears the ROM of the thin virtual BIOS beside what it is for; nil where none can. The
// firmware has a driver for virtio of its own; a card of another model has it in its own ROM.
func (d *definition) carrier() *etree.Element {
	for _, i := range d.devices("interface") {
		if m := attribute(below(i, "model"), "type"); (m == "virtio" || m == "virtio-non-transitional") && attribute(below(i, "rom"), "enabled") != "no" {
			return i
		}
	}
	return nil
}

// metadata is the mark of an attachment; nil where there is none.
func (d *definition) metadata() *etree.Element {
	m := d.child("metadata")
	if m == nil {
		return nil
	}
	for _, e := range m.ChildElements() {
		if e.Tag == "attached" && e.NamespaceURI() == namespace {
			return e
		}
	}
	return nil
}

// detach takes away what attach added, and gives back what it replaced, as the original has it. Whatever else has changed
// since stays. It says whether the flash was still ours.
func (d *definition) detach(original *definition, p *parts) (ours bool) {
	root := d.Root()
	if m := d.metadata(); m != nil {
		parent := m.Parent()
		remove(m)
		dropEmpty(parent, original.child("metadata") != nil)
	}
	if path, _ := d.flash(); path == p.at(fileFlash) {
		ours = true
		replace(d.child("os", "nvram"), original.child("os", "nvram"))
		d.choose(original)
	}
	for which, instead := range ends {
		now, was := d.child(which), original.child(which)
		if now != nil && was != nil && instead[text(was)] == text(now) {
			now.SetText(text(was))
		}
	}
	if pm := d.child("pm"); attribute(below(pm, "suspend-to-mem"), "enabled") == "no" {
		if was := original.child("pm", "suspend-to-mem"); was != nil {
			replace(below(pm, "suspend-to-mem"), was)
		} else {
			remove(below(pm, "suspend-to-mem"))
			dropEmpty(pm, original.child("pm") != nil)
		}
	}
	for _, kind := range []string{"serial", "console"} { // libvirt makes a console of the first serial port
		for _, s := range d.devices(kind) {
			if attribute(below(s, "source"), "path") == p.at(socketVBIOS) || attribute(below(s, "alias"), "name") == serialAlias {
				remove(s)
			}
		}
	}
	for _, i := range d.devices("interface") {
		rom := below(i, "rom")
		if attribute(rom, "file") != p.rom {
			continue
		}
		mac := attribute(below(i, "mac"), "address")
		was := slices.IndexFunc(original.devices("interface"), func(o *etree.Element) bool { return attribute(below(o, "mac"), "address") == mac })
		if was >= 0 && below(original.devices("interface")[was], "rom") != nil {
			replace(rom, below(original.devices("interface")[was], "rom"))
		} else {
			remove(rom)
		}
	}
	if line := below(root, "qemu:commandline"); line != nil {
		words := line.SelectElements("qemu:arg")
		for i := 0; i+1 < len(words); i++ {
			value := attribute(words[i+1], "value")
			if strings.Contains(value, "id="+eventsID+",") || strings.HasPrefix(value, "chardev="+eventsID+",") || value == p.romDevice() {
				remove(words[i])
				remove(words[i+1])
				i++
			}
		}
		dropEmpty(line, below(original.Root(), "qemu:commandline") != nil)
	}
	d.restoreBootIndex(original)
	if below(root, "qemu:commandline") == nil && below(root, "qemu:override") == nil && original.Root().SelectAttr("xmlns:qemu") == nil {
		root.RemoveAttr("xmlns:qemu")
	}
	return ours
}

// choose leaves the firmware to libvirt again, where the original does.
func (d *definition) choose(original *definition) {
	was := original.child("os")
	if !original.chosen() {
		return
	}
	system := d.child("os")
	system.CreateAttr("firmware", "efi")
	if e := below(was, "firmware"); e != nil && below(system, "firmware") == nil {
		insertAfter(below(system, "type"), e.Copy())
	}
	if e := below(system, "loader"); e != nil && below(was, "loader") == nil {
		remove(e)
	}
	if e := d.child("features", "smm"); e != nil && original.child("features", "smm") == nil {
		remove(e)
		dropEmpty(d.child("features"), original.child("features") != nil)
	}
}

// restoreBootIndex takes away the overrides of bootindex that the original has not.
func (d *definition) restoreBootIndex(original *definition) {
	override := below(d.Root(), "qemu:override")
	if override == nil {
		return
	}
	had := original.withoutBootIndex()
	for _, device := range override.SelectElements("qemu:device") {
		front := below(device, "qemu:frontend")
		if front == nil || slices.Contains(had, attribute(device, "alias")) {
			continue
		}
		for _, p := range front.SelectElements("qemu:property") {
			if attribute(p, "name") == "bootindex" && attribute(p, "type") == "remove" {
				remove(p)
			}
		}
		dropEmpty(front, false)
		dropEmpty(device, false)
	}
	dropEmpty(override, below(original.Root(), "qemu:override") != nil)
}

// withoutBootIndex are the aliases of devices whose bootindex is overridden.
func (d *definition) withoutBootIndex() (aliases []string) {
	for _, e := range d.Root().FindElements("qemu:override/qemu:device") {
		if e.FindElement("qemu:frontend/qemu:property[@name='bootindex']") != nil {
			aliases = append(aliases, attribute(e, "alias"))
		}
	}
	return aliases
}

// missing says what of an attachment is not in a definition, for people; empty where all is.
func (d *definition) missing(p *parts) (gone []string) {
	lacks := func(is bool, what string) {
		if !is {
			gone = append(gone, what)
		}
	}
	m := d.metadata()
	lacks(attribute(m, "folder") == p.service && attribute(m, "domain") == p.domain, "the mark in <metadata>, by which the hook knows it")
	path, _ := d.flash()
	lacks(path == p.at(fileFlash), "<nvram> with the flash that is rendered")
	for which, instead := range ends {
		_, restarts := instead[text(d.child(which))]
		lacks(!restarts, "<"+which+"> that ends the process")
	}
	lacks(attribute(d.child("pm", "suspend-to-mem"), "enabled") == "no", "<suspend-to-mem enabled='no'>")
	lacks(slices.ContainsFunc(d.devices("serial"), func(s *etree.Element) bool {
		return attribute(below(s, "source"), "path") == p.at(socketVBIOS) && attribute(below(s, "target"), "port") == strconv.Itoa(port)
	}), "the serial port of the thin virtual BIOS")
	words := ""
	for _, w := range d.Root().FindElements("qemu:commandline/qemu:arg") {
		words += attribute(w, "value") + "\n"
	}
	lacks(strings.Contains(words, p.romDevice()) || slices.ContainsFunc(d.devices("interface"), func(i *etree.Element) bool {
		return attribute(below(i, "rom"), "file") == p.rom
	}), "the ROM with the thin virtual BIOS")
	lacks(strings.Contains(words, "id="+eventsID+","), "the second monitor")
	slices.Sort(gone)
	return gone
}

var deviceArgument = regexp.MustCompile(`-device\s+'((?:[^']|'\\'')*)'`)

// bootIndexed are the names of the devices that have a bootindex on a command line of QEMU, as libvirt gives it for a
// definition.
func bootIndexed(commandLine string) (aliases []string) {
	for _, found := range deviceArgument.FindAllStringSubmatch(commandLine, -1) {
		var device struct {
			ID        string `json:"id"`
			BootIndex *int   `json:"bootindex"`
		}
		if json.Unmarshal([]byte(unquoted(found[1])), &device) == nil && device.BootIndex != nil {
			aliases = append(aliases, device.ID)
		}
	}
	return aliases
}

// difference is what people are shown of a change.
func difference(name string, before, after *definition) (string, error) {
	old, err := before.text()
	if err != nil {
		return "", err
	}
	now, err := after.text()
	if err != nil {
		return "", err
	}
	whole := diff.Diff(name+" (before)", []byte(old), name+" (after)", []byte(now))
	_, rest, _ := strings.Cut(string(whole), "\n") // the first line says that it is one
	return rest, nil
}
