# Targets are thin; CI calls the same ones. `make help` lists them.

CARGO ?= cargo
PYTHON ?= python3
VENV := .venv
PROFILE ?= dev
BIN := target/$(if $(filter release,$(PROFILE)),release,debug)

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: python ## Build and start vmmd with three monitors and an exported device, and say what to type next
	@$(CARGO) build --release -p vmmd
	@mkdir -p run
	@printf '%s\n' "$$DEMO"
	@exec target/release/vmmd --config config/demo.toml

define DEMO

  vmmd serves two QMP monitors, run/qmp-a.sock and run/qmp-b.sock (with indented replies), and one for people.
  In another terminal, from this folder, watch events on one ...

      socat - UNIX-CONNECT:run/qmp-b.sock          then type: {"execute": "qmp_capabilities"}

  ... and pause and resume the machine on the other:

      .venv/bin/qmp-shell run/qmp-a.sock           then type: query-status, stop, cont, quit

  ... or talk to it as people do (Ctrl-] leaves):

      socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:run/monitor.sock     then type: help, info status, info qom-tree

  It also exports a PCI device, edu, on run/edu.sock. A QEMU 11 attaches it to its guest:

      qemu-system-x86_64 -machine q35,memory-backend=ram -object memory-backend-memfd,id=ram,size=512M,share=on \
        -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"run/edu.sock"}}'

  Then info vfio-user shows it, and VFU_CLIENT_HANGUP tells when it goes. What is counted Prometheus gets from run/metrics.sock:

      curl --unix-socket run/metrics.sock http://localhost/metrics

  Ctrl-C here ends vmmd.

endef
export DEMO

# Whether this kernel can filter system calls.
SECCOMP := $(shell grep -qs ^Seccomp: /proc/self/status && echo yes)

# The vmmd that the integration tests drive aborts on panics, is optimised a little, and runs under its own filters of system
# calls, where this kernel has them. `cargo test` alone drives a plain one.
HARD := VMMD_BIN=$(CURDIR)/$(if $(SECCOMP),integration/sandboxed-vmmd,target/abort/vmmd)
NO_SECCOMP := echo "SKIPPED: this kernel has no seccomp, nothing runs under -sandbox on"

.PHONY: test
test: python hard-vmmd ## Everything that needs neither root nor KVM; vmmd under its filters, and aborting on panics
	@$(if $(SECCOMP),,$(NO_SECCOMP))
	$(HARD) $(CARGO) test --workspace --all-targets --all-features
	$(CARGO) test --workspace --doc --all-features

.PHONY: hard-vmmd
hard-vmmd:
	$(CARGO) build --profile abort -p vmmd

.PHONY: integration
integration: python hard-vmmd ## The integration tests of `make test` alone; PLAIN=1 for a vmmd as `cargo build` makes it
	@$(if $(PLAIN)$(SECCOMP),,$(NO_SECCOMP))
	$(if $(PLAIN),$(CARGO) build -p vmmd)
	$(if $(PLAIN),,$(HARD)) $(CARGO) test --workspace --all-features $(INTEGRATION)

INTEGRATION := $(addprefix --test ,$(basename $(notdir $(wildcard integration/tests/*.rs) \
  $(patsubst %/main.rs,%,$(wildcard integration/tests/*/main.rs)))))

.PHONY: test-plain
test-plain: ## The library's tests without any feature
	$(CARGO) test -p vmm-control

.PHONY: hostile
hostile: ## The suite of hostile clients against an optimised vmmd; ARGS=NAME for one case
	$(CARGO) build --release -p vmmd
	VMMD_BIN=$(CURDIR)/target/release/vmmd $(CARGO) test -p vmm-integration --test hostile -- $(ARGS)

.PHONY: stranger
stranger: ## Build and run a VMM author's crate outside the workspace
	$(CARGO) run --quiet --locked --target-dir target/stranger --manifest-path integration/stranger/Cargo.toml

.PHONY: minimal
minimal: ## Hold the README to the crates and the size of a minimal plane
	@$(CARGO) build --quiet --release --locked --target-dir target/minimal --manifest-path integration/minimal/Cargo.toml
	@target/minimal/release/figures README.md

.PHONY: idle
idle: ## Watch an idle plane with 100 monitors for a minute: no wake-up, one thread
	VMM_IDLE_SECONDS=60 $(CARGO) test --workspace --all-features --test idle

# Developers need not have it: it is built into our own folder, once.
CARGO_HACK := target/tools/bin/cargo-hack
$(CARGO_HACK):
	$(CARGO) install --quiet --debug --locked --root target/tools --version 0.6.46 cargo-hack

# Dev-dependencies need not be taken out (--no-dev-deps): what only they turn on is not on in a library's own build.
.PHONY: features
features: $(CARGO_HACK) ## Every combination of features, warnings are errors
	$(CARGO_HACK) hack clippy --feature-powerset --workspace --lib \
	  $(addprefix --exclude ,vmm-integration vmm-benches guest-edu vmmd) -- -D warnings

.PHONY: lint
lint: ## Formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: doc
doc: ## The API documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --all-features

.PHONY: reference
reference: ## Write docs/REFERENCE.md anew
	@$(CARGO) build -p vmmd
	@target/debug/vmmd --dump-schema markdown > docs/.REFERENCE.md
	@mv docs/.REFERENCE.md docs/REFERENCE.md

.PHONY: conformance
conformance: ## Replay recorded exchanges: make conformance [SERVER="qemu-system-x86_64 {args}"] [ARGS=--like-qemu]
	@$(CARGO) build --release -p vmmd -p vmm-integration
	target/release/replay --start "$(or $(SERVER),target/release/vmmd {args})" $(if $(SERVER),,--vmmd) $(ARGS)

.PHONY: bench
bench: ## Micro-benchmarks
	$(CARGO) bench -p vmm-benches

.PHONY: bench-qmp
bench-qmp: ## vmmd, the floor and QEMU (where installed) in one run: make bench-qmp [ARGS="--pin --quick"]
	@$(CARGO) build --release -p vmmd -p vmm-benches --bins
	target/release/bench-qmp $(or $(ARGS),--pin)

.PHONY: bench-vfio-user
bench-vfio-user: ## Our vfio-user server, floors and a peer in one run: make bench-vfio-user [ARGS="--pin --quick"]
	@$(CARGO) build --release -p vmm-benches --bins
	target/release/bench-vfio-user $(or $(ARGS),--pin)

.PHONY: fuzz
fuzz: ## Fuzz both protocols for FUZZ_SECONDS (default 60) each; needs cargo-fuzz
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: cargo install cargo-fuzz"; exit 1; }
	cd fuzz && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run decoder -- -max_total_time=$(or $(FUZZ_SECONDS),60)
	cd fuzz && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run vfio_user -- -len_control=0 -max_len=4096 -max_total_time=$(or $(FUZZ_SECONDS),60)

.PHONY: guest-test
guest-test: ## A Linux guest in QEMU 11.1 drives our edu device [ARGS=--own-edu]; the first time fetches about 75 MB
	integration/guest/make-cache
	$(CARGO) rustc -p guest-edu --release -- -C target-feature=+crt-static -C strip=symbols
	$(CARGO) build -p vmmd
	$(CARGO) build -p vmm-integration --bin guest-test
	target/debug/guest-test $(ARGS)

# Where CI asks, it runs whatever comes; elsewhere a machine without Debian's package tools may do without.
.PHONY: guest-test-if-possible
guest-test-if-possible:
	@if [ -n "$$CI" ] || integration/guest/make-cache --possible; then $(MAKE) guest-test; \
	else echo "SKIPPED: make guest-test (no guest drove the edu device; see above for what is missing)"; fi

.PHONY: python
python: $(VENV)/.done ## The Python environment that the tests' clients run in

$(VENV)/.done: integration/python/requirements.txt
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "Python 3.9 or newer with venv is missing (on Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: ci
ci: lint doc features test ## What CI runs; `integration PLAIN=1` and `test-plain` are beyond its time
	@$(MAKE) -j 2 idle small-programs
	@$(MAKE) guest-test-if-possible

# Beside a plane that is watched while it does nothing.
.PHONY: small-programs
small-programs: minimal stranger
