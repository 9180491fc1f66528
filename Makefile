# The project's commands. `make help` lists them; the two that matter are `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test unit test-crash test-virtio-pci test-capsule build bench verify benchmarks soak package setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' Makefile

demo: ## set up, build, and show the main job on real hosts in network namespaces (root)
	@scripts/setup.sh run
	@scripts/build.sh
	@scripts/demo.sh

test: ## set up, then run everything: form, lints, unit, property and end-to-end tests (root)
	@scripts/setup.sh run
	@scripts/test.sh

test-capsule: ## set up, then lint and run the port tests over the crate capsule (root; a feature that is off by default)
	@scripts/setup.sh run
	@rustfmt --check --edition 2024 fastpath/capsule-ffi/build.rs fastpath/capsule-ffi/src/lib.rs
	@cargo clippy --locked --quiet -p vinet-fastpath -p vinet-perf --features vinet-fastpath/capsule,vinet-perf/capsule --all-targets -- -D warnings
	@cargo test --locked -p vinet-fastpath --features capsule --test ports_capsule --test ports_virtual

unit: ## everything but the end-to-end tests; needs no root once the packages are there
	@scripts/setup.sh build
	@scripts/test.sh unit

test-crash: ## set up, and kill the store under load 300 times, adding everything up each time; KILLS=5000 for more
	@scripts/setup.sh build
	@scripts/test-crash.sh $(KILLS)

test-virtio-pci: ## set up, build, and route through an emulated machine with virtio NICs on PCI; not in `make test` (root)
	@scripts/setup.sh virtio
	@scripts/build.sh
	@scripts/test-virtio-pci.sh

build: ## set up and build the release binaries: target/release/vinet, vinetd, vinet-perf
	@scripts/setup.sh build
	@scripts/build.sh

bench: ## set up, build, and run the benchmark of the fast path beside testpmd and l3fwd (root)
	@scripts/setup.sh bench
	@scripts/build.sh
	@target/release/vinet-perf fastpath

verify: ## set up, build, and measure what proofs cost and what they buy, each figure against its bar
	@scripts/setup.sh build
	@scripts/build.sh
	@target/release/vinet-perf verify

benchmarks: ## set up, build, and measure every measured part of docs/BENCHMARKS.md again (root; nothing else should run)
	@scripts/setup.sh bench
	@scripts/build.sh
	@target/release/vinet-perf report

soak: ## set up, build, and soak the fast path for ten minutes; SOAK='--minutes 60 --seed 7' for others
	@scripts/setup.sh build
	@scripts/build.sh
	@target/release/vinet-perf soak $(SOAK)

package: ## set up, build, and make the Debian packages vinet and vinet-router in target/debian; not in `make test`
	@scripts/setup.sh build
	@scripts/package.sh

setup: ## install what is missing, reserve hugepages, fetch the crates
	@scripts/setup.sh run

clean: ## remove what was built
	@cargo clean
