package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// folder looks at the data folder and the room on its disk.
func (c *Config) folder() []Check {
	check := Check{Name: "data folder", State: OK}
	where := c.Files.Folder
	info, err := os.Stat(where)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		where = existing(where)
		check.Found = c.Files.Folder + " is not there yet; serve makes it"
		if !c.Writable(where) {
			check.State, check.Blocks = Problem, true
			check.Found = fmt.Sprintf("%s is not there, and this user may not make it in %s", c.Files.Folder, where)
			check.Remedy = "name another with --data, or have root make it and give it to the user"
		}
	case err != nil:
		check.State, check.Blocks = Problem, true
		check.Found, check.Remedy = err.Error(), "look as the user that the service runs as: sudo -u USER biosv doctor"
		return []Check{check}
	case !info.IsDir():
		check.State, check.Blocks = Problem, true
		check.Found, check.Remedy = where+" is no folder", "name another with --data"
		return []Check{check}
	case !c.Writable(where):
		check.State, check.Blocks = Problem, true
		check.Found = fmt.Sprintf("this user may not change what is in %s (mode %04o)", where, info.Mode().Perm())
		check.Remedy = "look as the user that the service runs as: sudo -u USER biosv doctor"
	case info.Mode().Perm()&0o077 != 0:
		check.State = Problem
		check.Found = fmt.Sprintf("%s has mode %04o: others may look into it, and keys are in it", where, info.Mode().Perm())
		check.Remedy = "chmod 0700 " + where
	default:
		check.Found = fmt.Sprintf("%s, mode %04o", where, info.Mode().Perm())
	}
	return []Check{check, disk(where)}
}

// existing is the nearest folder above a path that is there.
func existing(path string) string {
	for {
		above := filepath.Dir(path)
		if _, err := os.Stat(above); err == nil || above == path {
			return above
		}
		path = above
	}
}

func disk(folder string) Check {
	const good = 256 << 20 // bytes
	check := Check{Name: "disk", State: OK}
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		check.State, check.Found = Problem, fmt.Sprintf("%s: %v", folder, err)
		return check
	}
	free := s.Bavail * uint64(s.Bsize)
	check.Found = fmt.Sprintf("%d MiB free where the data folder is", free>>20)
	if free < good {
		check.State, check.Remedy = Problem, "make room: changes are refused when the disk is full"
	}
	if s.Type == unix.NFS_SUPER_MAGIC {
		check.State, check.Found = Problem, check.Found+", which is on NFS"
		check.Remedy = "keep the data folder on a disk of this host: what NFS acknowledges may not be on a disk"
	}
	return check
}

// service looks whether a service runs on the data folder, by asking it for its certificate. Where none answers, the
// lock on its store tells whether one holds the folder all the same.
func (c *Config) service(ctx context.Context) Check {
	check := Check{Name: "service", State: Lacks, Found: "none runs on this folder", Remedy: "biosv serve --data " + c.Files.Folder}
	until, at, err := c.handshake(ctx)
	switch {
	case err == nil:
		return Check{Name: "service", State: OK, Found: fmt.Sprintf("it answers at %s, with a certificate until %s", at, until.UTC().Format(time.RFC3339))}
	case c.locked():
		check.State, check.Found = Problem, fmt.Sprintf("one holds %s, and does not answer: %v", c.Files.State, err)
		check.Remedy = "its log says why; right after its start, look again"
	}
	return check
}

// handshake connects to the address that a service wrote down, as a client does that trusts its root alone.
func (c *Config) handshake(ctx context.Context) (until time.Time, at string, err error) {
	text, err := bounded(c.Files.Address)
	if err != nil {
		return until, at, err
	}
	at = strings.TrimSpace(string(text))
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "https" || u.Port() == "" {
		return until, at, fmt.Errorf("%s has no address of a service", c.Files.Address)
	}
	pemText, err := bounded(c.Files.Root)
	if err != nil {
		return until, at, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pemText) {
		return until, at, fmt.Errorf("%s has no certificate", c.Files.Root)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	name := u.Hostname()
	if ip := net.ParseIP(name); ip != nil && ip.IsUnspecified() {
		// It listens on all addresses, and its certificate is for those that one can connect to.
		name = "localhost"
	}
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(name, u.Port()))
	if err != nil {
		return until, at, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].NotAfter, at, nil
}

// locked says whether a process has the store open. The lock that shows it is held for an instant.
func (c *Config) locked() bool {
	f, err := os.Open(c.Files.State)
	if err != nil {
		return false
	}
	defer f.Close() // and the lock with it
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func (c *Config) certificates() []Check {
	now, _ := c.Clock()
	return []Check{
		certificate("root certificate", c.Files.Root, now, "a company's authority can make the next: biosv trust request, then biosv trust install"),
		certificate("admin certificate", c.Files.Admin, now, "start the service anew: it makes the next while the key is there"),
	}
}

// certificate looks at the first certificate of a file.
func certificate(name, path string, now time.Time, remedy string) Check {
	const soon = 30 * 24 * time.Hour
	check := Check{Name: name, State: Lacks}
	text, err := bounded(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		check.Found = path + " is not there; serve makes it at its first start"
		return check
	case err != nil:
		check.State, check.Found = Problem, err.Error()
		return check
	}
	check.State = Problem
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		check.Found, check.Remedy = path+" has no certificate in PEM form", "bring it back from a backup"
		return check
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		check.Found, check.Remedy = fmt.Sprintf("%s: %v", path, err), "bring it back from a backup"
		return check
	}
	until := certificate.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case now.Before(certificate.NotBefore):
		check.Found = fmt.Sprintf("%s is valid from %s only", path, certificate.NotBefore.UTC().Format(time.RFC3339))
		check.Remedy = "is the clock right?"
	case now.After(certificate.NotAfter):
		check.Found, check.Remedy = fmt.Sprintf("%s ended at %s", path, until), remedy
	case certificate.NotAfter.Sub(now) < soon:
		check.Found, check.Remedy = fmt.Sprintf("%s ends soon, at %s", path, until), remedy
	default:
		check.State, check.Found = OK, fmt.Sprintf("%s, until %s", path, until)
	}
	return check
}

// bounded reads a small file.
func bounded(path string) ([]byte, error) {
	const most = 256 << 10
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}
