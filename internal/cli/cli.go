// Package cli is the command line of BIOS.v as a client of its contract. It knows no operation by name: the commands
// come from [generated.Commands], their flags from the elements of the requests ([generated.Types]), their output
// from the tables that the contract names. An operation that is added to the contract is a command the next time the
// program is built.
//
// [Commands] makes the commands, for a root command of the program's; [Run] runs the program and gives its exit code
// (biosv help exit-codes lists them). Between the two, one command goes like this: [Connection] is settled from the
// flags and the data folder, a form turns words and flags into a request, the request is handed to whatever [Connect]
// opened, and the answer is printed as tables for people or, with --json, as the message itself ([MarshalJSON]).
//
// Nothing secret is printed: a password is asked for without echo, or read from a file or the environment, and no
// error repeats it. An answer goes to standard output and everything else to standard error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"biosv/generated"
)

// Connect opens what answers requests: [SOAP] in the program, anything else in a test.
type Connect func(context.Context, Connection) (generated.Handler, error)

// Operations is the group that all commands of [Commands] stand in, in the help of the root command. [Run] adds it.
var Operations = cobra.Group{ID: "operations", Title: "Asking a service:"}

// Commands are the commands of every operation of the contract, and the help topics that explain them.
func Commands(connect Connect) []*cobra.Command {
	s := &session{connect: connect}
	top := &cobra.Command{}
	for i := range generated.Commands {
		s.add(top, &generated.Commands[i])
	}
	for _, c := range top.Commands() {
		top.RemoveCommand(c)
		c.GroupID = Operations.ID
		s.bind(c)
		describeGroups(c)
	}
	return append(s.commands, topics()...)
}

// session is what all commands of one command line share: how to connect, and the flags that each of them has.
type session struct {
	connect  Connect
	flags    connectionFlags
	json     bool
	timeout  time.Duration
	commands []*cobra.Command
}

// add hangs a command into the tree, below the commands that its words name.
func (s *session) add(parent *cobra.Command, c *generated.Command) {
	for i, word := range c.Words {
		node := child(parent, word)
		if node == nil {
			node = &cobra.Command{Use: word}
			asGroup(node)
			parent.AddCommand(node)
			if i == 0 {
				s.commands = append(s.commands, node)
			}
		}
		parent = node
	}
	parent.Annotations = nil // it is no mere group
	newForm(c).command(s, parent)
}

func child(parent *cobra.Command, word string) *cobra.Command {
	for _, c := range parent.Commands() {
		if c.Name() == word {
			return c
		}
	}
	return nil
}

// bind gives a command and those below it the flags that all have.
func (s *session) bind(c *cobra.Command) {
	f := c.PersistentFlags()
	s.flags.bind(f)
	f.BoolVar(&s.json, "json", false, "print the answer, or the fault, as JSON: the message's own names and types")
	f.DurationVar(&s.timeout, "timeout", time.Minute, "how long to wait for the answer; 0 waits for ever")
	_ = c.RegisterFlagCompletionFunc("soap", cobra.FixedCompletions([]string{"1.1", "1.2"}, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"url", "domain", "timeout"} {
		_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	_ = c.MarkPersistentFlagDirname("data")
}

// Run runs the program's root command and gives the exit code. It prints the error, if there is one: in JSON, where
// the command was asked for that.
func Run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	settleHelp(root)
	if args == nil {
		args = []string{}
	}
	root.SetArgs(args)
	// What fails before a command begins to run is an error of the command line.
	running := false
	noteRunning(root, &running)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if !running {
		err = &UsageError{err}
	}
	asJSON, _ := c.Flags().GetBool("json") // an error means that the command has no such flag
	if !running {
		asJSON = slices.Contains(args, "--json") // it may stand behind what is wrong
	}
	return report(ctx, root.ErrOrStderr(), c, err, asJSON)
}

func noteRunning(c *cobra.Command, running *bool) {
	for _, sub := range c.Commands() {
		noteRunning(sub, running)
	}
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*running = true
			return run(c, args)
		}
	} else if run := c.Run; run != nil {
		c.Run = func(c *cobra.Command, args []string) {
			*running = true
			run(c, args)
		}
	}
}

// ask sends a request and prints the answer.
func (s *session) ask(c *cobra.Command, f *form, args []string) error {
	src := &source{ctx: c.Context(), in: c.InOrStdin(), err: c.ErrOrStderr()}
	if err := f.take(args); err != nil {
		return err
	}
	save, err := f.destination(s.json)
	if err != nil {
		return err
	}
	request, err := f.request(src)
	if err != nil {
		return err
	}
	connection, err := s.flags.resolve()
	if err != nil {
		return err
	}
	reply, err := s.call(c.Context(), connection, request)
	if err != nil {
		return err
	}
	return s.answer(c, f, reply, save)
}

// call asks within the time that is given for it.
func (s *session) call(ctx context.Context, connection Connection, request generated.Request) (generated.Reply, error) {
	limited := ctx
	if s.timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, s.timeout)
		defer cancel()
	}
	handler, err := s.connect(limited, connection)
	if err != nil {
		return nil, err
	}
	reply, err := handler.Handle(limited, generated.Call{Domain: s.flags.domain}, request)
	if err == nil {
		return reply, nil
	}
	return nil, explain(ctx, s, connection, request.Operation(), err)
}

// answer prints a reply; save is the file that its document goes to, where there is one.
func (s *session) answer(c *cobra.Command, f *form, reply generated.Reply, save string) error {
	out := c.OutOrStdout()
	p := &printer{}
	var lost error
	if save != "" {
		content := f.document(reply)
		switch {
		case content == nil:
			lost = fmt.Errorf("the answer has no %s: nothing was written to %s", f.answer.Name, save)
		case save == "-":
			if _, err := out.Write(content); err != nil {
				return fmt.Errorf("write %s to standard output: %w", f.answer.Name, err)
			}
			p.saved = map[string]string{f.answer.Name: fmt.Sprintf("%d bytes on standard output", len(content))}
			out = c.ErrOrStderr() // people still see the rest
		default:
			if err := writeFile(save, content); err != nil {
				return fmt.Errorf("write %s of the answer to %s: %w", f.answer.Name, save, err)
			}
			p.saved = map[string]string{f.answer.Name: fmt.Sprintf("%d bytes in %s", len(content), plain(save, false))}
		}
	}
	if s.json {
		return errors.Join(printJSON(out, reply), lost)
	}
	p.width = terminalWidth(out)
	p.reply(reply, f.spec.Table)
	_, err := io.WriteString(out, p.String())
	return errors.Join(err, lost)
}
