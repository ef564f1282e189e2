package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"biosv/security/launch"
)

func launchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "launch",
		Short: "The launch policy: which biosv may use the issuing key",
		Long: `The launch policy says which program, with which settings, may use the issuing key that the TPM holds. Its signer's
key is DIR/launch/signer.key; keep it elsewhere between upgrades.`,
	}
	cmd.AddCommand(authorizeCommand())
	return cmd
}

func authorizeCommand() *cobra.Command {
	var s settings
	var quiet bool
	cmd := &cobra.Command{
		Use:     "authorize",
		Short:   "Authorize this very program, before it is started in the place of another",
		Long:    `Measures this program and approves it, with the signer's key, beside those approved before. The service may run meanwhile; it is to be started anew afterwards.`,
		Example: "  biosv launch authorize --data /var/lib/biosv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settle(&s); err != nil {
				return err
			}
			l, err := launch.Open(filepath.Join(s.data, "launch"))
			if err != nil {
				return err
			}
			program, err := launch.Program()
			if err != nil {
				return err
			}
			changed, err := l.Authorize(launch.Expected(program, s.measured()))
			if err != nil {
				return fmt.Errorf("authorize: %w", err)
			}
			switch {
			case quiet:
			case changed:
				fmt.Fprintf(cmd.OutOrStdout(), "authorized: program %x, launch policy version %d\n", program, l.Version())
			default:
				fmt.Fprintf(cmd.OutOrStdout(), "nothing to do: program %x is authorized already\n", program)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&s.data, "data", defaultData(), "data folder ($BIOSV_DATA)")
	cmd.Flags().StringVar(&s.trustDomain, "trust-domain", "biosv.local", "SPIFFE trust domain that the service is started with")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "say nothing where all is well")
	return cmd
}
