# Everything runs with Go alone: tools and the control plane for tests are built from pinned Go modules.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ROOT := $(CURDIR)
OPERATOR := $(ROOT)/bin/endpoint-sync-operator
TOOL := go tool -modfile=$(ROOT)/hack/tools/go.mod
LINT := $(TOOL) golangci-lint-kube-api-linter
TEST := $(TOOL) gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg

# The race detector needs a C compiler; without one the tests run without it.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

# More arguments of make e2e, as --report-missed where nobody knows how fast the machine is.
E2E_ARGS ?=

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the operator into bin/
	CGO_ENABLED=0 go build -trimpath -o $(OPERATOR) .

.PHONY: test
test: ## run all tests, also those against a real control plane (the first run builds it: 15 minutes on two cores)
	$(if $(RACE),,@echo "no C compiler: testing without the race detector")
	$(TEST) -- -timeout 30m $(RACE) ./...
	cd hack/lab && go run . build && $(TEST) -- -timeout 30m -p 1 ./...

.PHONY: lint
lint: ## lint the code and the API types
	$(LINT) run -c .golangci.yml ./...
	$(LINT) run -c .golangci-kal.yml ./api/...
	cd hack/lab && $(LINT) run -c $(ROOT)/.golangci.yml ./...

.PHONY: generate
generate: ## regenerate deep copies and CRDs from api/
	$(TOOL) controller-gen object crd paths=./api/... output:crd:dir=config/crd/bases

.PHONY: verify
verify: generate fmt tidy lint ## what CI checks: generated, formatted, tidy, linted, and nothing left to commit
	@git diff --exit-code
	@test -z "$$(git status --porcelain)" || { git status --short; echo "files that are not committed"; exit 1; }

.PHONY: demo
demo: build ## watch the incident, and the operator end it, on a real control plane; results in out/demo
	cd hack/lab && go run . demo --operator $(OPERATOR) --out $(ROOT)/out/demo

.PHONY: bench
bench: build ## compare flag settings side by side on a real control plane; results in out/bench
	cd hack/lab && go run . bench --operator $(OPERATOR) --out $(ROOT)/out/bench

.PHONY: bench-scale
bench-scale: build ## what the controller costs with up to 150,000 Pods, beside plain informers; results in out/bench-scale
	cd hack/lab && go run . scale --operator $(OPERATOR) --root $(ROOT) --out $(ROOT)/out/bench-scale

.PHONY: bench-model
bench-model: ## hold the model against a real kube-controller-manager: 12 settings, 3 workloads (35 minutes); results in out/model
	cd hack/lab && go run . model --out $(ROOT)/out/model

.PHONY: bench-sweep
bench-sweep: build ## hold the chosen setting against the cheapest of a grid (up to 60 minutes); results in out/sweep
	cd hack/lab && go run . sweep --operator $(OPERATOR) --out $(ROOT)/out/sweep

.PHONY: simulate
simulate: ## play the deciding code in 1,500 simulated clusters, beside rivals and an oracle (20 minutes); results in out/simulate
	go run ./hack/simulate --out $(ROOT)/out/simulate

.PHONY: accuracy
accuracy: ## hold the measurement against an observer and the audit log of a real control plane (16 minutes); results in out/accuracy
	cd hack/lab && go run . accuracy --out $(ROOT)/out/accuracy

.PHONY: test-kill
test-kill: ## kill agent and controller 200 times at random moments of a rollout
	cd hack/lab && LAB_KILLS=200 $(TOOL) gotestsum --format standard-verbose -- -timeout 2h -count 1 -run TestKill ./...

.PHONY: image
image: ## build the operator's container image into bin/, without Docker (ARCH=amd64 or arm64; default: this machine's)
	cd hack/lab && go run . image $(if $(ARCH),--arch $(ARCH))

.PHONY: e2e
e2e: build image ## prove the operator on three kubeadm nodes with real kubelets (root, Debian; 25 minutes); results in out/e2e
	cd hack/lab && go run . e2e --operator $(OPERATOR) --out $(ROOT)/out/e2e $(E2E_ARGS)

.PHONY: e2e-up
e2e-up: ## make a highly available kubeadm cluster on this machine, and leave it running (root, Debian)
	cd hack/lab && go run . e2e-up

.PHONY: e2e-down
e2e-down: ## end the cluster of e2e-up and remove all that it left
	cd hack/lab && go run . e2e-down

.PHONY: qualify-rollout
qualify-rollout: build ## hold the rollout over three nodes against kills, partitions, two leaders and bad values (40 minutes); results in out/qualify
	cd hack/lab && go run . qualify --operator $(OPERATOR) --out $(ROOT)/out/qualify

.PHONY: fmt
fmt: ## format all Go code
	$(LINT) fmt -c .golangci.yml ./...
	cd hack/lab && $(LINT) fmt -c $(ROOT)/.golangci.yml ./...

.PHONY: tidy
tidy: ## tidy the three modules
	go mod tidy
	cd hack/lab && go mod tidy
	cd hack/tools && go mod tidy

.PHONY: manifests
manifests: ## print what an installation applies
	@$(TOOL) kustomize build config/default

.PHONY: clean
clean: ## delete bin/ and out/
	rm -rf bin out
