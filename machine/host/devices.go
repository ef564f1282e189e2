package host

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"biosv/generated"
)

const maxDevices = 512 // of a kind

// adapters tells of the network adapters with a device behind them and a MAC address that they were made with. A
// bridge, a tunnel or a guest's tap has none.
func (h *Host) adapters(boot []bootOption) (list []*generated.AdapterInventory) {
	const folder = "sys/class/net/"
	permanent := h.permanent()
	for _, name := range h.names("sys/class/net") {
		const ethernet = 1 // ARPHRD_ETHER
		if kind, ok := h.number(folder + name + "/type"); !ok || kind != ethernet || !h.exists(folder+name+"/device") {
			continue
		}
		mac := h.permanentAddress(name, permanent)
		if mac == nil || len(list) == maxDevices {
			continue
		}
		a := &generated.AdapterInventory{Name: name, MacAddress: mac.String()}
		for _, o := range boot {
			if bytes.Equal(o.MAC, mac) {
				a.BootCapable, a.BootProtocol = true, o.Protocol
				break // the first that the firmware tries
			}
		}
		list = append(list, a)
	}
	return list
}

// permanentAddress is the MAC address that an adapter was made with: the one it has, where the kernel says that
// nobody changed it; the one that a bond keeps for its members; or what the kernel's netlink says.
func (h *Host) permanentAddress(name string, permanent map[string]net.HardwareAddr) net.HardwareAddr {
	const folder, unchanged = "sys/class/net/", 0 // NET_ADDR_PERM
	text := h.text(folder + name + "/bonding_slave/perm_hwaddr")
	if how, ok := h.number(folder + name + "/addr_assign_type"); text == "" && ok && how == unchanged {
		text = h.text(folder + name + "/address")
	}
	mac, err := net.ParseMAC(text)
	if err != nil {
		mac = permanent[name]
	}
	if len(mac) != 6 || bytes.Equal(mac, make([]byte, 6)) {
		return nil
	}
	return mac
}

// permanentAddresses asks the kernel for the addresses that network adapters were made with (rtnetlink,
// IFLA_PERM_ADDRESS, Linux 5.6). Where it does not tell, there are none.
func permanentAddresses() map[string]net.HardwareAddr {
	dump, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return nil
	}
	messages, err := syscall.ParseNetlinkMessage(dump)
	if err != nil {
		return nil
	}
	addresses := map[string]net.HardwareAddr{}
	for _, m := range messages {
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if m.Header.Type != unix.RTM_NEWLINK || err != nil {
			continue
		}
		var name string
		var address net.HardwareAddr
		for _, a := range attributes {
			switch a.Attr.Type {
			case unix.IFLA_IFNAME:
				name = string(bytes.TrimRight(a.Value, "\x00"))
			case unix.IFLA_PERM_ADDRESS:
				address = a.Value
			}
		}
		addresses[name] = address
	}
	return addresses
}

// devices tells of disks and drives, USB controllers, TPMs and serial ports.
func (h *Host) devices() (list []*generated.DeviceInventory) {
	for _, kind := range []struct {
		class, folder string
		// detail says more of a device, and whether it is one.
		detail func(name, folder string) (string, bool)
	}{
		{"Storage", "sys/class/block", h.storage},
		{"Usb", "sys/bus/usb/devices", h.usb},
		{"SecurityDevice", "sys/class/tpm", h.security},
		{"SerialConsole", "sys/class/tty", h.serial},
	} {
		n := 0
		for _, name := range h.names(kind.folder) {
			detail, ok := kind.detail(name, kind.folder+"/"+name)
			if !ok || n == maxDevices {
				continue
			}
			n++
			list = append(list, &generated.DeviceInventory{Name: name, DeviceClass: kind.class, Detail: detail})
		}
	}
	return list
}

// storage is a block device with hardware behind it, not a part of one and not a path that another stands for.
func (h *Host) storage(_, folder string) (string, bool) {
	hidden, _ := h.number(folder + "/hidden")
	if !h.exists(folder+"/device") || h.exists(folder+"/partition") || hidden != 0 {
		return "", false
	}
	detail := h.text(folder + "/device/model")
	if sectors, ok := h.number(folder + "/size"); ok && sectors > 0 {
		const perMiB = 2048 // the kernel counts in 512 bytes, whatever the device does
		detail = strings.TrimPrefix(fmt.Sprintf("%s, %d MiB", detail, sectors/perMiB), ", ")
	}
	return detail, true
}

// usb is a controller, which shows itself as the hub at the root of its bus.
func (h *Host) usb(name, folder string) (string, bool) {
	return h.text(folder + "/product"), strings.HasPrefix(name, "usb")
}

// security is a TPM, of one of the two generations that Linux drives (since 5.6 it says which).
func (h *Host) security(_, folder string) (string, bool) {
	major, _ := h.number(folder + "/tpm_version_major")
	return map[int64]string{1: "TPM 1.2", 2: "TPM 2.0"}[major], true
}

// serial is a port with hardware: the kernel keeps names for more than there are, of type 0 (PORT_UNKNOWN).
func (h *Host) serial(name, folder string) (string, bool) {
	kind, ok := h.number(folder + "/type")
	return "", strings.HasPrefix(name, "ttyS") && ok && kind != 0
}
