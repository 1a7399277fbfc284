package neigh

import (
	"os/exec"
	"strings"
	"testing"
)

// TestInline keeps MAC within the compiler's budget: a call would double its cost on the path of every packet.
func TestInline(t *testing.T) {
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("no compiler to ask: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), gotool, "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "can inline (*Resolver).MAC") {
		t.Error("MAC is no longer inlined")
	}
}
