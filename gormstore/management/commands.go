package management

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
)

// commandsOf returns the commands of a service.
func commandsOf(config Config) []*cobra.Command {
	return []*cobra.Command{
		migrateCommand(config),
		syncCommand(config),
		resetCommand(config),
		followersCommand(config),
		checkCommand(config),
		contentsCommand(config),
		eventsCommand(config),
		parkedCommand(config),
		retryCommand(config),
		discardCommand(config),
		deleteCommand(config),
		schemaCommand(config),
		keygenCommand(config),
	}
}

// AddCommands adds the commands of a service to a command of the service:
// migrate, sync_followers, reset_follower, followers, check, contents, events,
// schema, parked, retry_parked, discard_parked, delete_originator and keygen.
// They print to the writers of cobra, never end the process, and return a
// *CommandError if they do not succeed, whose text is printed already.
//
// If the root has a command of one of these names, such as migrate, cobra runs
// the one that was added first: add them to a group command of the root
// instead. Run the root with the context of signal.NotifyContext and
// ExecuteContext, as Main does, or an interrupt ends the process wherever it is.
//
// Flags of the root may have any name and letter: the command's own letters
// win, also before the command's name, so the long names of the root's flags
// have to be written. A SetGlobalNormalizationFunc may come later if the root's
// flags exist before. What Config.Open, Runners and handlers do in a dry run
// beside the database is really done.
func AddCommands(root *cobra.Command, config Config) {
	for _, cmd := range commandsOf(config) {
		root.AddCommand(cmd)
		for _, one := range append(cmd.Commands(), cmd) {
			keepApart(one) // again, as the root may have its own way to spell flags
		}
	}
}

// Main is the main function of a service: it runs the command that the
// arguments of the process name, and returns the exit code for os.Exit. An
// interrupt (Ctrl-C, SIGTERM) ends the context of the command, a second one the
// process.
func Main(config Config) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Run(ctx, config, os.Args[1:], os.Stdout, os.Stderr)
}

// Run is Main without the process around it. Errors of the service's own
// commands it prints where cobra does not, because the root has SilenceErrors,
// unless they are a *CommandError.
func Run(ctx context.Context, config Config, arguments []string, stdout, stderr io.Writer) int {
	root := config.Root
	if root == nil {
		root = &cobra.Command{Use: filepath.Base(os.Args[0]), SilenceErrors: true, SilenceUsage: true}
		root.SetFlagErrorFunc(wronglyUsed)
	}
	AddCommands(root, config)
	root.SetArgs(arguments)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if _, said := errors.AsType[*CommandError](err); err != nil && !said && root.SilenceErrors {
		fmt.Fprintf(stderr, "%s: %s\n", root.Name(), oneLine(textOf(err)))
	}
	return ExitCode(err)
}

// call is one run of a command.
type call struct {
	config    Config
	cmd       *cobra.Command
	arguments []string
	output    *output
	opened    bool
	closers   []func() error
}

// output takes what a command prints. It remembers the first error, so that
// callers need not check every line.
type output struct {
	io.Writer
	err error
}

// Write implements io.Writer.
func (o *output) Write(text []byte) (int, error) {
	n, err := o.Writer.Write(text)
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("cannot write the output: %w", err)
	}
	return n, err
}

// newCommand makes a command out of what it does.
func newCommand(config Config, cmd *cobra.Command, arguments cobra.PositionalArgs, act func(*call) error) *cobra.Command {
	cmd.DisableFlagsInUseLine = true
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if err := arguments(cmd, given); err != nil {
			return wronglyUsed(cmd, err)
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		c := &call{config: config, cmd: cmd, arguments: given, output: &output{Writer: cmd.OutOrStdout()}}
		return c.end(errors.Join(act(c), c.close(), c.output.err))
	}
	cmd.SetFlagErrorFunc(wronglyUsed)
	// Cobra's own flag panics if the root has -h.
	cmd.Flags().BoolP("help", "h", false, "help for "+cmd.Name())
	keepApart(cmd)
	return cmd
}

// end prints how a command has ended.
func (c *call) end(err error) error {
	if err == nil {
		return nil
	}
	if said, ok := errors.AsType[*CommandError](err); ok {
		return said
	}
	code := codeOf(c.context(), err)
	if !errors.Is(err, errFailed) || code == exitInterrupted {
		fmt.Fprintln(c.cmd.ErrOrStderr(), "CommandError: "+c.explain(code, err))
	}
	return printed(c.cmd, code, err)
}

// explain says on one line what went wrong and, if that is clear, what to run.
func (c *call) explain(code int, err error) string {
	if code == exitInterrupted {
		return whatWasInterrupted(err)
	}
	migration, ok := errors.AsType[*operations.MigrationError](err)
	if !ok {
		return oneLine(textOf(err))
	}
	run := "migrate"
	for cmd := c.cmd; cmd.HasParent(); cmd = cmd.Parent() { // a command may have subcommands
		if hasCommand(cmd.Parent(), "migrate") {
			run = cmd.Parent().CommandPath() + " migrate"
			break
		}
	}
	if migration.Alias != "" {
		run += " --database " + migration.Alias
	}
	return fmt.Sprintf("%s. Run: %s", migration.Error(), run)
}

func hasCommand(parent *cobra.Command, name string) bool {
	return slices.ContainsFunc(parent.Commands(), func(cmd *cobra.Command) bool { return cmd.Name() == name })
}

func (c *call) context() context.Context {
	if ctx := c.cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// open opens the databases, once.
func (c *call) open() error {
	if c.opened || c.config.Open == nil {
		return nil
	}
	c.opened = true
	closeAll, err := c.config.Open(c.context())
	if closeAll != nil {
		c.closers = append(c.closers, closeAll)
	}
	return err
}

// runner opens the databases and makes the runner.
func (c *call) runner() (operations.Runner, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	runner, err := operations.FindRunner(c.context(), c.config.Runners, c.config.lookup(operations.RunnerSetting))
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, runner.Close)
	return runner, lasting(runner)
}

// makeRunners makes all runners, so that their projections are known to the
// database: gormstore.AutoMigrate migrates their models.
func (c *call) makeRunners() error {
	for _, name := range slices.Sorted(maps.Keys(c.config.Runners)) {
		runner, err := operations.FindRunner(c.context(), c.config.Runners, name)
		if err != nil {
			return err
		}
		c.closers = append(c.closers, runner.Close)
	}
	return nil
}

// lasting refuses applications that keep events in memory, of which every
// command has its own. The store was forgotten.
func lasting(runner operations.Runner) error {
	names := slices.DeleteFunc(operations.MemberNames(runner), func(name string) bool {
		app, _ := operations.ApplicationOf(runner, name)
		return !bool(capability.Of(app.Factory()).Volatile)
	})
	if len(names) == 0 {
		return nil
	}
	return &operations.RunnerError{Problem: fmt.Sprintf("these applications keep events in memory: %s; give application.WithStore, or set PERSISTENCE_MODULE",
		strings.Join(names, ", "))}
}

// anyRunner is runner for a command that also works without one.
func (c *call) anyRunner() (operations.Runner, error) {
	if len(c.config.Runners) == 0 && c.config.lookup(operations.RunnerSetting) == "" {
		return nil, c.open()
	}
	return c.runner()
}

// close closes what was opened, the last first.
func (c *call) close() (err error) {
	for i := len(c.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, c.closers[i]())
	}
	c.closers = nil
	return err
}

// completer completes arguments with names that come from a runner, which may
// be nil.
func completer(config Config, names func(ctx context.Context, runner operations.Runner) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		c := &call{config: config, cmd: cmd, output: &output{Writer: io.Discard}}
		defer func() { _ = c.close() }() // it is not read
		runner, err := c.anyRunner()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		found, err := names(c.context(), runner)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return without(found, given), cobra.ShellCompDirectiveNoFileComp
	}
}

// without leaves out the names that are given already, and those that come
// twice.
func without(names, given []string) (rest []string) {
	seen := map[string]bool{}
	for _, name := range given {
		seen[name] = true
	}
	for _, name := range names {
		if !seen[name] {
			seen[name] = true
			rest = append(rest, name)
		}
	}
	return rest
}
