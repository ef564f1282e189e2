package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"biosv/internal/cli"
	"biosv/machine/libvirt"
	"biosv/vbios"
)

// defaultLibvirtFolder is scratch that QEMU's user must reach, which the data folder is not for.
const defaultLibvirtFolder = "/run/biosv"

// attachedMachines makes the host of the machines of libvirt. It has no variables and no door yet.
func attachedMachines(s settings, log *slog.Logger) (*libvirt.Host, error) {
	data, err := filepath.Abs(s.data)
	if err != nil {
		return nil, err
	}
	folder, err := filepath.Abs(s.libvirt)
	if err != nil {
		return nil, err
	}
	return libvirt.New(libvirt.Config{Folder: folder, Kept: filepath.Join(data, "libvirt"), ROM: vbios.ROM, Log: log}), nil
}

func libvirtHookCommand() *cobra.Command {
	var install bool
	cmd := &cobra.Command{
		Use:   "libvirt-hook",
		Short: "What libvirt runs before it starts a machine; --install puts it there",
		Long: `libvirt runs this before each start of each of its machines. A machine that is attached (biosv attach) has its start
prepared by the service, and does not start where the service is away or refuses it. Others are let pass.

With --install it is put among libvirt's hooks, as root. libvirtd looks for hooks only when it starts: restart it then;
its machines go on.`,
		Example: "  biosv libvirt-hook --install",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !install {
				return libvirt.Hook(args, cmd.InOrStdin())
			}
			if len(args) > 0 {
				return &cli.UsageError{Err: fmt.Errorf("--install takes no arguments")}
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			path, err := libvirt.InstallHook(libvirt.DefaultHooks, program)
			if err != nil {
				return fmt.Errorf("install the hook: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\nRestart libvirtd, so that it finds it.\n", path)
			return err
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "put it among libvirt's hooks")
	return cmd
}
