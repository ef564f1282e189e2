# What one can do here. `make help` prints this index.
GO          ?= go
DATA        ?= .biosv
LISTEN      ?= 127.0.0.1:8443
export FUZZTIME ?= 10m
export KILLS    ?= 3
export CGO_ENABLED ?= 0
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
ALL         := ./... ./testdata/guest/init # which ./... leaves out
TAGS        := bench,e2e,guest,interop
LDFLAGS     := -s -w -X main.version=$(VERSION)

.DEFAULT_GOAL := help

help: ## print this index
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## make bin/biosv
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/biosv ./cmd/biosv

run: build ## start a service in .biosv with a simulated domain, on https://127.0.0.1:8443/bios
	@scripts/setup.sh run
	@if [ -e $(DATA)/launch/policy.json ]; then bin/biosv launch authorize --data $(DATA) --quiet; fi
	bin/biosv serve --data $(DATA) --listen $(LISTEN)

test: setup generated-is-current vbios-is-current lint guest build ## everything that a change must pass
	$(GO) test $(ALL)
	$(GO) test -tags e2e -timeout 15m ./internal/e2e/... ./internal/interop/... ./internal/house/...
	$(GO) test -tags guest -timeout 15m -p 2 ./machine/qemu/... ./vbios/... ./internal/guest/... ./internal/powercut/... ./machine/libvirt/... ./smm/variable ./smm/variable/services
	@scripts/vulncheck.sh

check: generated-is-current lint ## the fast loop: generated code, formatting, vet, staticcheck, unit tests
	@scripts/setup.sh check
	$(GO) test $(ALL)

lint: ## formatting, vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'gofmt: these files are not formatted:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet -tags $(TAGS) $(ALL)
	$(GO) tool staticcheck -tags $(TAGS) $(ALL)

generate: ## make generated/ and docs/operations.md from wsdl/
	@mkdir -p generated .cache/contract docs
	$(GO) run ./cmd/biosgen -publish .cache/contract
	cd .cache/contract && $(GO) tool gowsdl -p generated -o bios.go bios.wsdl >/dev/null
	cp .cache/contract/generated/bios.go generated/bios.go
	$(GO) run ./cmd/biosgen -out generated -docs docs/operations.md

generated-is-current: generate
	@git diff --exit-code --stat -- generated docs/operations.md || { echo 'make generate changed these files: commit what it makes'; exit 1; }

vbios: ## make vbios/vbios.rom, the thin virtual BIOS, from its source (needs clang-14 and lld-14)
	vbios/build.sh vbios/vbios.rom

vbios-is-current: vbios
	@git diff --exit-code --stat -- vbios/vbios.rom || { echo 'make vbios changed vbios/vbios.rom: commit what it makes'; exit 1; }

bench: guest build ## CPU time of a request, beside net/http with a constant answer; what a guest costs
	$(GO) test -tags bench -count=1 -v -run TestRequests ./internal/bench
	$(GO) test -tags bench,guest -count=1 -v -timeout 30m -run TestFigures ./machine/qemu
	$(GO) test -run - -bench . -benchmem ./internal/bench ./envelope ./service/uefi

soak: setup guest build ## what takes hours: 50 power cuts, millions of talks with the driver, and each fuzz target for FUZZTIME
	KILLS=50 CONVERSATIONS=2000000 $(GO) test -tags guest -timeout 2h -p 1 -v ./internal/powercut/... ./machine/host/... ./vbios/...
	scripts/fuzz.sh

interop: build ## every SOAP client that is known, and what each could not do
	@scripts/setup.sh interop
	$(GO) test -tags interop -timeout 30m -v ./internal/interop/...

deb: build ## make dist/biosv_VERSION_ARCH.deb
	scripts/build-deb.sh bin/biosv

setup:
	@scripts/setup.sh test

guest:
	@testdata/guest/build.sh kernel init efibootmgr

clean: ## take away what was made; .cache and .biosv stay
	rm -rf bin dist

.PHONY: help build run test check lint generate generated-is-current vbios vbios-is-current bench soak interop deb setup guest clean
