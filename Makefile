# `make help` lists what can be made.
GO ?= go
GOLANGCI_VERSION := v2.15.0
BIN := build/bin

.PHONY: help build test check interop bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./abaca
	$(GO) build -o abaca ./cmd/abaca

test: ## run all tests, with the race detector
	$(GO) test -race ./...

check: $(BIN)/golangci-lint-$(GOLANGCI_VERSION) ## vet and lint, import rules included
	$(GO) vet ./...
	$< run

interop: ## play the main job with the real OpenStack client
	test/interop/run

clean: ## remove what was built
	rm -rf build abaca

$(BIN)/golangci-lint-$(GOLANGCI_VERSION):
	GOBIN=$(CURDIR)/$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(BIN)/golangci-lint $@
