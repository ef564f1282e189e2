//go:build guest

package services_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"biosv/internal/ovmf"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/flash"
	"biosv/smm/variable/services"
)

// firmware is a machine whose own firmware answers.
type firmware struct{ *ovmf.Machine }

func (f firmware) SetVariable(k services.Key, a efi.Attributes, data []byte) error {
	return f.Machine.SetVariable(k.Name, k.Vendor, a, data)
}

func (f firmware) GetVariable(k services.Key) (v services.Variable, err error) {
	v.Attributes, v.Data, err = f.Machine.GetVariable(k.Name, k.Vendor)
	return v, err
}

func (f firmware) GetNextVariableName(k services.Key) (services.Key, error) {
	name, vendor, err := f.Machine.GetNextVariableName(k.Name, k.Vendor)
	return services.Key{Vendor: vendor, Name: name}, err
}

func (f firmware) QueryVariableInfo(a efi.Attributes) (i services.Info, err error) {
	i.MaximumStorage, i.RemainingStorage, i.MaximumVariable, err = f.Machine.QueryVariableInfo(a)
	return i, err
}

func (f firmware) runtime() { f.ExitBootServices() }

func (f firmware) start() error {
	f.Reset()
	return nil
}

// TestOVMFAnswersTheCasesTheSame makes the calls of every case to OVMF's own variable driver and to ours, side by side,
// and after each SetVariable asks both for the variable. Where they differ, testdata/differences.txt says so, and why.
func TestOVMFAnswersTheCasesTheSame(t *testing.T) {
	cases := readCases(t)
	const lanes = 2
	found := make([][]string, lanes)
	t.Run("lanes", func(t *testing.T) {
		for lane := range lanes {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				for _, begins := range []string{"setup", "user"} {
					t.Run(begins, func(t *testing.T) { // whose machine ends with it
						var mine []testCase
						for i, c := range cases {
							if i%lanes == lane && (c.mode == "setup") == (begins == "setup") {
								mine = append(mine, c)
							}
						}
						found[lane] = append(found[lane], differences(t, begins, mine)...)
					})
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	listed := readDifferences(t)
	for _, d := range slices.Concat(found...) {
		if _, ok := listed[d]; !ok {
			t.Errorf("not in testdata/differences.txt:\n  %s", d)
		}
		delete(listed, d)
	}
	for d, line := range listed {
		t.Errorf("differences.txt:%d: it is not so any more:\n  %s", line, d)
	}
	if t.Failed() {
		t.Log("testdata/differences.txt is that of Debian 12's ovmf, 2022.11")
	}
}

// differences runs cases on a machine of its own, which begins each in the same mode.
func differences(t *testing.T, begins string, cases []testCase) (found []string) {
	t.Helper()
	var enrolled []flash.Variable
	for k, v := range begun(t, begins).memory {
		if v.Attributes.Has(efi.NonVolatile) {
			enrolled = append(enrolled, flash.Variable{Key: k, Variable: v})
		}
	}
	file, err := flash.Render(enrolled)
	if err != nil {
		t.Fatal(err)
	}
	theirs := firmware{ovmf.Start(t, file)}
	theirs.Keep("begin")
	changed := false // since
	for _, c := range cases {
		if changed { // which takes a tenth of a second, and the firmware is slow after it
			theirs.Return("begin")
		}
		changed = false
		ours := begun(t, begins)
		leads := beginning(t, c.mode)[len(beginning(t, begins)):]
		steps := append(leads, c.steps...)
		for i, s := range steps {
			if s.call == "start" && i < len(leads) && !changed {
				ours.start() // there is nothing that it could bring into force in the other
				continue
			}
			name := s.text
			for _, before := range steps[:i] {
				if before.text == s.text {
					name += "'" // once more
				}
			}
			our, their := s.answers(ours), s.answers(theirs)
			changed = changed || s.call == "runtime" || s.call == "start" || s.call == "set" && !strings.HasSuffix(their, unchanged)
			if our != their {
				found = append(found, fmt.Sprintf("%s | %s | OVMF %s | BIOS.v %s", c.name, name, their, our))
			}
		}
	}
	return found
}

const unchanged = ", and nothing changed"

// answers makes the call of a step, and asks what became of the variable that it sets.
func (s testStep) answers(x subject) string {
	if s.call != "set" {
		return s.ask(x).String()
	}
	before, none := x.GetVariable(s.key)
	said := s.ask(x)
	after, gone := x.GetVariable(s.key)
	switch {
	case said.err != nil && (none == nil) == (gone == nil) && same(before, after):
		return said.String() + unchanged
	case gone != nil:
		return said.String() + ", then none"
	}
	return fmt.Sprintf("%s, then %s of %s", said, inWords(after.Data), after.Attributes)
}

// readDifferences gives the lines of testdata/differences.txt that tell a difference, with their numbers.
func readDifferences(t *testing.T) map[string]int {
	t.Helper()
	b, err := os.ReadFile("testdata/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]int{}
	decided := false
	for i, line := range strings.Split(string(b), "\n") {
		difference, indented := strings.CutPrefix(line, "  ")
		switch {
		case indented && decided && listed[difference] == 0:
			listed[difference] = i + 1
		case indented:
			t.Errorf("differences.txt:%d: it is there twice, or stands under no decision", i+1)
		case strings.HasPrefix(line, "because "):
			decided = strings.Count(line, " | ") == 2
		case line == "":
			decided = false
		case line[0] != '#':
			t.Errorf("differences.txt:%d: %q is nothing", i+1, line)
		}
	}
	return listed
}
