# Two commands matter: `make demo` shows what bearerd does, `make test` proves it.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# For each of the targets.
FUZZ_SECONDS ?= 30

.PHONY: help demo test lint unit instructions docs interop test-container interop-packages screenshots bench compare faults fleet fuzz fuzz-json fuzz-xml fuzz-credential fuzz-path fuzz-header fuzz-config fuzz-batch fuzz-setup release image setup

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: ## Install what the build needs and the system lacks (cmake, a C compiler)
	@scripts/setup.sh

demo: setup ## A demo tenant and a sidecar in front of it, with lines to type
	$(CARGO) run -- demo

test: lint unit instructions docs interop test-container ## Everything that must hold

lint: setup
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path benches/fleet/Cargo.toml
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --lib --bins --test integration --no-default-features -- -D warnings

# Every configuration in config/ and deploy/ goes through `bearerd check` in tests/operate/commands.rs.
unit: setup
	$(CARGO) test --all-targets
	OVER_HTTP2=yes $(CARGO) test --test integration

# What is counted is the binary to ship: built with the tests, it would be another one.
instructions: release ## Whether a request takes more instructions than before, by valgrind; RENEW=1 writes the figures anew
	@scripts/setup.sh --with-valgrind
	$(CARGO) test --bench instructions -- --measure $(TARGET)/release/bearerd $(if $(RENEW),--renew)

docs: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items

# interop::prometheus runs alone: it is timed, and other tests must not slow it down.
interop: interop-packages ## Real peers: SAP's CAP server with @sap/xssec, the datasphere CLI, pyodata, Chromium, Prometheus, tinyproxy, mitmproxy, nginx with HTTP/2; kubectl's and systemd's word on deploy/
	$(CARGO) test --test integration interop -- --ignored --skip interop::prometheus
	$(CARGO) test --test integration interop::prometheus -- --ignored

# Where there can be no containers, it says why and goes on.
test-container: setup ## The image and the shipped pod manifest, in Podman
	@scripts/setup.sh --with-kubectl --with-podman || echo "test-container: Podman can't be installed here" >&2
	@if tests/container/can_run.sh; then \
		$(CARGO) build --example pod && $(CARGO) test --test integration ship::container -- --ignored; \
	fi

interop-packages:
	@scripts/setup.sh --with-node --with-python --with-browser --with-prometheus --with-kubectl --with-servers
	sh tests/interop/install.sh tests/interop/cap
	sh tests/interop/install.sh tests/interop/cli
	sh tests/interop/install.sh tests/deploy
	sh tests/interop/install-python.sh tests/interop/pyodata odata,pyodata
	sh tests/interop/install-python.sh tests/deploy jsonschema,kubernetes_validate,yaml

screenshots: ## Draw the pictures in docs/status anew
	@scripts/setup.sh --with-browser
	SCREENSHOTS=$(CURDIR)/docs/status $(CARGO) test --test integration interop::status_page -- --ignored

bench: setup ## Criterion on the hot path and on the rewriting of links; what scraping costs
	$(CARGO) bench --bench hot_path --bench json --bench scrape

# Built with the benches, bearerd would be another binary, and in this one's place.
compare: release ## bearerd beside nginx, HAProxy and Envoy: ten minutes, and renews docs/performance.md; QUICK=1: two
	@scripts/setup.sh --with-python --with-peers
	sh tests/interop/install-python.sh benches/compare envoy
	mkdir -p $(TARGET)/compare && cp $(TARGET)/release/bearerd $(TARGET)/compare/
	$(CARGO) bench --bench compare -- --measure $(TARGET)/compare/bearerd $(if $(QUICK),--quick,--write)

faults: setup ## Ten minutes of faults on each way to the upstream; FAULTS_SEED repeats a run
	FAULTS_SECONDS=$${FAULTS_SECONDS:-600} $(CARGO) test --test integration proxy::faults::whatever -- --nocapture

fleet: ## Simulate 1, 100 and 10,000 sidecars; renew the tables and pictures of docs/fleet.md
	$(CARGO) run --release --manifest-path benches/fleet/Cargo.toml --target-dir target/fleet

fuzz: fuzz-json fuzz-xml fuzz-credential fuzz-path fuzz-header fuzz-config fuzz-batch ## What reads foreign bytes against any input, FUZZ_SECONDS (30) each

# What is new goes to the first folder. Without a sanitizer, a stable compiler will do.
fuzz-json fuzz-xml fuzz-credential fuzz-path fuzz-header fuzz-config fuzz-batch: fuzz-%: fuzz-setup
	mkdir -p target/fuzz/corpus/$*
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(CARGO) fuzz run --sanitizer none --target-dir target/fuzz $* target/fuzz/corpus/$* fuzz/corpus/$* -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1

fuzz-setup:
	@scripts/setup.sh --with-fuzz

release: setup ## The binary to ship
	$(CARGO) build --release

image: release ## The image bearerd:0.1.0 of this machine's binary, without a registry
	sh deploy/image/rootfs.sh target/release/bearerd target/image
	podman build --target local -f deploy/image/Containerfile -t bearerd:0.1.0 .
