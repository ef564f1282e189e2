package guest

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// writeInitrd writes what the kernel unpacks as its first file system: the first process, its script, the modules
// that the guest needs, and the files that were asked for.
func (c *Config) writeInitrd(to, kernel string) (err error) {
	modules, err := resolve(filepath.Join(kernel, "modules"), c.modules())
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffered := bufio.NewWriterSize(f, 1<<20)
	a := &archive{w: buffered, folders: map[string]bool{".": true, "/": true}}
	a.host("/init", filepath.Join(kernel, "..", "init"))
	a.add("/script", 0o644, []byte(strings.Join(c.Script, "\n")+"\n"))
	for i, m := range modules {
		a.host(fmt.Sprintf("/modules/%03d-%s", i, filepath.Base(m)), m)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		a.host(name, c.Files[name])
	}
	a.end()
	return errors.Join(a.err, buffered.Flush())
}

// modules are those that Debian's kernel needs for what the guest has; the TPM's and the console's are built in.
// The file system's checksum is asked for by another name than its module's, so it is named here.
func (c *Config) modules() []string {
	list := slices.Clone(c.Modules)
	if len(c.Disks) > 0 {
		list = append(list, "virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
	}
	if len(c.Ports) > 0 {
		list = append(list, "virtio_pci", "virtio_net")
	}
	return list
}

// resolve gives the files of modules, each after those that it depends on.
func resolve(dir string, names []string) (order []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	files := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(d.Name(), ".ko"); err == nil && ok {
			files[moduleName(name)] = path
		}
		return err
	}); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		if name = moduleName(name); seen[name] {
			return nil
		}
		seen[name] = true
		file, ok := files[name]
		if !ok {
			return fmt.Errorf("the kernel in %s has no module %s", dir, name)
		}
		needs, err := dependencies(file)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		order = append(order, file)
		return nil
	}
	for _, n := range names {
		if err := visit(n); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleName is how the kernel itself writes a module's name.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// dependencies reads which modules one needs, from its section .modinfo: texts KEY=VALUE that end with a zero.
func dependencies(file string) ([]string, error) {
	m, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	section := m.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s is no module of a kernel", file)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for text := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(text, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}

// archive writes a cpio archive in the format "newc" (Linux, Documentation/driver-api/early-userspace/
// buffer-format.rst). The first error stays with it.
type archive struct {
	w       io.Writer
	inode   int
	folders map[string]bool // that are in it
	err     error
}

const (
	regular = 0o100000
	folder  = 0o040000
)

// host adds a file of this host, with its permissions.
func (a *archive) host(name, file string) {
	if a.err != nil {
		return
	}
	info, err := os.Stat(file)
	if err == nil {
		var content []byte
		if content, err = os.ReadFile(file); err == nil {
			a.add(name, info.Mode().Perm(), content)
			return
		}
	}
	a.err = err
}

// add adds a file, and the folders above it.
func (a *archive) add(name string, mode fs.FileMode, content []byte) {
	a.above(name)
	a.entry(strings.TrimPrefix(name, "/"), regular|uint32(mode), content)
}

func (a *archive) above(name string) {
	dir := path.Dir(name)
	if a.folders[dir] {
		return
	}
	a.above(dir)
	a.folders[dir] = true
	a.entry(strings.TrimPrefix(dir, "/"), folder|0o755, nil)
}

// end writes the entry that ends an archive.
func (a *archive) end() { a.entry("TRAILER!!!", 0, nil) }

func (a *archive) entry(name string, mode uint32, content []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	// Inode, mode, user, group, links, time, length, device (2), device's own (2), length of the name, checksum.
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	head := header + name + "\x00"
	for _, part := range [][]byte{[]byte(head), padding(len(head)), content, padding(len(content))} {
		if _, err := a.w.Write(part); err != nil {
			a.err = err
			return
		}
	}
}

// padding fills up to a multiple of four.
func padding(n int) []byte { return make([]byte, (4-n%4)%4) }
