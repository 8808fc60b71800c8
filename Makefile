# `make help` lists what can be made.
GO ?= go
GOLANGCI_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.9.0
BIN := build/bin

.PHONY: help build test test-scale check vulnerabilities interop tempest oslo bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./abaca
	$(GO) build -o abaca ./cmd/abaca

test: ## run all tests, with the race detector
	$(GO) test -race -tags testing ./...

# How much make test-scale does. A quick look: SCALE_BACKUPS=20 SCALE_PROJECTS=4 SCALE_CLIENTS=4 SCALE_KILL_SECONDS=10 SCALE_ROWS=20000
SCALE_BACKUPS ?= 1000
SCALE_PROJECTS ?= 50
SCALE_CLIENTS ?= 12
SCALE_KILL_SECONDS ?= 120
SCALE_OUTAGES ?= 3
SCALE_ROWS ?= 100000
test-scale: ## break servers, PostgreSQL and S3 under load, and check what was acknowledged
	CI=true SCALE_BACKUPS=$(SCALE_BACKUPS) SCALE_PROJECTS=$(SCALE_PROJECTS) SCALE_CLIENTS=$(SCALE_CLIENTS) \
	SCALE_KILL_SECONDS=$(SCALE_KILL_SECONDS) SCALE_OUTAGES=$(SCALE_OUTAGES) SCALE_ROWS=$(SCALE_ROWS) \
	$(GO) test -count=1 -v -timeout 60m ./test/scale

check: $(BIN)/golangci-lint-$(GOLANGCI_VERSION) ## vet and lint, import rules included
	$(GO) vet ./...
	$< run

vulnerabilities: ## look for known vulnerabilities in what abaca calls; asks vuln.go.dev
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./...

interop: ## play the main job with the real OpenStack client
	test/interop/run

tempest: ## have tempest's share-backup tests judge abaca with a real Keystone
	test/tempest/run

oslo: ## have the real oslo.policy decide again what the policy's decisions are compared with
	python3 -m venv build/oslo
	build/oslo/bin/pip install --quiet --disable-pip-version-check oslo.policy==6.0.1
	build/oslo/bin/python -B internal/auth/testdata/oslo.py > build/oslo/oslo.jsonl
	mv build/oslo/oslo.jsonl internal/auth/testdata/oslo.jsonl

# What make bench measures and where. Sizes are fractions of 4 GiB, 200 000 and 100 000 files; a million files are many.
BENCH_SETS ?= large,small,source
BENCH_TOOLS ?= floor,abaca,abaca-open,restic,kopia,borg,cp
BENCH_SCALE ?= 0.25
BENCH_N ?= 5
BENCH_WORK ?= $(CURDIR)/build/bench/work
BENCH_FLAGS ?=

bench: ## compare with restic, Kopia, Borg and cp; BENCH_FLAGS=-quick for a few minutes
	$(GO) run ./bench -sets $(BENCH_SETS) -tools $(BENCH_TOOLS) -scale $(BENCH_SCALE) -n $(BENCH_N) -work $(BENCH_WORK) $(BENCH_FLAGS)

clean: ## remove what was built
	rm -rf build abaca

$(BIN)/golangci-lint-$(GOLANGCI_VERSION):
	GOBIN=$(CURDIR)/$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(BIN)/golangci-lint $@
