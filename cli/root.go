package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `tapdirector is a Layer-4 load balancer (a director, in LVS's words) that lives in user space on TAP devices
bridged to a LAN. It spreads TCP and UDP connections to virtual services over real servers:

  nat      the destination becomes the server's address; the server's default gateway is the director
  dr       only the destination MAC changes; the server holds the service's address on lo and answers the client itself
  tun      as dr, but in a tunnel (IPIP, GUE, GRE): the server may be behind routers
  fullnat  both ends change, so the server needs no route to us; it sees the director's address

It needs one file, lb.toml. A small one:

  [[interface]]
  name      = "lan"
  tap       = "tap0"              # made if it is missing and we may
  bridge    = "br0"               # the bridge that holds the LAN's NIC
  addresses = ["10.77.1.2/24"]    # the director's own address

  [[service]]
  name   = "web"
  listen = "10.77.1.100:80"       # what clients connect to
  method = "dr"

    [[service.server]]
    address = "10.77.1.11"
    [[service.server]]
    address = "10.77.1.12"

While it runs, SIGUSR1 makes it log every counter; SIGINT or SIGTERM stop it within a second.

Exit codes: 0 ok, 1 runtime failure, 2 wrong usage or mistakes in the configuration (then nothing was started).`

const rootExample = `  tapdirector lab                              see it work: a client, a director and servers in namespaces of their own
  tapdirector check -conf lb.toml              say what is wrong with lb.toml, or what it would do
  tapdirector -conf lb.toml                    run
  tapdirector -conf lb.toml --log-format json  run, with a log for machines
  kill -USR1 $(pidof tapdirector)              have it log every counter`

// rootCommand builds the tree of commands. The root itself runs the director.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:                        "tapdirector -conf lb.toml",
		Short:                      "A Layer-4 load balancer in user space on TAP devices",
		Long:                       rootLong,
		Example:                    rootExample,
		Version:                    versionText(),
		Args:                       noArguments,
		ValidArgsFunction:          cobra.NoFileCompletions,
		DisableFlagsInUseLine:      true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2, // letters
		SilenceErrors:              true,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return runCommand(cmd) },
	}
	root.SetVersionTemplate("{{.Version}}")
	root.SetFlagErrorFunc(flagError)
	addConf(root)
	addLogFlags(root)
	root.AddCommand(checkCommand(), labCommand(), versionCommand())
	return root
}

// addConf gives cmd the flag -conf.
func addConf(cmd *cobra.Command) {
	cmd.Flags().StringP("conf", "c", "", "the configuration `FILE` (-conf works too)")
	// The only failure is a flag that does not exist.
	_ = cmd.MarkFlagFilename("conf", "toml")
}

// confPath returns the value of -conf; it must have been given.
func confPath(cmd *cobra.Command) (string, error) {
	path, err := cmd.Flags().GetString("conf")
	if err == nil && path == "" {
		err = errors.New("which configuration? Say -conf lb.toml")
	}
	if err != nil {
		return "", &usageError{err}
	}
	return path, nil
}

// noArguments refuses words that are neither a flag nor a command, and guesses what was meant.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	word := args[0]
	if strings.HasSuffix(word, ".toml") {
		return fmt.Errorf("unexpected %q. Did you mean -conf %s?", word, word)
	}
	if !cmd.HasSubCommands() {
		return fmt.Errorf("unexpected %q: '%s' takes flags only", word, cmd.CommandPath())
	}
	return fmt.Errorf("unknown command %q%s", word, didYouMean(cmd.SuggestionsFor(word), ""))
}
