// Command biosv is the virtual trusted runtime BIOS: the service (biosv serve), and a client for every operation
// of its contract.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"biosv/internal/cli"
)

// version is set by the Makefile.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(cli.Run(ctx, command(), os.Args[1:]))
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "biosv",
		Short: "The virtual trusted runtime BIOS: the service, and a client for every operation of its contract",
		Long: `BIOS.v is the BIOS of virtual machines, of the host they run on and of physical machines, in one service.

  biosv serve --data DIR        starts it; an empty folder is set up by itself
  biosv attributes list         asks it, with the first admin's certificate from the same folder`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	service := &cobra.Group{ID: "service", Title: "The service:"}
	root.AddGroup(service)
	for _, c := range []*cobra.Command{serveCommand(), launchCommand(), doctorCommand(), libvirtHookCommand()} {
		c.GroupID = service.ID
		root.AddCommand(c)
	}
	root.AddCommand(cli.Commands(cli.SOAP)...)
	return root
}
