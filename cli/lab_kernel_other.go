//go:build !linux

package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"tapdirector/integration"
)

var errNoNamespaces = errors.New("network namespaces are Linux's")

// elsewhere says why there is no lab of kernels.
func elsewhere(*cobra.Command) (done bool, err error) { return false, errNoNamespaces }

func kernelStage(integration.Spec) (*stage, error) { return nil, errNoNamespaces }
