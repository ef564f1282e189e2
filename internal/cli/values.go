package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Bounds of what is read into a request; the service has its own.
const (
	mostText   = 1 << 20
	mostBinary = 256 << 20
)

// source is where the values of a request come from that do not stand on the command line itself.
type source struct {
	ctx  context.Context
	in   io.Reader
	err  io.Writer // for prompts
	line *bufio.Reader
}

// text gives the text that a word of the command line stands for: @FILE for what is in the file, without the line
// break at its end, and @@… for a text that begins with an @. what names the value in errors.
func (s *source) text(what, word string) (string, error) {
	if !strings.HasPrefix(word, "@") {
		return word, nil
	}
	if strings.HasPrefix(word, "@@") {
		return word[1:], nil
	}
	content, err := s.file(what, word[1:], mostText)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(content) {
		return "", fmt.Errorf("%s: %s is no text in UTF-8", what, word[1:])
	}
	text := strings.TrimSuffix(string(content), "\n")
	return strings.TrimSuffix(text, "\r"), nil
}

// file reads a file of bounded size; - is standard input.
func (s *source) file(what, path string, most int64) ([]byte, error) {
	if path == "" {
		return nil, usage("%s: the name of a file is expected after the @, or @@ for an @ itself", what)
	}
	in := s.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", what, path, err)
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("%s: %s is larger than %d bytes", what, path, most)
	}
	return content, nil
}

// secret gives the secret that a word stands for: - asks for it without echo, or reads a line where standard input
// is no terminal; @FILE reads it from a file. twice has it typed twice, where it is a new one.
func (s *source) secret(what, word string, twice bool) (string, error) {
	if strings.HasPrefix(word, "@") && !strings.HasPrefix(word, "@@") {
		return s.text(what, word)
	} else if word != "-" {
		return "", usage("%s: a secret does not belong on the command line, where others can read it: write - to be asked for it or to give it as a line of standard input, or @FILE", what)
	}
	f, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		if s.line == nil {
			s.line = bufio.NewReader(io.LimitReader(s.in, mostText))
		}
		text, err := s.line.ReadString('\n')
		if err != nil && (text == "" || !errors.Is(err, io.EOF)) {
			return "", fmt.Errorf("%s: a line with it is expected on standard input: %w", what, err)
		}
		return strings.TrimRight(text, "\r\n"), nil
	}
	first, err := s.prompt(int(f.Fd()), what)
	if err != nil || !twice {
		return first, err
	}
	second, err := s.prompt(int(f.Fd()), what+", again")
	if err == nil && first != second {
		err = usage("%s: the two are not the same", what)
	}
	return first, err
}

// prompt asks on a terminal. Reading cannot be cancelled: where the context ends first, the reader is left behind for
// the end of the program, and the terminal is put back as it was.
func (s *source) prompt(fd int, what string) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	fmt.Fprintf(s.err, "%s: ", what)
	type typed struct {
		text []byte
		err  error
	}
	done := make(chan typed, 1)
	go func() {
		text, err := term.ReadPassword(fd)
		done <- typed{text, err}
	}()
	select {
	case t := <-done:
		fmt.Fprintln(s.err)
		if t.err != nil {
			return "", fmt.Errorf("%s: %w", what, t.err)
		}
		return string(t.text), nil
	case <-s.ctx.Done():
		fmt.Fprintln(s.err)
		return "", errors.Join(&interruptedError{"interrupted."}, term.Restore(fd, before))
	}
}

// writeFile writes a file that only its owner reads, whole or not at all.
func writeFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
