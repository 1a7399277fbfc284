# Reads the output of `go test -v ./...` and prints what a person wants of it: a line for each package, everything of a package
# that failed, and at the end which tests were skipped and why.

# A line of a test's own log: the reason, if the test then says it is skipped.
/^ +[A-Za-z0-9_]+\.go:[0-9]+: / { reason[test] = $0; sub(/^ +/, "", reason[test]) }

/^=== (RUN|CONT|NAME) / { test = $3 }

/^ *--- PASS: / { passed++ }
/^ *--- FAIL: / { failed++ }
/^ *--- SKIP: / {
	name = $3
	skipped++
	list[skipped] = name ": " (name in reason ? reason[name] : "no reason given")
}

# The end of a package: what it printed is shown only if it failed. A package that does not build has no test output before it.
/^(ok|\?|FAIL)[ \t]/ || /^[ \t]+[^ \t]+[ \t]+coverage: / {
	if ($1 == "FAIL") { printf "%s", text; broken = 1 }
	print
	fflush()
	text = ""
	delete reason
	next
}

/^(PASS|FAIL)$/ { next }
{ if ($0 !~ /^=== (RUN|PAUSE|CONT|NAME) / && $0 !~ /^ *--- PASS: /) text = text $0 "\n" }

END {
	printf "%s", text
	if (skipped) print "\nskipped:"
	for (i = 1; i <= skipped; i++) print "  " list[i]
	printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped
	if (failed || broken) print "(the whole log: bin/test.log)"
}
