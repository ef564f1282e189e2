package firmware

import (
	"net"

	"golang.org/x/sys/unix"
)

// Only accepts connections of some processes.
type Only struct {
	*net.UnixListener
	May func(pid int) bool // whether a process may connect
}

// Accept refuses those of others.
func (o Only) Accept() (net.Conn, error) {
	for {
		conn, err := o.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if cred, err := Peer(conn); err == nil && o.May(int(cred.Pid)) {
			return conn, nil
		}
		conn.Close()
	}
}

// Peer gives the process at the other end of a connection, and its user (unix(7), SO_PEERCRED).
func Peer(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return nil, e
	}
	return cred, err
}
