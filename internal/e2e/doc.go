// Package e2e holds tests of the program itself, as a process: that its trust ends in a key which others read from
// the TPM, that who may not is refused and told of, and that it stops, starts, fills its disk and changes its
// authority as its documentation says. They are built with the tag e2e.
package e2e
