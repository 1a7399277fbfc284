package stack

import (
	"os/exec"
	"strings"
	"testing"
)

// What the path calls for every packet and is too small to be worth a call. Asks the compiler; -short skips it.
func TestInlining(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the package")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("no compiler to ask: %v", err)
	}
	out, err := exec.Command("go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range []string{
		"DstMAC", "SrcMAC", "DstWord", "SrcWord", "WordOf", "MACWord.MAC", "SetMACs", "deltaAddr", "delta16", "fold", "fold64", "patch", "patchPartial", "checkIPv4Addrs", "IsExtension",
		"AddrFrom4", "AddrFrom16", "Addr.Is4", "Addr.IsZero", "Addr.Words", "Tuple.Reverse", "parseOther", "(*Packet).headersLen",
	} {
		if !strings.Contains(string(out), "can inline "+f+"\n") {
			t.Errorf("%s is not inlined", f)
		}
	}
}
