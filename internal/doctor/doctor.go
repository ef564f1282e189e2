// Package doctor looks at a host and says whether biosv serve could run on it: what is there, what is not, what is
// wrong, and what to do about it. Begin with [Examine]; the [Report] prints as a table for people and marshals as
// JSON for programs.
//
// It changes nothing: it opens devices and closes them again, asks programs for their versions, reads files and
// sends a running service a TLS handshake. It imports nothing of BIOS.v; what only others can tell, such as how
// SMBIOS tables are read, comes in with [Config], as does everything of the host that a test has to stand in for.
package doctor

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// State says how something was found.
type State string

// The states.
const (
	OK      State = "ok"
	Lacks   State = "lacks"   // it is not there, which may be as it should be
	Problem State = "problem" // it is there, and something is wrong with it
)

// Check is one thing that was looked at.
type Check struct {
	Name  string
	State State
	Found string // what was found, for people
	// Remedy is what to do, where something can be done.
	Remedy string `json:",omitempty"`
	// Blocks says that serve cannot run before something is done about it.
	Blocks bool
}

// Report is what was found on a host.
type Report struct {
	// Ready says that serve could run here: nothing blocks it.
	Ready  bool
	Checks []Check
}

// Config says what serve would be told, and how the host is looked at.
type Config struct {
	Files  Files  // of the service
	Listen string // the address that it would listen on
	Device string // the TPM device that it would use; empty where it is told to use none
	Swtpm  bool   // it would start a software TPM where there is no device

	Root      fs.FS                                                                  // the host's file system
	Open      func(path string) error                                                // opens a device for reading and writing, and closes it
	Writable  func(folder string) bool                                               // says whether this user may change what is in a folder
	Run       func(ctx context.Context, name string, args ...string) (string, error) // runs a program and gives what it prints
	SMBIOS    func() (string, error)                                                 // reads the SMBIOS tables and says what they are
	Sensors   func(context.Context) (string, error)                                  // reads the sensors and says how many there are
	Firmware  func() (code string, err error)                                        // finds the firmware of virtual machines
	Clock     func() (now time.Time, synchronized bool)
	OpenFiles func() (most uint64, err error) // how many files a process may have open
	Hook      func() error                    // looks for the hook that libvirt is to run; fs.ErrNotExist where there is none
	Attached  func() (names []string)         // the machines of libvirt that are attached
}

// Files are those that a service keeps.
type Files struct {
	Folder  string // its data folder
	State   string // its store, which a running service has locked
	Address string // where a running service answers
	Root    string // the certificate that its clients trust
	Admin   string // the first admin's certificate
}

// Examine looks at a host. The checks stand in the order in which they are to be put right.
func Examine(ctx context.Context, c Config) *Report {
	r := &Report{}
	r.Checks = append(r.Checks, c.tpm(ctx)...)
	r.Checks = append(r.Checks, c.folder()...)
	service := c.service(ctx)
	r.Checks = append(r.Checks, service, c.listen(service.State == OK))
	r.Checks = append(r.Checks, c.certificates()...)
	r.Checks = append(r.Checks, c.clock(), c.openFiles(), c.smbios(), c.sensors(ctx), c.efivarfs())
	r.Checks = append(r.Checks, c.program(ctx, "qemu-system-x86_64", "qemu-system-x86"), c.ovmf(), c.kvm(), c.hook())
	r.Ready = true
	for i := range r.Checks {
		r.Checks[i].Found = line(r.Checks[i].Found)
		r.Ready = r.Ready && !r.Checks[i].Blocks
	}
	return r
}

// Err is nil where serve could run, and says else what keeps it from that.
func (r *Report) Err() error {
	var names []string
	for _, c := range r.Checks {
		if c.Blocks {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("serve cannot run here as it is; the report says what to do about: %s", strings.Join(names, ", "))
}

// Print writes the report as a table for people, a hundred columns wide.
func (r *Report) Print(w io.Writer) error {
	const width, states = 100, 9
	names := 0
	for _, c := range r.Checks {
		names = max(names, utf8.RuneCountInString(c.Name)+2)
	}
	var b strings.Builder
	row := func(state, name, text string) {
		for i, part := range wrap(text, width-states-names) {
			if i > 0 {
				state, name = "", ""
			}
			fmt.Fprintf(&b, "%-*s%-*s%s\n", states, state, names, name, part)
		}
	}
	row("STATE", "WHAT", "FOUND")
	for _, c := range r.Checks {
		row(string(c.State), c.Name, c.Found)
		if c.Remedy != "" {
			row("", "", "→ "+c.Remedy)
		}
	}
	if r.Ready { // else Err says what to say
		b.WriteString("\nbiosv serve can run here.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap breaks a text at its blanks; a word that is too long stays whole.
func wrap(text string, width int) (lines []string) {
	current := ""
	for word := range strings.FieldsSeq(text) {
		if current != "" && utf8.RuneCountInString(current)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, current)
			current = ""
		}
		current = strings.TrimPrefix(current+" "+word, " ")
	}
	return append(lines, current)
}

// line makes of what was found a single line without control characters: much of it comes from elsewhere.
func line(s string) string {
	const most = 300
	clean := []rune(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " "))
	if len(clean) > most {
		return string(clean[:most-1]) + "…"
	}
	return string(clean)
}
