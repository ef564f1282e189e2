package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// helpWidth is how long a line of the help is at most.
const helpWidth = 110

// usageTemplate is cobra's own, but for: a command that is only there for those below it shows no usage of its own;
// lines of flags end before they are too long to read; and help topics are called what they are.
var usageTemplate = `Usage:{{if and .Runnable (not (index .Annotations "group"))}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}{{if .HasExample}}

Example:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$all := .Commands}}{{if .Groups}}{{range $group := .Groups}}

{{.Title}}{{range $all}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}

Other commands:{{range $all}}{{if and (eq .GroupID "") (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{else}}

Commands:{{range $all}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsagesWrapped ` + strconv.Itoa(helpWidth) + ` | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Flags of all these commands:
{{.InheritedFlags.FlagUsagesWrapped ` + strconv.Itoa(helpWidth) + ` | trimTrailingWhitespaces}}{{end}}{{if .HasHelpSubCommands}}

Help topics:{{range .Commands}}{{if .IsAdditionalHelpTopicCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableSubCommands}}

{{.Root.Name}} help COMMAND tells more.{{end}}
`

// settleHelp makes the root command's help what this package wants it to be.
func settleHelp(root *cobra.Command) {
	root.SetUsageTemplate(usageTemplate)
	if !root.ContainsGroup(Operations.ID) {
		root.AddGroup(&Operations)
	}
	root.InitDefaultCompletionCmd()
	groups(root)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		// A word that is no command leaves flags behind it that nobody knows.
		if words := c.Flags().Args(); c.Annotations["group"] != "" && len(words) > 0 {
			return unknownCommand(c, words[0])
		}
		return err
	})
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil || help == root {
		return // it has no commands to give help about
	}
	help.Short, help.Long = "Help about a command or a topic", "Tells more about a command, or about a topic."
	help.Use, help.DisableFlagsInUseLine = "help COMMAND", true
	help.Run = nil
	help.RunE = func(c *cobra.Command, args []string) error {
		about, rest, err := root.Find(args)
		if err != nil {
			return &UsageError{err}
		}
		if len(rest) > 0 {
			return unknownCommand(about, rest[0])
		}
		about.InitDefaultHelpFlag()
		about.InitDefaultVersionFlag()
		return about.Help()
	}
}

// groups makes of every command that does nothing itself, and has commands below it, one that says so.
func groups(c *cobra.Command) {
	if !c.Runnable() && c.HasSubCommands() {
		asGroup(c)
	}
	for _, sub := range c.Commands() {
		groups(sub)
	}
}

// asGroup makes a command one that is there for those below it.
func asGroup(c *cobra.Command) {
	c.Args, c.RunE, c.DisableFlagsInUseLine = cobra.ArbitraryArgs, group, true
	c.Annotations = map[string]string{"group": "yes"}
}

// group is what a command does that is there for those below it.
func group(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(c, args[0])
	}
	return c.Help()
}

// unknownCommand is the error of a word that no command below c has.
func unknownCommand(c *cobra.Command, word string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	if len(names) == 0 {
		return usage("%s has no commands, and no %q", c.CommandPath(), word)
	}
	text := fmt.Sprintf("%s has no command %q; it has %s", c.CommandPath(), word, list(names, "and"))
	c.SuggestionsMinimumDistance = (len(word) + 1) / 3 // edits: one in a short word, two in most
	if near := c.SuggestionsFor(word); len(near) > 0 {
		text += "; did you mean " + list(near, "or") + "?"
	}
	return &UsageError{errors.New(text)}
}

// describeGroups says of a command that is there for those below it what they are.
func describeGroups(c *cobra.Command) {
	if c.Short != "" {
		return
	}
	var names []string
	for _, sub := range c.Commands() {
		describeGroups(sub)
		names = append(names, sub.Name())
	}
	c.Short = strings.Join(names, ", ")
	c.Long = "Commands about " + strings.ReplaceAll(c.Name(), "-", " ") + "."
}
