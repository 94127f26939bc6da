package management

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// style is how a text looks on a terminal: the parameters of an ANSI sequence.
type style string

// The styles of the Python library.
const (
	warning style = "33;1"
	success style = "32;1"
	failure style = "31;1"
	heading style = "36;1"
	label   style = "1"
)

// screen is what a command prints on.
type screen struct {
	io.Writer
	coloured bool
	live     bool // lines can be written over
}

// show prints a text in a style.
func (s screen) show(as style, text string) {
	if s.coloured {
		text = "\x1b[" + string(as) + "m" + text + "\x1b[0m"
	}
	fmt.Fprint(s, text)
}

// line prints a line in a style.
func (s screen) line(as style, format string, arguments ...any) {
	s.show(as, fmt.Sprintf(format, arguments...))
	fmt.Fprintln(s)
}

// isTerminal reports whether a person reads or types at the other end.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	nobody, err := os.Stat(os.DevNull) // which is a device for characters too
	return err != nil || !os.SameFile(info, nobody)
}

// colourFlags are whether to use colours, beside what the output and NO_COLOR
// say.
type colourFlags struct{ never, always bool }

func addColourFlags(cmd *cobra.Command) *colourFlags {
	flags := &colourFlags{}
	cmd.Flags().BoolVar(&flags.never, "no-color", false, "Don't colorize the command output.")
	cmd.Flags().BoolVar(&flags.always, "force-color", false, "Force colorization of the command output.")
	cmd.MarkFlagsMutuallyExclusive("no-color", "force-color")
	return flags
}

// screen is the output of a command.
func (f *colourFlags) screen(c *call) screen {
	live := isTerminal(c.output.Writer)
	coloured := live && c.config.lookup("NO_COLOR") == ""
	return screen{Writer: c.output, coloured: f.always || coloured && !f.never, live: live}
}
