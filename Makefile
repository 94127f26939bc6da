# Shortcuts for what .ci/run and go do. The checks themselves are in .ci/run.

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## run the tests; PostgreSQL's programs or POSTGRES_DSN are needed for all of them
	go test ./...

.PHONY: short
short: ## run the tests of the packages that need no database
	go test ./domain/... ./cipher ./compressor ./persistence ./persistence/memory ./application

.PHONY: check
check: ## run the checks that need no test: gofmt, vet, staticcheck, go mod tidy
	.ci/run static

.PHONY: lint
lint: ## run golangci-lint and actionlint
	.ci/run lint

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities
	.ci/run vulnerabilities

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (5s)
	.ci/run fuzz

.PHONY: example
example: ## run the example
	go run ./examples/trainingschool

.PHONY: bench
bench: ## run the benchmark; see docs/performance.md
	cd internal/benchmark && go test -bench . -timeout 2h

.PHONY: ci
ci: ## run all that continuous integration runs, but for lint and vulncheck
	.ci/run

.PHONY: nightly
nightly: ## run the same with the full figures of the tests
	.ci/nightly
