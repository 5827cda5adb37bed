# Two commands matter: `make demo` shows what bearerd does, `make test` proves it.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# The features of production: no demo tenant. deploy/image/Containerfile names the same.
PRODUCTION := --no-default-features --features cert,otlp
# Time of each fuzz target.
FUZZ_SECONDS ?= 30

.PHONY: help demo quick test static static-and-release lint deny advisories unit instructions docs interop test-container test-packages interop-packages screenshots bench compare faults fleet fuzz fuzz-json fuzz-xml fuzz-credential fuzz-path fuzz-header fuzz-config fuzz-batch fuzz-setup release packages dist test-dist image setup

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: ## Install what the build needs and the system lacks (cmake, a C compiler)
	@scripts/setup.sh

demo: setup ## A demo tenant and a sidecar in front of it, with lines to type
	$(CARGO) run --profile demo -- demo

# Modules of the integration tests that wait for timeouts, move gibibytes or simulate fleets.
SLOW := operate::connection_floods operate::memory operate::otlp proxy::dead_paths proxy::faults \
	proxy::stale_connections proxy::uploads ship::fleet token::issuers token::lifetime token::rotation

# Modules of the integration tests that run over TLS, too: rights, refusals and secrets.
REACH := operate::secrecy proxy::batches proxy::callers proxy::guard proxy::redaction proxy::refused_callers

quick: setup ## The inner loop: format, clippy, unit tests, and the integration tests that do not wait
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) test --lib --bins
	$(CARGO) test --test integration -- $(addprefix --skip ,$(SLOW)) --test-threads 6

test: static-and-release unit instructions interop test-container ## Everything that must hold

# The release links on one core for minutes; clippy has the other. Everything is installed before, because apt-get
# runs once at a time.
static-and-release:
	@scripts/setup.sh --with-cxx --with-deny --with-zig
	$(MAKE) --jobs 2 --output-sync static release

# One after the other: they share a build folder.
static:
	$(MAKE) --jobs 1 lint deny docs

lint: ## Format, clippy, and whether the fuzz targets and the fleet simulation compile
	@scripts/setup.sh --with-cxx
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path benches/fleet/Cargo.toml
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --lib --bins --tests $(PRODUCTION) -- -D warnings
	$(CARGO) clippy --lib --bins --tests --no-default-features -- -D warnings
	$(CARGO) clippy --test integration --no-default-features --features demo -- -D warnings
	$(CARGO) check --locked --manifest-path fuzz/Cargo.toml --target-dir $(TARGET)/fuzz
	$(CARGO) check --locked --manifest-path benches/fleet/Cargo.toml --target-dir $(TARGET)/fleet

deny: ## Whether the dependencies are the ones that deny.toml allows: bans, licences, sources
	@scripts/setup.sh --with-deny
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(CARGO) deny --locked --all-features check bans licenses sources

# Not a part of `make test`: it fetches the RustSec database, which not every machine can reach.
advisories: ## Whether a dependency has a known vulnerability
	@scripts/setup.sh --with-deny
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(CARGO) deny --locked --all-features check advisories

# Every configuration in config/ and deploy/ goes through `bearerd check` in tests/ship/configurations.rs.
# Most integration tests wait for something most of the time: with two threads, two cores are half idle.
unit: export RUST_TEST_THREADS := 4
unit: setup
	$(CARGO) test --all-targets
	$(CARGO) test --lib --bins $(PRODUCTION)
	OVER_HTTP2=yes $(CARGO) test --test integration
	OVER_TLS=yes $(CARGO) test --test integration -- $(REACH)

# The guard counts the binary to ship. Cargo would unify its features with those of the tests if it built both at once.
instructions: release ## Whether a request takes more instructions than before, by valgrind; RENEW=1 writes the figures anew
	@scripts/setup.sh --with-valgrind
	$(CARGO) test --bench instructions -- --measure target/ship/bearerd $(if $(RENEW),--renew)

docs: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items

# interop::prometheus runs alone: it is timed, and other tests must not slow it down.
interop: interop-packages ## Real peers: SAP's CAP server with @sap/xssec, the datasphere CLI, pyodata, Chromium, Prometheus, tinyproxy, mitmproxy, nginx with HTTP/2, HAProxy; kubectl's and systemd's word on deploy/
	$(CARGO) test --test integration interop -- --ignored --skip interop::prometheus
	$(CARGO) test --test integration interop::prometheus -- --ignored

# A newer version of the packages, to upgrade to.
test-packages: packages target/tools/debian.tar ## The release's symbols, and the .rpm installed on a clean Debian
	rm -rf target/ship/next
	VERSION=99.0.0 scripts/package.sh target/ship/bearerd target/ship/next deb rpm
	$(CARGO) test --test integration ship::packages::the_release -- --ignored
	@if [ "$$(id -u)" -eq 0 ]; then \
		$(CARGO) test --test integration ship::packages::the_rpm -- --ignored; \
	else \
		echo "test-packages: SKIPPED: only root installs the .rpm on a root of its own" >&2; \
	fi

# Where containers can't run, it says why and passes.
test-container: test-packages ## The image and the shipped pod manifest in Podman, and the .deb on a clean Debian with systemd
	@scripts/setup.sh --with-kubectl --with-podman || echo "test-container: Podman can't be installed here" >&2
	@if tests/container/can_run.sh; then \
		$(CARGO) build --example pod && \
		$(CARGO) test --test integration -- --ignored ship::container ship::systemd; \
	fi

# systemd 252, as in RHEL 9, and the command that makes users.
target/tools/debian.tar:
	@scripts/setup.sh --with-roots
	mkdir -p target/tools
	mmdebstrap --quiet --format=tar --variant=essential --include=systemd,ca-certificates,passwd bookworm $@.part http://deb.debian.org/debian
	mv $@.part $@

interop-packages:
	@scripts/setup.sh --with-node --with-python --with-clients --with-browser --with-prometheus --with-kubectl --with-servers
	sh tests/interop/install.sh tests/interop/cap
	sh tests/interop/install.sh tests/interop/cli
	sh tests/interop/install.sh tests/interop/axe
	sh tests/interop/install.sh tests/deploy
	sh tests/interop/install-python.sh tests/interop/pyodata odata,pyodata
	sh tests/interop/install-python.sh tests/interop/tools dlt,duckdb,duckdb_extensions,pandas,requests
	sh tests/interop/install-python.sh tests/deploy check_jsonschema,helm_python,jsonschema,kubernetes_validate,yaml

screenshots: ## Draw the pictures in docs/status anew
	@scripts/setup.sh --with-browser --with-node
	sh tests/interop/install.sh tests/interop/axe
	SCREENSHOTS=$(CURDIR)/docs/status $(CARGO) test --test integration interop::status_page -- --ignored

bench: setup ## Criterion on the hot path and on the rewriting of links; what scraping costs
	$(CARGO) bench --bench hot_path --bench json --bench scrape

# The copies stay as they are: building the benches would build bearerd again, with the features of the benches.
compare: release dist ## bearerd beside nginx, HAProxy, Caddy and Envoy: half an hour, and renews docs/performance.md; QUICK=1: three minutes less the builds
	@scripts/setup.sh --with-python --with-peers
	sh tests/interop/install-python.sh benches/compare envoy
	mkdir -p $(TARGET)/compare && cp target/ship/bearerd $(TARGET)/compare/
	$(CARGO) bench --bench compare -- --measure target/dist/bearerd --against $(TARGET)/compare/bearerd \
		--against-name "plain release" $(if $(QUICK),--quick,--write)

faults: setup ## Ten minutes of faults on each way to the upstream; FAULTS_SEED repeats a run
	FAULTS_SECONDS=$${FAULTS_SECONDS:-600} $(CARGO) test --test integration proxy::faults::whatever -- --nocapture

fleet: ## Simulate 1, 100 and 10,000 sidecars; renew the tables and pictures of docs/fleet.md
	$(CARGO) run --release --manifest-path benches/fleet/Cargo.toml --target-dir $(TARGET)/fleet

fuzz: fuzz-json fuzz-xml fuzz-credential fuzz-path fuzz-header fuzz-config fuzz-batch ## What reads foreign bytes against any input, FUZZ_SECONDS (30) each

# New inputs go to the first folder. Without a sanitizer, a stable compiler is enough.
fuzz-json fuzz-xml fuzz-credential fuzz-path fuzz-header fuzz-config fuzz-batch: fuzz-%: fuzz-setup
	mkdir -p target/fuzz/corpus/$*
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(CARGO) fuzz run --sanitizer none --target-dir target/fuzz $* target/fuzz/corpus/$* fuzz/corpus/$* -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1

fuzz-setup:
	@scripts/setup.sh --with-fuzz

release: setup ## The binary to ship, without the demo tenant: target/ship/bearerd
	@scripts/setup.sh --with-zig
	scripts/release.sh target/ship/bearerd $(PRODUCTION)

packages: release ## The .deb and the .rpm of the release, in target/ship
	@scripts/setup.sh --with-nfpm
	rm -f target/ship/*.deb target/ship/*.rpm
	scripts/package.sh target/ship/bearerd target/ship deb rpm

# It ends with the figures of the result beside those of the release.
dist: setup ## What a release publishes, laid out by the profile of a training run: target/dist
	@scripts/setup.sh --with-llvm --with-valgrind --with-zig --with-nfpm --with-hatchling --with-sbom
	scripts/dist.sh $(PRODUCTION)
	$(CARGO) test --bench instructions -- --measure target/dist/bearerd --other-build
	ls -l target/dist

test-dist: target/tools/debian.tar ## The archive and the wheel of `make dist` run the demo; the lists of dependencies are right
	@scripts/setup.sh --with-python
	$(CARGO) test --test integration ship::dist -- --ignored

image: release ## The image bearerd:0.1.0 of this machine's binary, without a registry
	sh deploy/image/rootfs.sh target/ship/bearerd target/image
	podman build --target local -f deploy/image/Containerfile -t bearerd:0.1.0 .
