# `make` alone tells what there is to make.

CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
FIRMWARE ?= bios

# Built by whoever calls; run as root, for the lab's network. With sudo, the environment comes along.
ROOT_CARGO := $(CARGO) $(if $(filter 0,$(shell id -u)),,--config 'target."cfg(unix)".runner = ["sudo", "-E"]')

.PHONY: help
help:
	@echo "make build      the release binary, target/release/volboot"
	@echo "make demo       a BIOS machine boots from a volume, before your eyes (FIRMWARE=uefi: a UEFI machine)"
	@echo "make test       all tests, with machines that really boot"
	@echo "make quickstart what README says, typed on a host of its own, after \`make packages\`"
	@echo "make check      formatting, lints, documents, licences"
	@echo "make packages   the deb and the rpm, in target/packages"
	@echo "make static     the binary for any Linux, in target/static; takes some minutes"
	@echo "make setup      the Debian packages that demo and tests need (both install them by themselves)"
	@echo "make clients    OpenStack's own clients, which the tests need (they install them by themselves)"
	@echo "make cloud      Keystone and Cinder, likewise"

.PHONY: build
build:
	$(CARGO) build --locked --release

.PHONY: packages
packages:
	@packaging/build

.PHONY: setup
setup:
	@tests/lab/install

.PHONY: static
static:
	@packaging/static

# OpenStack's own clients, in a Python environment under `target`.
.PHONY: clients
clients:
	@tests/clients/install

# Keystone and Cinder, which the tests need, and their data bases; under `target` as well.
.PHONY: cloud
cloud: setup
	@tests/lab/cinder/install

# What looks for faults of accessibility.
.PHONY: browser
browser:
	@tests/browser/install

.PHONY: demo
demo: setup
	$(CARGO) build --locked --bin volboot --example demo
	@$(ROOT_CARGO) run --locked --quiet --example demo -- $(FIRMWARE)

# Four machines at a time: a boot waits about as long as it works.
.PHONY: test
test: setup clients cloud browser
	$(CARGO) test --locked --lib --bins --test suite
	$(CARGO) test --locked --test clients -- --test-threads=2
	$(ROOT_CARGO) test --locked --test boots -- --test-threads=4
	$(ROOT_CARGO) test --locked --test cinder

# README's quick starts, on a host of their own, with the packages that are there.
.PHONY: quickstart
quickstart: setup
	@tests/quickstart/install
	$(ROOT_CARGO) test --locked --test quickstart

.PHONY: check
check:
	@.ci/run fmt clippy docs licences
