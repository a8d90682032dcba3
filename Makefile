# make demo   makes a bootable image and proves it by booting it
# make check  everything that has to hold, tests included
# Both install missing Debian packages first (make setup).

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
BUILT = $(or $(CARGO_TARGET_DIR),target)/release/particle-vm

.PHONY: setup build demo check check-all bench install

setup:
	@tools/setup

build: setup
	$(CARGO) build --release --locked

demo: build
	tools/demo

check: setup
	tools/check

# The tests that take long too.
check-all: setup
	tools/check --all

# A table of times beside those of other programs on the same machine; kept in docs/performance.md.
bench: build
	PARTICLE_VM_TEST_BIN=$(abspath $(BUILT)) $(CARGO) run --release --locked --package particle-vm-tests --bin bench

# Of what `make build` has built.
install:
	install -D -m 0755 $(BUILT) '$(DESTDIR)$(PREFIX)/bin/particle-vm'
	$(BUILT) man --dir '$(DESTDIR)$(PREFIX)/share/man/man1'
	install -d '$(DESTDIR)$(PREFIX)/share/bash-completion/completions' '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d' '$(DESTDIR)$(PREFIX)/share/zsh/site-functions'
	$(BUILT) completions bash > '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/particle-vm'
	$(BUILT) completions fish > '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/particle-vm.fish'
	$(BUILT) completions zsh > '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_particle-vm'
