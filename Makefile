# tapdirector: build, test, show. `make` alone lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
GO          ?= go
BIN         := $(CURDIR)/bin
FUZZTIME    ?= 20s
BENCHTIME   ?= 1s
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
RACE        ?=
NORACE      ?=
# The commit is stamped into the binary where git knows it.
BUILDVCS    := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)
TESTFLAGS   ?=
TESTLOG     := $(BIN)/test$(if $(RACE),-race)$(if $(NORACE),-norace).log
PACKAGES    ?= ./...
# How many packages are tested at once, and tests of each: twice the CPUs, because tests over kernels mostly wait.
PARALLEL    ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))))
QUICK       ?=
BENCHFLAGS  ?=

# The race detector is written in C and needs cgo; all else is Go. Left out are long computations in one goroutine, which have no races and take ten times as
# long with it, the bench, and counts of allocations and instructions, which are those of another program there.
ALONE := Bench|ReloadIsBounded|Instructions|Streak.*|.*Alloc.*|PortsOfOneServer|PortsOfAServerOfTheOtherFamily|ReplyTuplesAreUnique|MemoryPerConnection|MemoryInProportion|MemoryIsGivenBack|MemoryIsUsedAgain|CollectorSeesNothing|TableAgainstTwin|GivingBackAgainstTwin|IndexAgainstMap|EachWhileMemoryIsGivenBack|ThousandServers|Leaving|Share|Disruption|FullNATManyConnections|FullNATPortsRunOut|RateFlood|AnswersArrive|MergeRandom|SetEndsIsBoth|AlikeIsParse|ParseSimpleIsParse|RewriteIsSetEnds|AgainIsTouch|RecentAgainstTwin|EditIsRebuild|Persistence|Thresholds|Timeouts|EarlyDrop|MarksOfMany|TUNOuterHeader|OnlyUsable|ForwardAcross|ForwardStructured|CasesAgainstRecord
ifneq ($(RACE),)
TESTFLAGS += -race -skip '^Test($(ALONE))$$'
TESTENV   := CGO_ENABLED=1
else ifneq ($(NORACE),)
TESTFLAGS += -run '^Test($(ALONE))$$'
PACKAGES  := $(sort $(dir $(shell grep -rlE --include='*_test.go' '^func Test($(ALONE))\>' .)))
TESTENV   := CGO_ENABLED=0
else
TESTENV   := CGO_ENABLED=0
endif

# One line for each benchmark: its name and what it measured.
METRICS := awk '/^Benchmark/ { sub(/^Benchmark/, "", $$1); printf "%-28s", $$1; for (i = 3; i < NF; i += 2) printf "  %10s %s", $$i, $$(i+1); print "" } /^(FAIL|---)/ { print; bad = 1 } END { exit bad }'

# What is compiled to be looked at only: as `make test` compiles it, so that it is done once. With default.pgo or cgo all that a program imports, the standard library
# as well, is compiled anew.
PLAIN := CGO_ENABLED=0 GOFLAGS="$(shell $(GO) env GOFLAGS) -pgo=off"

.DEFAULT_GOAL := help
.PHONY: help build test demo bench bench-table conformance conformance-record gobench pgo fuzz lint fmt cross clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./tapdirector, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(BUILDVCS) -ldflags '-s -w' -o tapdirector .

test: ## run all tests and list those that were skipped (RACE=1: with the race detector; NORACE=1: those that leaves out)
	@mkdir -p $(BIN)
	@$(TESTENV) $(GO) test -v -p $(PARALLEL) -parallel $(PARALLEL) $(TESTFLAGS) $(PACKAGES) 2>&1 | tee $(TESTLOG) | awk -v log_file=$(TESTLOG) -f .ci/testsummary.awk

demo: build ## show it live: a client, a director and three servers, by NAT, DR and FullNAT
	./tapdirector lab --method nat
	./tapdirector lab --method dr
	./tapdirector lab --method fullnat

bench: ## compare it with other balancers, a copy loop and the wire, in namespaces; also into bin/bench.json, bin/bench.svg (QUICK=1, BENCHFLAGS="-family 6")
	@if for tool in haproxy nft linux.uml ipvsadm busybox gcc; do command -v $$tool >/dev/null || break; done; ! command -v $$tool >/dev/null; then \
		DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends haproxy nftables user-mode-linux ipvsadm busybox-static iproute2 gcc libc6-dev || \
		echo "bench: some peers cannot be installed here, and will be left out"; fi
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -o $(BIN)/bench ./integration/bench
	$(BIN)/bench $(if $(QUICK),-quick) -json $(BIN)/bench.json -svg $(BIN)/bench.svg $(BENCHFLAGS)

bench-table: ## measure the connection table at up to ten million connections, workers beside each other, 10,000 services (minutes, 3 GB)
	@CGO_ENABLED=0 $(GO) test -run '^$$' -bench '^BenchmarkScale' -benchtime 1x -timeout 30m ./director/flow | $(METRICS)
	@CGO_ENABLED=0 $(GO) test -run '^$$' -bench '^BenchmarkScale' -benchtime 1x -timeout 30m ./director | $(METRICS)
	@CGO_ENABLED=0 $(GO) test -run '^$$' -bench '^Benchmark(Parse|New|Reload|ManyServices)$$' ./director | $(METRICS)

gobench: ## run the Go benchmarks (BENCHTIME=1s)
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

pgo: ## make default.pgo anew: by it `go build` inlines more of the path (a minute, on a quiet machine)
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench Step -benchtime 200ms -cpuprofile $(CURDIR)/default.pgo -o $(BIN)/director.test ./director >/dev/null

# Go's fuzzer sometimes takes the end of its time, "context deadline exceeded", for a failure of the target.
fuzz: ## run every fuzz target (FUZZTIME=20s for each)
	@mkdir -p $(BIN)
	@grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func / /' | sort | \
	while read -r file target; do \
		echo "== $$target ($$(dirname $$file))"; \
		CGO_ENABLED=0 $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$(dirname $$file) </dev/null 2>&1 | tee $(BIN)/fuzz.log || \
			{ ! grep -q 'Failing input\|panic\|build failed' $(BIN)/fuzz.log && grep -q '^ *context deadline exceeded$$' $(BIN)/fuzz.log; } || exit 1; \
	done

CONFORMANCE ?= # -run REGEXP, -v
UML_TOOLS   := linux.uml ipvsadm busybox
conformance: ## compare with LVS in a user-mode Linux, frame by frame (as root; CONFORMANCE="-run tcp/ -v")
	@export PATH=$$PATH:/usr/sbin:/sbin; for p in $(UML_TOOLS) ip; do command -v $$p >/dev/null || missing=1; done; \
		if [ -n "$${missing-}" ]; then apt-get update -q && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends user-mode-linux ipvsadm busybox-static iproute2; fi
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -o $(BIN)/conformance ./integration/conformance
	$(BIN)/conformance $(CONFORMANCE)

conformance-record: ## the same, and keep what LVS does in integration/conformance/lvs
	@$(MAKE) --no-print-directory conformance CONFORMANCE="-record $(CONFORMANCE)"

lint: $(BIN)/staticcheck ## gofmt, go vet and staticcheck
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
		if [ -n "$$bad" ]; then echo "not formatted (make fmt): $$bad"; exit 1; fi
	$(PLAIN) $(GO) vet ./...
	$(PLAIN) $(BIN)/staticcheck ./...

$(BIN)/staticcheck: Makefile
	GOBIN=$(BIN) CGO_ENABLED=0 $(GO) install $(STATICCHECK)
	@touch $@

fmt: ## format all Go files
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

cross: ## build for the other systems (the results are thrown away), and vet for each system
	@for target in linux/amd64 linux/arm64 darwin/arm64 darwin/amd64 windows/amd64; do \
		echo "build $$target"; \
		$(PLAIN) GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) build -o /dev/null . ; \
	done
	@for system in darwin windows; do \
		echo "vet $$system"; $(PLAIN) GOOS=$$system $(GO) vet ./... ; \
	done

clean: ## remove what was built
	rm -rf $(BIN) tapdirector
