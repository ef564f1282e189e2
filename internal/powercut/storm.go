package powercut

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"

	"biosv/service/uefi/frame"
)

// said is what a guest said to the port of its thin virtual BIOS, from its power-on on; testdata/README.md says how it
// was recorded.
//
//go:embed testdata/said.gz
var said []byte

// Storm gives the frames of a guest that boots, and then writes variables while its service dies again and again. Left
// out are those that only a guest with the same service can say: Hello, and a request that it said again.
func Storm() (frames []*frame.Frame, err error) {
	z, err := gzip.NewReader(bytes.NewReader(said))
	if err != nil {
		return nil, fmt.Errorf("read testdata/said.gz: %w", err)
	}
	for d := frame.NewDecoder(z); ; {
		f, err := d.Next()
		if errors.Is(err, io.EOF) {
			return frames, nil
		} else if err != nil {
			return nil, fmt.Errorf("read testdata/said.gz: %w", err)
		}
		if f.Kind == frame.Hello {
			continue
		}
		f.Body = bytes.Clone(f.Body)
		if n := len(frames); n > 0 && bytes.Equal(f.Body, frames[n-1].Body) && f.Kind == frames[n-1].Kind {
			continue
		}
		frames = append(frames, f)
	}
}
