package qemu

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"biosv/fault"
	"biosv/generated"
)

// What a definition may have, and has where it says nothing.
const (
	mostDisks         = 16
	longestArguments  = 2048
	defaultMemory     = 1024 // MiB
	defaultProcessors = 1
)

// Define refuses what cannot be made, and fills in what a definition leaves open; it is an [smm.Definer].
func (h *Host) Define(v *generated.VirtualMachine) error {
	if _, err := h.tools(v); err != nil {
		return fault.Unavailable(fault.NotOnThisHost, 0, "This host has no such virtual machines: %v.", err)
	}
	// The machine keeps its build when the host gets others.
	var build generated.FirmwareBuild
	if v.FirmwareBuild != nil {
		build = *v.FirmwareBuild
	}
	_, build, err := h.build(build)
	if err != nil {
		return err
	}
	v.FirmwareBuild = &build
	if v.MemoryMiB == nil {
		v.MemoryMiB = new(generated.MemoryMiB(defaultMemory))
	}
	if v.ProcessorCount == nil {
		v.ProcessorCount = new(generated.ProcessorCount(defaultProcessors))
	}
	if v.NetworkMode == nil {
		v.NetworkMode = new(generated.NetworkModeNone)
	}
	if len(v.DiskImage) > mostDisks {
		return fault.LimitExceeded(fault.TooMany, "disks", mostDisks, "The machine would have %d disks; at most %d are possible.", len(v.DiskImage), mostDisks)
	}
	seen := map[generated.ImageName]bool{}
	for i, d := range v.DiskImage {
		if seen[*d] {
			return fault.InvalidRequest(fault.DuplicateItem, fmt.Sprintf("/CreateDomain/DiskImage[%d]", i+1), string(*d), "The image %s is named twice.", *d)
		}
		seen[*d] = true
		if _, err := h.image(fmt.Sprintf("/CreateDomain/DiskImage[%d]", i+1), *d); err != nil {
			return err
		}
	}
	if v.KernelImage == nil && (v.InitrdImage != nil || v.KernelArguments != "") {
		return fault.InvalidRequest(fault.InvalidValue, "/CreateDomain/KernelImage", "", "InitrdImage and KernelArguments go with KernelImage, which is absent.")
	}
	for path, name := range map[string]*generated.ImageName{"/CreateDomain/KernelImage": v.KernelImage, "/CreateDomain/InitrdImage": v.InitrdImage} {
		if name == nil {
			continue
		}
		if _, err := h.image(path, *name); err != nil {
			return err
		}
	}
	if n := utf8.RuneCountInString(v.KernelArguments); n > longestArguments || strings.ContainsFunc(v.KernelArguments, unicode.IsControl) {
		return fault.InvalidRequest(fault.InvalidValue, "/CreateDomain/KernelArguments", v.KernelArguments,
			"The kernel's command line has %d characters; it is one line of at most %d.", n, longestArguments)
	}
	return nil
}

var imageName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)/([A-Za-z0-9][A-Za-z0-9._-]*)$`)

// image gives the path of an image: a regular file of a pool, and nothing that leads elsewhere.
func (h *Host) image(element string, name generated.ImageName) (string, error) {
	parts := imageName.FindStringSubmatch(string(name))
	if parts == nil {
		return "", fault.InvalidRequest(fault.InvalidValue, element, string(name), "An image is named POOL/FILE.")
	}
	dir, ok := h.Pools[parts[1]]
	if !ok {
		return "", fault.NotFound(fault.UnknownImage, element, string(name), "There is no pool %q; the service has %q.", parts[1], slices.Sorted(maps.Keys(h.Pools)))
	}
	path := filepath.Join(dir, parts[2])
	info, err := os.Lstat(path)
	switch {
	case os.IsNotExist(err):
		return "", fault.NotFound(fault.UnknownImage, element, string(name), "The pool %s has no image %q.", parts[1], parts[2])
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fault.NotFound(fault.UnknownImage, element, string(name), "%q of the pool %s is no file.", parts[2], parts[1])
	}
	return path, nil
}
