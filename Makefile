# What one can do here. `make help` prints this index.
GO          ?= go
DATA        ?= .biosv
LISTEN      ?= 127.0.0.1:8443
FUZZTIME    ?= 10m
KILLS       ?= 50
export CGO_ENABLED ?= 0
VERSION     := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X main.version=$(VERSION)
UNIT        := ./...

.DEFAULT_GOAL := help

help: ## print this index
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: bin/biosv ## make bin/biosv

bin/biosv: FORCE
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/biosv

run: build setup-run ## start a service in .biosv with a simulated domain, on https://127.0.0.1:8443/bios
	@if [ -e $(DATA)/launch ]; then bin/biosv launch authorize --data $(DATA) --quiet; fi
	bin/biosv serve --data $(DATA) --listen $(LISTEN)

test: setup generated-is-current check-house guest ## everything that a change must pass
	$(GO) vet ./...
	$(GO) test ./...
	$(MAKE) --no-print-directory build
	$(GO) test -tags e2e -timeout 20m -p 1 ./internal/e2e/... ./internal/interop/...
	$(GO) test -tags guest -timeout 20m -p 1 ./internal/powercut/...
	$(GO) tool govulncheck ./...

check: check-house ## the fast loop: formatting, vet, staticcheck, unit tests
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'gofmt: these files are not formatted:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test ./...

check-house:
	@! grep -rlE '"encoding/xml"' --include='*.go' . | grep -vE '^\./generated/bios\.go$$' || { echo 'encoding/xml is imported; only generated/bios.go may'; exit 1; }

generate: ## make generated/ and docs/operations.md from wsdl/
	@mkdir -p generated .cache/contract docs
	$(GO) run ./cmd/biosgen -publish .cache/contract
	cd .cache/contract && $(GO) tool gowsdl -p generated -o bios.go bios.wsdl >/dev/null
	cp .cache/contract/generated/bios.go generated/bios.go
	$(GO) run ./cmd/biosgen -out generated -docs docs/operations.md

generated-is-current: generate
	@git diff --exit-code --stat -- generated docs/operations.md || { echo 'make generate changed these files: commit what it makes'; exit 1; }

.PHONY: help build run test check check-house generate generated-is-current FORCE
FORCE:
