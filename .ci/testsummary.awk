# Reads the output of `go test -v ./...` and prints what a person wants of it: a line for each package, what the failed tests
# said, and at the end which tests were skipped and why.

/^=== (RUN|CONT|NAME) / { test = $3; next }
/^=== PAUSE / { next }

/^ *--- PASS: / { passed++; delete said[$3]; next }

/^ *--- FAIL: / {
	failed++
	text = text said[$3] $0 "\n"
	delete said[$3]
	next
}

# The last line of a skipped test's own log is its reason.
/^ *--- SKIP: / {
	skipped++
	lines = split(said[$3], line, "\n")
	reason = lines > 1 ? line[lines - 1] : "no reason given"
	sub(/^ +/, "", reason)
	list[skipped] = $3 ": " reason
	delete said[$3]
	next
}

# The end of a package. What no test's end has claimed by then is a panic.
/^(ok|\?|FAIL)[ \t]/ || /^[ \t]+[^ \t]+[ \t]+coverage: / {
	if ($1 == "FAIL") {
		printf "%s", text
		for (name in said) printf "%s", said[name]
		broken = 1
	}
	print
	fflush()
	text = test = ""
	delete said
	next
}

/^(PASS|FAIL)$/ { next }
test == "" { print; next } # before the first test of a package: the compiler, on what does not build
{ said[test] = said[test] $0 "\n" }

END {
	for (name in said) printf "%s", said[name]
	if (skipped) print "\nskipped:"
	for (i = 1; i <= skipped; i++) print "  " list[i]
	printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped
	if (failed || broken) print "(the whole log: " log_file ")"
}
