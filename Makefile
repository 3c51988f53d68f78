# Sallyport: everything a developer types. `make help` lists the targets.
SHELL      := /bin/bash
GO         ?= go
PKGS       ?= ./...
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS    := -s -w -X main.version=$(VERSION)
# Executions, not seconds: a time limit that falls into a running input fails the
# target with "context deadline exceeded" though nothing was found.
FUZZTIME   ?= 100000x
BENCHTIME  ?= 1s
SOAK       ?= 20
# Rounds of `make bench-peers`; PEERS takes further flags of test/load/peers, such as
# PEERS='-short', PEERS='-only call,msg' or PEERS='-systems sallyport -profiles profiles'.
PEERS_ROUNDS ?= 3
PEERS        ?=
# CI=true adds the race detector and the fuzz targets to `make test`, and turns a
# missing peer program from a skipped test into a failed one.
RACE       ?= $(if $(filter true,$(CI)),-race,)
TIMEOUT    ?= 15m

.PHONY: help build test vet unit race fuzz lint bench bench-im bench-peers soak im-soak hostile peers clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the three programs, into bin/
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

test: peers vet unit $(if $(filter true,$(CI)),hostile fuzz,) ## vet, every test, interop with real peers; with CI=true also -race, hostile and fuzz

vet:
	$(GO) vet $(PKGS)

# -p 2: whole-system tests measure time; more packages at once than a small
# machine has cores would make them measure each other.
# ONECPU: under the race detector these packages run on one processor. Go 1.26 gives
# all timers of a synctest bubble one race context, and goroutines on two processors
# that find their timers due (runtime/time.go, maybeRunChan) use it at once, which now
# and then ends the process by SIGSEGV in the detector. On one processor it cannot.
ONECPU := sallyport/core/sipproxy sallyport/tunnel
unit:
	$(GO) test -p 2 $(RACE) -timeout $(TIMEOUT) $(filter-out $(ONECPU),$(shell $(GO) list $(PKGS)))
	$(GO) test -p 2 $(RACE) $(if $(RACE),-cpu 1) -timeout $(TIMEOUT) $(ONECPU)

race: ## every test under the race detector
	$(MAKE) unit RACE=-race

fuzz: ## each fuzz target for FUZZTIME (100000x; 10m for a long one)
	@set -euo pipefail; \
	for pkg in $$($(GO) list $(PKGS)); do \
	  for target in $$($(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1000x "$$pkg"; \
	  done; \
	done

lint: ## gofmt, vet, golangci-lint, shellcheck (the last two where installed)
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi
	$(GO) vet $(PKGS)
	$(GO) mod tidy -diff
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo "golangci-lint is not installed: skipped"; fi
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run test/interop/setup; else echo "shellcheck is not installed: skipped"; fi

bench: ## every benchmark, with allocations
	$(GO) test -p 1 -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) $(PKGS)

bench-im: ## chat through edge and core beside Prosody alone, and what a parked XMPP session holds
	$(GO) test -run '^$$' -bench 'Chat|Parked' -benchtime 1x -count 3 ./test/xmpp

bench-peers: ## Sallyport beside two-hop Kamailio, PEERS_ROUNDS (3) rounds in turn: the table of docs/benchmarks.md
	$(GO) run ./test/load/peers -rounds $(PEERS_ROUNDS) $(PEERS)

hostile: ## stuck clients, endless messages and 10,000 that say nothing, which take a minute
	$(GO) test $(RACE) -timeout 10m -parallel 8 -run '^TestLong_' ./test/e2e -args -long

soak: ## the whole-system stories SOAK (20) times over, under the race detector, 3,000 phones woken at once, and 100,000 histories of an IM session
	$(GO) test -p 1 -race -count $(SOAK) -timeout 120m ./test/e2e ./test/interop
	$(GO) test -run '^$$' -bench CrowdWake -benchtime 1x -count 3 -timeout 30m ./test/load
	SESSION_HISTORIES=100000 $(GO) test -run 'TXM5TXM9|TXM14' -timeout 60m ./core/xmppproxy/session

# Runs of each ordeal; IMRUN picks others: TXM9, Swap, DirectOrdeal.
IMRUNS ?= 10
IMRUN  ?= (TXM5|TXM9)
im-soak: ## exactly once: 3,000 messages, 60 resets, kill -9, IMRUNS (10) runs before Prosody and ejabberd each
	$(GO) test -timeout 60m -run '^TestLong_$(IMRUN)' -v ./test/xmpp -args -long -runs $(IMRUNS)

peers: ## installs the programs that interop tests talk to, where it may
	@test/interop/setup

clean: ## removes what the targets above made
	rm -rf bin dist
