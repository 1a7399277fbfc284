package cli

import (
	"github.com/spf13/cobra"

	"tapdirector/conf"
)

// checkCommand is `tapdirector check -conf lb.toml`.
func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check -conf lb.toml",
		Short: "Validate a configuration and print what it would do; changes nothing and needs no rights",
		Long: `check reads the configuration as a run would and prints every mistake in it, one a line, each with where it is and what would
be right (exit code 2), or else a table of the interfaces, routes, services and servers that a run would have (exit code 0).
It opens no device and needs no rights, so it can be run anywhere: in an editor, in CI, before a restart.`,
		Example:               "  tapdirector check -conf lb.toml",
		Args:                  noArguments,
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := confPath(cmd)
			if err != nil {
				return err
			}
			c, err := conf.Load(path)
			if err != nil {
				return &configError{err}
			}
			return conf.Table(cmd.OutOrStdout(), c)
		},
	}
	addConf(cmd)
	return cmd
}
