package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"biosv/internal/cli"
	"biosv/internal/doctor"
	"biosv/machine/host"
	"biosv/machine/libvirt"
	"biosv/machine/qemu"
	"biosv/security/pki"
	"biosv/security/tpm"
	"biosv/smm"
)

func doctorCommand() *cobra.Command {
	var s settings
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host has and lacks, and whether serve could run here",
		Long: `Looks at this host, changes nothing, and says for each thing whether it is there (ok), not there (lacks) or wrong
(problem), and what to do about it, with the Debian package where one helps. Not all that is lacking is needed: the
exit code is 0 where serve could run, and 1 where something keeps it from that.

Run it as the user that the service runs as, with the flags that serve is to have.`,
		Example: "  biosv doctor --data /var/lib/biosv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := s.examined()
			if err != nil {
				return err
			}
			report := doctor.Examine(cmd.Context(), config)
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				err = e.Encode(report)
			} else {
				err = report.Print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return report.Err()
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.data, "data", defaultData(), "data folder ($BIOSV_DATA)")
	f.StringVar(&s.listen, "listen", defaultListen, "address that serve is to listen on")
	f.StringVar(&s.tpm, "tpm", string(tpm.Auto), "TPM that serve is to use: auto, device:PATH, swtpm, or software (no TPM at all)")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

// examined says what is to be looked at for a service with these settings.
func (s *settings) examined() (doctor.Config, error) {
	source, err := tpm.ParseSource(s.tpm)
	if err != nil {
		return doctor.Config{}, &cli.UsageError{Err: fmt.Errorf("--tpm: %w", err)}
	}
	root := os.DirFS("/")
	c := doctor.Config{
		Files: doctor.Files{
			Folder:  s.data,
			State:   filepath.Join(s.data, "state.db"),
			Address: filepath.Join(s.data, "address"),
			Root:    filepath.Join(s.data, "trust", pki.RootFile),
			Admin:   filepath.Join(s.data, "clients", firstAdmin+".pem"),
		},
		Listen: s.listen,
		Swtpm:  source.Kind == tpm.Auto || source.Kind == tpm.Swtpm,
		SMBIOS: func() (string, error) {
			t, err := host.ReadTables(root)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("version %s, %d structures", t.Version(), t.Len()), nil
		},
		Sensors: func(ctx context.Context) (string, error) {
			m, err := host.Open(ctx, smm.Domain{}, nil, nil)
			if err != nil {
				return "", err
			}
			reading, err := m.Thermal(ctx)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d that answer, and %d fans", len(reading.Sensor), len(reading.Fan)), nil
		},
	}
	c.Hook = func() error {
		program, err := os.Executable()
		if err != nil {
			return err
		}
		return libvirt.InspectHook(libvirt.DefaultHooks, program)
	}
	c.Attached = func() []string { return libvirt.AttachedMachines(libvirt.DefaultDefinitions) }
	c.Firmware = qemu.New(qemu.Config{Log: slog.New(slog.DiscardHandler)}).Firmware
	switch source.Kind {
	case tpm.Auto:
		c.Device = tpm.ResourceManager
	case tpm.Device:
		c.Device = source.Path
	}
	c.Here()
	return c, nil
}
