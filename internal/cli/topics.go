package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// topics are the help topics: what every command has in common.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "What the program's exit codes mean", Long: exitCodes()},
		{Use: "connection", Short: "How the service is found, and how both sides prove who they are", Long: connectionTopic},
		{Use: "values", Short: "How values are written: files, lists, secrets, JSON", Long: valuesTopic},
	}
}

// exitCodes is the table of exit codes.
func exitCodes() string {
	var b strings.Builder
	b.WriteString("The exit code says what became of a command:\n\n")
	for _, row := range exits {
		fmt.Fprintf(&b, "  %3d  %s\n", row.code, row.meaning)
		if len(row.faults) > 0 {
			fmt.Fprintf(&b, "       (%s)\n", list(row.faults, "or"))
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

const connectionTopic = `A command needs to know where the service is, which root its certificate ends in, and which certificate to show.
The data folder of a service on this host has all three; it is --data DIR, else $BIOSV_DATA, else ` + DefaultData + `:

  DIR/` + addressFile + `             the address; --url ADDRESS says another
  DIR/` + rootFile + `      the root certificate; --ca FILE names another
  DIR/` + certificateFile + `   the first admin's certificate; --cert FILE shows another,
  DIR/` + keyFile + `   and its key; --key FILE

From another host, copy trust/root.pem there, get a certificate of your own (biosv operator add --help), and say

  biosv power status --domain demo --url https://HOST:8443/bios --ca root.pem --cert me.pem --key me.key

--domain NAME asks the BIOS of that domain; without it, the privileged domain is asked. The channel is TLS 1.2 or better, and
what the service shows must end in the root and bear the address's host name: there is no way to switch that off.`

const valuesTopic = `Elements of a request are flags, in small letters with dashes: RequestPem is --request-pem. Most commands take the main
ones without a flag. A repeated flag gives a list where the contract allows one.

  @FILE     stands for the text in FILE, without the line break at its end; @- for standard input
  @@TEXT    stands for the text @TEXT
  times     are written 2026-01-31T12:00:00Z

Names with values, as in biosv attributes set:

  NAME=VALUE        one value, taken as it is: a comma in it is a comma, and NAME= is the empty text
  NAME:=A,B,C       a list in its order; NAME:= is the empty list
  NAME=A NAME=B     a list too, for values that hold a comma
  {"Name":…}        a JSON object with the contract's names, for anything else, or a JSON array of such objects
  @FILE             the same from a file, such as [{"Name":"AssetTag","NewValue":["rack-7"]}]

Secrets do not belong on the command line, where others can read them. Where one is wanted, and for every NAME that ends in
Password or Secret:

  -         asks for it without echo; where standard input is no terminal, its next line is the secret
  @FILE     reads it from a file

A secret that is a flag is also taken from the environment: --administrator-password from $BIOSV_ADMINISTRATOR_PASSWORD.

Files: --file FILE is what a restore reads, and where a command puts the document that the answer holds, such as a backup or a
certificate; --file - is standard output. What is written is readable for its owner only.`
