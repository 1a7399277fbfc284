package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// longFlags rewrites flags with a single dash and a long name to the two dashes that pflag wants: it would read -conf as the
// four flags -c -o -n -f. A long name is two or more small letters or dashes up to the end or a '='; so -c, -c=lb.toml
// and -clb.toml stay as they are, and so does everything behind "--".
func longFlags(args []string) []string {
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if isLongFlag(arg) {
			arg = "-" + arg
		}
		out = append(out, arg)
	}
	return out
}

// isLongFlag reports whether arg is one dash and a long name.
func isLongFlag(arg string) bool {
	name, _, _ := strings.Cut(arg, "=")
	if len(name) < 3 || name[0] != '-' || name[1] == '-' {
		return false
	}
	return strings.Trim(name[1:], "abcdefghijklmnopqrstuvwxyz-") == ""
}

// flagError adds to an unknown flag what it may have been meant to be.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return fmt.Errorf("%w%s", err, didYouMean(similar(unknown.GetSpecifiedName(), names), "--"))
}

// similar returns those names that word may have been meant to be, by the rule cobra has for commands.
func similar(word string, names []string) []string {
	c := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, name := range names {
		c.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	return c.SuggestionsFor(word)
}

// didYouMean is the end of a message: the guesses, or nothing.
func didYouMean(guesses []string, prefix string) string {
	if len(guesses) == 0 {
		return ""
	}
	return fmt.Sprintf(". Did you mean %s%s?", prefix, strings.Join(guesses, " or "+prefix))
}

// choice is the value of a flag that takes one of a few words.
type choice struct {
	value   string
	allowed []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.allowed, "|") }

// Set takes one of the allowed words.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("must be one of: %s", strings.Join(c.allowed, ", "))
	}
	c.value = s
	return nil
}

// addChoice gives cmd a flag that takes one of the allowed words, the first by default, with completion in the shell.
// It is a flag of cmd alone or, if flags is cmd.PersistentFlags(), also of the commands below. Read it with choiceOf.
func addChoice(cmd *cobra.Command, flags *pflag.FlagSet, name, usage string, allowed ...string) {
	flags.Var(&choice{value: allowed[0], allowed: allowed}, name, usage)
	// The only failure is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
}

// choiceOf returns the word that was chosen with a flag of addChoice.
func choiceOf(cmd *cobra.Command, name string) string {
	f := cmd.Flags().Lookup(name)
	if f == nil {
		return ""
	}
	return f.Value.String()
}
