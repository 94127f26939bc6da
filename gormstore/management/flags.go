package management

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// choice is a flag that has one of several values.
type choice struct {
	value   string
	choices []string
}

// String implements pflag.Value.
func (c *choice) String() string { return c.value }

// Set implements pflag.Value.
func (c *choice) Set(value string) error {
	if !slices.Contains(c.choices, value) {
		return fmt.Errorf("invalid choice: %s (choose from %s)", value, strings.Join(c.choices, ", "))
	}
	c.value = value
	return nil
}

// Type implements pflag.Value.
func (c *choice) Type() string { return "{" + strings.Join(c.choices, ",") + "}" }

// choiceFlag gives a command a flag with one of several values, which the shell
// completes.
func choiceFlag(cmd *cobra.Command, name, shorthand, value, usage string, choices ...string) *choice {
	c := &choice{value: value, choices: choices}
	cmd.Flags().VarP(c, name, shorthand, usage)
	complete := cobra.FixedCompletions(slices.Clone(choices), cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc(name, complete) // it fails only for flags that are not there
	return c
}

// names is a flag that takes names with commas between, and may be repeated.
type names []string

// String implements pflag.Value.
func (n *names) String() string { return strings.Join(*n, ",") }

// Set implements pflag.Value. A name that is empty is a mistake, such as a
// variable that is not set: as no name at all it would mean all.
func (n *names) Set(value string) error {
	for _, name := range strings.Split(value, ",") {
		if name = strings.TrimSpace(name); name == "" {
			return errors.New("a name is empty")
		}
		*n = append(*n, name)
	}
	return nil
}

// Type implements pflag.Value.
func (n *names) Type() string { return "strings" }

func verbosityFlag(cmd *cobra.Command) *choice {
	return choiceFlag(cmd, "verbosity", "v", "1",
		"Verbosity level; 0=minimal output, 1=normal output, 2=verbose output, 3=very verbose output", "0", "1", "2", "3")
}

// keepApart keeps the flags of a command apart from those that a service's root
// has for all of its commands, whenever they are defined: cobra panics if two
// flags have one letter. The command's own letters win; the others' flags keep
// their long names. The function that normalizes names is the only one that
// pflag calls before it adds a root's flag.
func keepApart(cmd *cobra.Command) {
	busy, spell := false, cmd.GlobalNormalizationFunc()
	cmd.Flags().SetNormalizeFunc(func(set *pflag.FlagSet, name string) pflag.NormalizedName {
		if !busy {
			busy = true
			addWithoutLetter(cmd, set, name)
			busy = false
		}
		if spell != nil {
			return spell(set, name)
		}
		return pflag.NormalizedName(name)
	})
	// Those that exist already are added now: the function that normalizes
	// names may yet be replaced.
	cmd.VisitParents(func(parent *cobra.Command) {
		parent.PersistentFlags().VisitAll(func(flag *pflag.Flag) { addWithoutLetter(cmd, cmd.Flags(), flag.Name) })
	})
}

func addWithoutLetter(cmd *cobra.Command, set *pflag.FlagSet, name string) {
	if set.Lookup(name) != nil {
		return
	}
	cmd.VisitParents(func(parent *cobra.Command) {
		inherited := parent.PersistentFlags().Lookup(name)
		if inherited == nil || inherited.Shorthand == "" || set.ShorthandLookup(inherited.Shorthand) == nil || set.Lookup(name) != nil {
			return
		}
		same := *inherited // its value is the root's
		same.Shorthand = ""
		set.AddFlag(&same)
	})
}

// wronglyUsed prints how to use a command, and what was wrong, as Python's
// argparse does.
func wronglyUsed(cmd *cobra.Command, err error) error {
	text := oneLine(textOf(err))
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		text = "argument " + spelling(invalid.GetFlag()) + ": " + oneLine(textOf(errors.Unwrap(invalid))) + meant(cmd, invalid.GetFlag())
	}
	if required, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		text += meant(cmd, required.GetFlag())
	}
	cmd.PrintErrf("usage: %s\n%s: error: %s\n", cmd.UseLine(), cmd.CommandPath(), text)
	return printed(cmd, exitUsage, err)
}

// meant is the flag that a user may have meant who has used the letter of a
// command's flag: one of the root.
func meant(cmd *cobra.Command, flag *pflag.Flag) (hint string) {
	cmd.VisitParents(func(parent *cobra.Command) {
		if flag.Shorthand == "" || cmd.PersistentFlags().Lookup(flag.Name) == flag {
			return
		}
		if other := parent.PersistentFlags().ShorthandLookup(flag.Shorthand); other != nil {
			hint = fmt.Sprintf(" (here -%s is --%s, also before the command; for that of %s write --%s)",
				flag.Shorthand, flag.Name, parent.CommandPath(), other.Name)
		}
	})
	return hint
}

func spelling(flag *pflag.Flag) string {
	if flag.Shorthand == "" {
		return "--" + flag.Name
	}
	return "-" + flag.Shorthand + "/--" + flag.Name
}

// printed keeps cobra from printing an error a second time.
func printed(cmd *cobra.Command, code int, err error) error {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return &CommandError{Code: code, Err: err}
}
