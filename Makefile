# `make` without a target prints this list of targets.

CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
FIRMWARE ?= bios

# Built by the calling user, run as root: the lab creates network namespaces. sudo keeps the environment.
ROOT_CARGO := $(CARGO) $(if $(filter 0,$(shell id -u)),,--config 'target."cfg(unix)".runner = ["sudo", "-E"]')

.PHONY: help
help:
	@echo "make build      the release binary, target/release/volboot"
	@echo "make demo       boot a BIOS machine from a volume and show its console (FIRMWARE=uefi: a UEFI machine)"
	@echo "make test       all tests, including virtual machines that boot"
	@echo "make quickstart the commands of README and the guides, typed on a virtual host; needs \`make packages\`"
	@echo "make os         boot whole Debians from a volume, restart them, cut their portals (two hours)"
	@echo "make check      formatting, lints, documents, licences"
	@echo "make packages   the deb and the rpm, in target/packages"
	@echo "make static     the static binary, in target/static (about five minutes)"
	@echo "make setup      install the Debian packages for the tests (make test and make demo install their own)"
	@echo "make clients    install the OpenStack clients for the tests"
	@echo "make cloud      install Keystone and Cinder for the tests"

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

# The OpenStack clients, in a Python environment under `target`.
.PHONY: clients
clients:
	@tests/clients/install

# Keystone and Cinder with their databases, in a Python environment under `target`.
.PHONY: cloud
cloud: setup
	@tests/lab/cinder/install

# axe-core, the accessibility checker for the page tests.
.PHONY: browser
browser:
	@tests/browser/install

# Installs fewer packages than `setup`: no cloud, no browser, no other DHCP server, no arm64.
.PHONY: demo
demo:
	@tests/lab/install demo
	$(CARGO) build --locked --bin volboot --example demo
	@$(ROOT_CARGO) run --locked --quiet --example demo -- $(FIRMWARE)

# Four machines at a time on two cores: half of a boot is waiting. The tests of a cluster wait most of their time.
.PHONY: test
test: setup clients cloud browser
	$(CARGO) test --locked --lib --bins --test suite -- --skip full_disk::
	$(ROOT_CARGO) test --locked --test suite full_disk::
	$(CARGO) test --locked --test clients -- --test-threads=2
	$(ROOT_CARGO) test --locked --test boots -- --test-threads=4
	$(ROOT_CARGO) test --locked --test cinder
	$(ROOT_CARGO) test --locked --test cluster -- --test-threads=6

# The quick starts of README and the guides, on a virtual host, with the packages in target/packages.
.PHONY: quickstart
quickstart: setup
	@tests/quickstart/install
	$(ROOT_CARGO) test --locked --test quickstart

# Whole operating systems. Their disk images are kept in target/os.
.PHONY: os
os:
	@tests/lab/install packages
	$(ROOT_CARGO) test --locked --test boots operating_system:: -- --ignored --nocapture --test-threads=1

.PHONY: check
check:
	@.ci/run fmt clippy docs licences
