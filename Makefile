# Everything a developer or CI does with Parley. `make` lists it. Needs Go, Node and make; what else a target needs it
# installs into .tools/ at pinned versions, or says in one line how to get it. CI calls the same targets.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

GO    ?= go
TOOLS := .tools/bin

# What the Go targets look at. For instance: make test PKG=./server/hub ARGS='-run TestKick -count 20'
PKG  ?= ./...
ARGS ?=
# How long one package's tests may take. The longest of them hold minutes of load and faults.
TEST_TIMEOUT ?= 20m
# How many packages are tested at once, each with goroutines of its own: as many as there are processors, Go's default.
TEST_PARALLEL ?= $(shell getconf _NPROCESSORS_ONLN)
# How long each fuzz test is fuzzed.
FUZZ_TIME ?= 10s
# Which tests `make soak` runs, and where it writes what they saw.
SOAK ?= TestAnyCall|TestRedisIsDisposable|TestNodesKilledUnderLoad|TestPostgresKilledUnderLoad|TestSendIsIdempotentOverNodes|TestLogIsLinearizable|TestRecoveryStorm|TestRevocationEndsStreams|TestNewerStreamOnAnotherNode|TestStreamsThatOpenAtOnce|TestSlowReaders|TestHotGroup|Silent|TestClocksApart|TestRollingRestart|Abuse|TestChurn
SOAK_REPORT ?= $(CURDIR)/bin/soak.md
# By what the lengths of all of them are multiplied, 0.3 for a third of the time; and how long devices come and go in A16,
# for which acceptance asks 30m.
SOAK_SCALE ?= 1
SOAK_CHURN ?= 5m
# What `make bench` is told: make bench BENCH_ARGS='--quick --runs 1 --workloads W1,W2'
BENCH_ARGS  ?=
# What `make microbench` measures, and how often: 10 runs are the least that benchstat can judge by.
BENCH_PKG   ?= ./server/storage/... ./server/stream/...
BENCH       ?= .
BENCH_COUNT ?= 1
# What `make breaking` compares the API with: a commit; empty means the last release, else main.
BREAKING_BASE ?=

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Run

.PHONY: run
run: build ## Run Parley here, with a PostgreSQL and a Redis of its own unless PARLEY_POSTGRES_URL and PARLEY_REDIS_URL are set
	@exec bin/parley run

.PHONY: cluster
cluster: build ## Run three nodes behind a balancer here, to kill one by one
	@exec bin/parley cluster

.PHONY: build
build: ## Build bin/parley
	@$(GO) build -o bin/parley ./server/cmd/parley

##@ Test

.PHONY: test
test: ## Install what the tests need, then run all tests with the race detector
	@cd tools/openapi && $(GO) test ./merge
	@scripts/test -timeout $(TEST_TIMEOUT) -p $(TEST_PARALLEL) $(ARGS) $(PKG)
	@if [ '$(PKG)' = ./... ]; then scripts/test-ts && scripts/test-web && scripts/test-kotlin && scripts/test-contract; fi

.PHONY: test-ts
test-ts: ## Test the TypeScript SDK: in memory, and against the real server from Node and Chromium
	@scripts/test-ts

.PHONY: test-web
test-web: ## Test the built-in pages, in Chromium and against the real server
	@scripts/test-web

.PHONY: check-web
check-web: ## Fail if the built-in pages (server/web/dist) are not what their sources give
	@scripts/test-web --check

.PHONY: test-kotlin
test-kotlin: ## Test the Kotlin SDK: in virtual time, and against the real server. Needs a JDK and Maven
	@scripts/test-kotlin

.PHONY: docs-kotlin
docs-kotlin: ## Write the Kotlin SDK's reference to clients/kotlin/target/docs; fails if something public is undocumented
	@scripts/docs-kotlin

.PHONY: test-contract
test-contract: ## Test that Go, TypeScript and Kotlin devices do the same in one session. Needs a JDK, Maven and Node
	@scripts/test-contract $(ARGS)

# What is small goes side by side, and what each printed stays together where this make can; what takes all processors goes
# alone, the tests last and undisturbed.
.PHONY: check
check: tools ## The quick loop: lint, generated code up to date, audit, short tests
	@$(MAKE) --no-print-directory --jobs $(if $(filter output-sync,$(.FEATURES)),--output-sync) \
	  lint-proto breaking check-generated audit
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test-short

.PHONY: test-short
# What has not changed since it last passed here is not tested again (ARGS=-count=1 does); vet is a part of lint.
test-short: .tools/bin/withdb ## Run the short tests, without the race detector; those that break whole servers (server/e2e) only if PKG names them
	@.tools/bin/withdb -lasting $(GO) test -short -vet=off -timeout 5m $(ARGS) $(if $(filter ./...,$(PKG)),$$($(GO) list ./... | grep -v '/server/e2e$$'),$(PKG))

.PHONY: soak
soak: .tools/bin/withdb ## Run the long forms of the fault tests, about 40 minutes: SOAK, SOAK_SCALE; the figures go to SOAK_REPORT
	@mkdir -p $(dir $(SOAK_REPORT))
	@PARLEY_SOAK=1 PARLEY_SOAK_REPORT='$(SOAK_REPORT)' PARLEY_SOAK_SCALE='$(SOAK_SCALE)' PARLEY_SOAK_CHURN='$(SOAK_CHURN)' \
	  .tools/bin/withdb $(GO) test -run '$(SOAK)' -timeout 60m -v -count 1 -p 1 $(ARGS) ./server/e2e/...

.PHONY: fuzz
fuzz: ## Fuzz every fuzz test for FUZZ_TIME
	@scripts/fuzz $(FUZZ_TIME)

.PHONY: bench
bench: build ## Measure a whole server, and its limits, into bench/results (docs/performance.md): BENCH_ARGS
	@bin/parley bench --out bench/results $(BENCH_ARGS)

.PHONY: microbench
microbench: .tools/bin/withdb ## Measure the hot paths alone: BENCH_PKG, BENCH, BENCH_COUNT
	@.tools/bin/withdb $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCH_COUNT) -timeout 60m $(ARGS) $(BENCH_PKG)

##@ Lint

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Lint the Go code (go vet included)
	@$(TOOLS)/golangci-lint run $(PKG)

.PHONY: lint-proto
lint-proto: $(TOOLS)/buf third-party ## Lint the protos
	@$(TOOLS)/buf lint

.PHONY: breaking
breaking: $(TOOLS)/buf third-party ## Fail if the API breaks clients of the last release (else of main)
	@scripts/breaking $(BREAKING_BASE)

.PHONY: audit
audit: $(TOOLS)/govulncheck ## Known holes, licences and lock files of all that Parley is made of (again only when that changed)
	@scripts/audit

.PHONY: sbom
sbom: build $(TOOLS)/cyclonedx-gomod ## Write what the program, its pages and the SDKs are made of to bin/sbom, as CycloneDX. Kotlin: needs a JDK and Maven
	@scripts/sbom

##@ Generate

GENERATORS := $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-connect-go $(TOOLS)/protoc-gen-openapiv3 \
  $(TOOLS)/openapi-merge $(TOOLS)/sqlc

.PHONY: generate
generate: $(GENERATORS) third-party ## Generate the code from proto/, queries/ and db/migrations/
	@scripts/generate

.PHONY: proto
proto: $(GENERATORS) third-party ## Generate only what comes from proto/
	@scripts/generate proto

.PHONY: proto-kotlin
proto-kotlin: $(TOOLS)/buf third-party ## Generate the Kotlin messages and stubs by buf too; fails if Maven's are others. Needs a JDK and Maven
	@scripts/proto-kotlin

.PHONY: sqlc
sqlc: $(TOOLS)/sqlc ## Generate only what comes from queries/ and db/migrations/
	@scripts/generate sqlc

.PHONY: check-generated
check-generated: $(GENERATORS) third-party ## Fail if the generated code is out of date
	@scripts/generate --check
	@$(TOOLS)/sqlc vet

.PHONY: third-party
third-party: $(TOOLS)/buf
	@scripts/third-party-protos

.PHONY: rights
rights: ## Print docs/rights.md from the table of the tests
	@PARLEY_PRINT_RIGHTS=1 $(GO) test -run TestRightsDocument -count=1 ./server/app

.PHONY: web
web: ## Build the pages of clients/web into server/web/dist
	@for dir in clients/typescript clients/web; do \
	  (cd $$dir && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --ignore-scripts --loglevel=error; }); \
	done
	@npm --prefix clients/web run -s build

.PHONY: screenshots
screenshots: ## Take the pictures in docs/screenshots anew
	@PARLEY_SCREENSHOTS=1 scripts/test-web

##@ Tools

.PHONY: tools
tools: $(GENERATORS) $(TOOLS)/golangci-lint $(TOOLS)/govulncheck $(TOOLS)/cyclonedx-gomod ## Install all tools into .tools/

# Each tool is rebuilt when its pin changes, that is, its module's go.mod or go.sum. `go install` leaves a program alone
# that would come out the same, hence the touch.
install-tool = cd $(1) && GOBIN=$(CURDIR)/$(TOOLS) $(2) $(GO) install $(3) && touch $(CURDIR)/$@

# Generators and the runtime that they generate for never differ: both are pinned by the root go.mod.
$(TOOLS)/protoc-gen-go: go.mod
	@$(call install-tool,.,,google.golang.org/protobuf/cmd/protoc-gen-go)
$(TOOLS)/protoc-gen-connect-go: go.mod
	@$(call install-tool,.,,connectrpc.com/connect/cmd/protoc-gen-connect-go)

$(TOOLS)/protoc-gen-openapiv3: tools/openapi/go.mod tools/openapi/go.sum
	@$(call install-tool,tools/openapi,,tool)
$(TOOLS)/openapi-merge: tools/openapi/go.mod $(wildcard tools/openapi/merge/*.go)
	@cd tools/openapi && $(GO) build -trimpath -o $(CURDIR)/$@ ./merge && touch $(CURDIR)/$@
# Without cgo sqlc carries PostgreSQL's parser as WebAssembly, which builds in a fraction of the time.
$(TOOLS)/sqlc: tools/sqlc/go.mod tools/sqlc/go.sum
	@echo "building sqlc (once, about a minute)"
	@$(call install-tool,tools/sqlc,CGO_ENABLED=0,tool)
$(TOOLS)/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	@echo "building golangci-lint (once, some minutes)"
	@$(call install-tool,tools/lint,,tool)

$(TOOLS)/govulncheck: tools/audit/go.mod tools/audit/go.sum
	@$(call install-tool,tools/audit,,golang.org/x/vuln/cmd/govulncheck)
$(TOOLS)/cyclonedx-gomod: tools/audit/go.mod tools/audit/go.sum
	@$(call install-tool,tools/audit,,github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod)

# The lock file names buf's packages for all platforms, as `npm ci` wants it; those that the registry it was made with
# did not have are in it without a hash.
$(TOOLS)/buf: tools/buf/package.json tools/buf/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: install Node 20 or newer" >&2; exit 1; }
	@cd tools/buf && npm ci --ignore-scripts --loglevel=error >/dev/null
	@mkdir -p $(TOOLS) && ln -sfn ../../tools/buf/node_modules/.bin/buf $@ && touch -h $@

.PHONY: .tools/bin/withdb
.tools/bin/withdb:
	@$(GO) build -o $@ ./server/dev/cmd/withdb

##@ Clean

.PHONY: clean
clean: ## Remove what was built; not .tools/ and not .data/, which holds the database of `make run`
	@rm -rf bin dist coverage third_party
	@find . -name '*.test' -not -path './.git/*' -not -path '*/node_modules/*' -type f -delete
