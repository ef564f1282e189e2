package tpm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"biosv/internal/durable"
)

// child is a swtpm that lives as long as the service does: it speaks over two socket pairs, which no other
// process has an end of, and ends when ours is closed, whatever ended us.
type child struct {
	cmd     *exec.Cmd
	conn    net.Conn
	control net.Conn
	log     string
	state   string      // its folder
	synced  os.FileInfo // of the state's file, as it is on disk
}

// Names below a swtpm's folder. The state is encrypted with a key that lies outside of its folder.
const (
	stateFolder = "state"
	stateFile   = "tpm2-00.permall" // in it
	unfinished  = "state.unfinished"
	keyFile     = "state.key"
	logFile     = "swtpm.log"
	caFolder    = "localca"
	lockFile    = ".lock" // in the state's folder; swtpm's own
)

// startChild starts the swtpm of a folder, which is provisioned where it is new. fresh says that it is.
func startChild(ctx context.Context, dir string) (c *child, fresh bool, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, false, err
	}
	if err := awaitPrevious(ctx, filepath.Join(dir, stateFolder, lockFile)); err != nil {
		return nil, false, err
	}
	state := filepath.Join(dir, stateFolder, stateFile)
	haveKey, haveState, pinned := there(filepath.Join(dir, keyFile)), there(state), there(filepath.Join(dir, pinFile))
	switch {
	case !haveState && pinned:
		return nil, false, fmt.Errorf("the state of the software TPM is gone (%s): without it the service's key is lost. Bring it back from a backup, or begin with an empty data folder", state)
	case !haveKey && (haveState || pinned):
		return nil, false, fmt.Errorf("the key of the software TPM's state is gone (%s): without it the service's key is lost. Bring it back from a backup, or begin with an empty data folder", filepath.Join(dir, keyFile))
	case !haveKey:
		if err := writeKey(filepath.Join(dir, keyFile)); err != nil {
			return nil, false, fmt.Errorf("write the key of the TPM's state: %w", err)
		}
	}
	if !haveState {
		if err := setUp(ctx, dir); err != nil {
			return nil, false, err
		}
	}
	c, err = spawn(dir)
	return c, !haveState, err
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// leaveTime is how long an earlier swtpm may take to end.
const leaveTime = 10 * time.Second

// awaitPrevious waits until the swtpm of a service that was killed has ended: it does so by itself when it finds its
// sockets closed, and a service that is started again at once is sooner. While it lives it holds a lock (fcntl(2),
// F_SETLK) on a file beside its state, and no other swtpm starts.
func awaitPrevious(ctx context.Context, lock string) error {
	f, err := os.OpenFile(lock, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	late := time.After(leaveTime)
	for {
		held := syscall.Flock_t{Type: syscall.F_WRLCK}
		if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &held); err != nil {
			return fmt.Errorf("look for a lock on %s: %w", lock, err)
		}
		if held.Type == syscall.F_UNLCK {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("another swtpm, process %d, uses the software TPM in %s: end it", held.Pid, filepath.Dir(lock))
		case <-time.After(time.Millisecond):
		}
	}
}

func writeKey(path string) error {
	var key [32]byte
	rand.Read(key[:])
	defer clear(key[:])
	text := []byte(hex.EncodeToString(key[:]))
	defer clear(text)
	return durable.WriteFile(path, text, 0o600)
}

// setUp makes the state with its endorsement keys and their certificates, of a certificate authority of its own. It
// is made whole under another name first: half of a TPM is none.
func setUp(ctx context.Context, dir string) error {
	beside := filepath.Join(dir, unfinished)
	if err := errors.Join(os.RemoveAll(beside), os.Mkdir(beside, 0o700)); err != nil {
		return err
	}
	ca := filepath.Join(dir, caFolder)
	if err := os.MkdirAll(ca, 0o700); err != nil {
		return err
	}
	files := map[string]string{
		"swtpm_setup.conf": "create_certs_tool= /usr/bin/swtpm_localca\ncreate_certs_tool_config = " + filepath.Join(ca, "localca.conf") +
			"\ncreate_certs_tool_options = " + filepath.Join(ca, "localca.options") + "\n",
		"localca.conf": "statedir = " + ca + "\nsigningkey = " + filepath.Join(ca, "signkey.pem") + "\nissuercert = " + filepath.Join(ca, "issuercert.pem") +
			"\ncertserial = " + filepath.Join(ca, "certserial") + "\n",
		"localca.options": "--platform-manufacturer BIOSV\n--platform-version 1\n--platform-model swtpm\n",
	}
	for name, text := range files {
		if err := durable.WriteFile(filepath.Join(ca, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--config", filepath.Join(ca, "swtpm_setup.conf"), "--tpmstate", beside,
		"--create-ek-cert", "--pcr-banks", "sha256", "--lock-nvram", "--not-overwrite", "--vmid", "biosv",
		"--keyfile", filepath.Join(dir, keyFile), "--cipher", "aes-256-cbc", "--logfile", filepath.Join(dir, "setup.log"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("swtpm_setup: %w: %s (more in %s)", err, bytes.TrimSpace(out), filepath.Join(dir, "setup.log"))
	}
	if err := errors.Join(durable.SyncFile(filepath.Join(beside, stateFile)), durable.SyncFolder(beside)); err != nil {
		return err
	}
	if err := os.Rename(beside, filepath.Join(dir, stateFolder)); err != nil {
		return err
	}
	return durable.SyncFolder(dir)
}

func spawn(dir string) (*child, error) {
	ours, theirs, err := socketPair("tpm")
	if err != nil {
		return nil, err
	}
	ourControl, theirControl, err := socketPair("tpm-control")
	if err != nil {
		return nil, errors.Join(err, ours.Close(), theirs.Close())
	}
	c := &child{conn: ours, control: ourControl, log: filepath.Join(dir, logFile), state: filepath.Join(dir, stateFolder)}
	c.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(dir, stateFolder)+",mode=0600", "--fd", "3", "--ctrl", "type=unixio,clientfd=4",
		"--flags", "not-need-init,startup-clear", "--key", "file="+filepath.Join(dir, keyFile)+",mode=aes-256-cbc,format=hex", "--log", "file="+c.log+",level=1")
	c.cmd.ExtraFiles = []*os.File{theirs, theirControl}
	// A signal to our group (a terminal's interrupt) is ours to pass on, in order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = c.cmd.Start()
	theirs.Close()
	theirControl.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start swtpm: %w", err), ours.Close(), ourControl.Close())
	}
	return c, nil
}

func socketPair(name string) (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), name)
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, nil, err
	}
	return conn, os.NewFile(uintptr(fds[1]), name), nil
}

const commandTime = 30 * time.Second

// Send sends a command; a swtpm that died or hangs is an error that names its log.
func (c *child) Send(command []byte) ([]byte, error) {
	if err := c.conn.SetDeadline(time.Now().Add(commandTime)); err != nil {
		return nil, err
	}
	answer, err := transport.FromReadWriter(c.conn).Send(command)
	if err != nil {
		return nil, fmt.Errorf("the software TPM does not answer (see %s): %w", c.log, err)
	}
	return answer, nil
}

// sync brings the state to the disk where a command changed it: swtpm writes it before it answers, beside and
// renamed, and leaves it to the system when. Without, a power cut could take the issuing key with it.
func (c *child) sync() error {
	path := filepath.Join(c.state, stateFile)
	now, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the state of the software TPM: %w", err)
	}
	if c.synced != nil && os.SameFile(now, c.synced) && now.ModTime().Equal(c.synced.ModTime()) && now.Size() == c.synced.Size() {
		return nil
	}
	if err := errors.Join(durable.SyncFile(path), durable.SyncFolder(c.state)); err != nil {
		return fmt.Errorf("the state of the software TPM: %w", err)
	}
	c.synced = now
	return nil
}

// close shuts the TPM down in order and waits for the process.
func (c *child) close() error {
	_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(c)
	err = errors.Join(err, c.sync())
	c.conn.Close()
	c.control.Close()
	late := time.AfterFunc(5*time.Second, func() { _ = c.cmd.Process.Kill() }) // it may have ended meanwhile
	defer late.Stop()
	var exit *exec.ExitError
	if e := c.cmd.Wait(); e != nil && !errors.As(e, &exit) {
		err = errors.Join(err, e)
	}
	return err
}
