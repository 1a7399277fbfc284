package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestLongFlags(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"-conf lb.toml", "--conf lb.toml"},
		{"-conf=lb.toml", "--conf=lb.toml"},
		{"--conf lb.toml", "--conf lb.toml"},
		{"-c lb.toml", "-c lb.toml"},
		{"-c=lb.toml", "-c=lb.toml"},
		{"-clb.toml", "-clb.toml"},
		{"-c/etc/lb.toml", "-c/etc/lb.toml"},
		{"check -conf lb.toml -log-level debug", "check --conf lb.toml --log-level debug"},
		{"-h", "-h"},
		{"-help", "--help"},
		{"-", "-"},
		{"-5", "-5"},
		{"-=x", "-=x"},
		{"-- -conf", "-- -conf"},
		{"-conf x -- -conf y", "--conf x -- -conf y"},
		{"---conf", "---conf"},
	} {
		if got := strings.Join(longFlags(strings.Fields(c.in)), " "); got != c.want {
			t.Errorf("%q became %q, want %q", c.in, got, c.want)
		}
	}
}

// TestLongFlagsKeepsArgs: cobra takes nil for "read os.Args".
func TestLongFlagsKeepsArgs(t *testing.T) {
	if longFlags(nil) == nil {
		t.Error("no arguments became nil")
	}
}

func TestSimilar(t *testing.T) {
	names := []string{"conf", "log-format", "log-level", "help"}
	for _, c := range []struct {
		word string
		want []string
	}{
		{"config", []string{"conf"}},
		{"cnf", []string{"conf"}},
		{"log", []string{"log-format", "log-level"}},
		{"log-levle", []string{"log-level"}},
		{"zzzzzz", nil},
	} {
		if got := similar(c.word, names); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.word, got, c.want)
		}
	}
}

func TestChoice(t *testing.T) {
	cmd := &cobra.Command{Use: "x"}
	addChoice(cmd, cmd.Flags(), "method", "how to forward", "nat", "dr")
	if got := choiceOf(cmd, "method"); got != "nat" {
		t.Errorf("default %q", got)
	}
	if err := cmd.ParseFlags([]string{"--method", "dr"}); err != nil || choiceOf(cmd, "method") != "dr" {
		t.Errorf("dr: %v, %q", err, choiceOf(cmd, "method"))
	}
	err := cmd.ParseFlags([]string{"--method", "tun"})
	if err == nil || !strings.Contains(err.Error(), "nat, dr") || choiceOf(cmd, "method") != "dr" {
		t.Errorf("tun: %v, %q", err, choiceOf(cmd, "method"))
	}
	if got := choiceOf(cmd, "no-such-flag"); got != "" {
		t.Errorf("an unknown flag has the value %q", got)
	}
}
