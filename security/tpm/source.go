package tpm

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Kind says what a TPM is.
type Kind string

// The kinds of TPM that a service can be told to use.
const (
	Auto     Kind = "auto"     // a device where there is one, else swtpm
	Device   Kind = "device"   // the resource manager's device
	Swtpm    Kind = "swtpm"    // swtpm as a child of the service
	Software Kind = "software" // none: the key is a file
)

// ResourceManager is the device of the kernel's resource manager.
const ResourceManager = "/dev/tpmrm0"

// Source says where a TPM is to be had.
type Source struct {
	Kind Kind
	Path string // of a Device
}

// ParseSource reads auto, device:PATH, swtpm or software.
func ParseSource(text string) (Source, error) {
	if path, ok := strings.CutPrefix(text, "device:"); ok && path != "" {
		return Source{Device, path}, nil
	}
	switch k := Kind(text); k {
	case Auto, Swtpm, Software:
		return Source{Kind: k}, nil
	}
	return Source{}, fmt.Errorf("%q is no TPM: use auto, device:PATH, swtpm or software", text)
}

// settle decides what auto means on this host.
func (s Source) settle() (Source, error) {
	if s.Kind == Auto {
		if f, err := os.OpenFile(ResourceManager, os.O_RDWR, 0); err == nil {
			f.Close()
			return Source{Device, ResourceManager}, nil
		}
		s.Kind = Swtpm
	}
	if s.Kind == Swtpm {
		for program, pkg := range map[string]string{"swtpm": "swtpm", "swtpm_setup": "swtpm-tools"} {
			if _, err := exec.LookPath(program); err != nil {
				return s, fmt.Errorf("there is no TPM at %s that can be opened, and no %s on this host: install the Debian packages swtpm and swtpm-tools (missing: %s), "+
					"or name another with --tpm device:PATH, or --tpm software to do without a TPM", ResourceManager, program, pkg)
			}
		}
	}
	return s, nil
}
