# What one can do here. `make help` prints this index.
GO ?= go
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help

help: ## print this index
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | column -ts '	'

generate: ## make generated/ and docs/operations.md from wsdl/
	@mkdir -p generated .cache/contract docs
	$(GO) run ./cmd/biosgen -publish .cache/contract
	cd .cache/contract && $(GO) tool gowsdl -p generated -o bios.go bios.wsdl >/dev/null
	cp .cache/contract/generated/bios.go generated/bios.go
	$(GO) run ./cmd/biosgen -out generated -docs docs/operations.md

.PHONY: help generate
