# Every target installs what it needs: on a fresh Debian 12 with Go and a docker CLI, `make run` and `make test` just work.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= 0.1.0-$(shell git rev-parse --short HEAD 2>/dev/null || echo dev)
# The commit's time rather than the clock's: the same sources make the same program.
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null)
BUILT   ?= $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.built=$(BUILT)

# What the machine must have, by Debian package; the command or file beside it tells whether it is there.
PACKAGES := gcc:gcc pkg-config:pkg-config libseccomp-dev:/usr/include/seccomp.h tini:/usr/bin/tini-static \
            iproute2:ip procps:ps nftables:nft busybox-static:/bin/busybox bind9-dnsutils:dig curl:curl ca-certificates:/etc/ssl/certs git:git
# What its tests drive besides.
TEST_PACKAGES := bind9:/usr/sbin/named nsd:/usr/sbin/nsd knot:/usr/sbin/knotd ldnsutils:drill knot-dnsutils:kdig \
            python3-docker:/usr/lib/python3/dist-packages/docker docker-compose:docker-compose e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs
# What measures the name service.
BENCH_PACKAGES := dnsperf:dnsperf nsd:/usr/sbin/nsd util-linux:taskset

NEREID_SOCKET ?= /run/nereid/docker.sock

.PHONY: help deps test-deps build clients run stop test unit lint integration soak bench bench-dns bench-names bench-plots bench-memory clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# install installs packages that are missing. Their services are not started: tests start name servers of their own.
define install
	@missing=(); for p in $(1); do \
	  have=$${p#*:}; { [ -e "$$have" ] || command -v "$$have" >/dev/null; } || missing+=("$${p%%:*}"); done; \
	if [ $${#missing[@]} -gt 0 ]; then \
	  echo "installing $${missing[*]}"; \
	  as=; [ "$$(id -u)" = 0 ] || as=sudo; \
	  policy=/usr/sbin/policy-rc.d; [ -e $$policy ] || { printf '#!/bin/sh\nexit 101\n' | $$as tee $$policy >/dev/null; \
	    $$as chmod +x $$policy; trap "$$as rm -f $$policy" EXIT; }; \
	  $$as apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive $$as apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; fi
endef

deps:
	$(call install,$(PACKAGES))

test-deps: deps
	$(call install,$(TEST_PACKAGES))

build: deps ## build nereid, the shim and runc into bin/
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...
	CGO_ENABLED=1 go build -trimpath -tags 'seccomp netgo osusergo urfave_cli_no_docs runc_nocriu' -ldflags '-s -w -extldflags -static' -o bin/runc github.com/opencontainers/runc
	@cp -u /usr/bin/tini-static bin/docker-init

run: build ## start the daemon here and print the DOCKER_HOST to use
	@./integration/run-daemon start

stop: ## stop that daemon; its containers go on
	@./integration/run-daemon stop

lab: build ## a fleet of HOSTS=3 hosts on this machine; prints their DOCKER_HOSTs
	@HOSTS='$(or $(HOSTS),3)' ./integration/run-lab start

lab-stop: ## end that fleet with all that runs in it
	@./integration/run-lab stop

test: lint unit integration ## everything CI wants: lint, unit and integration tests

unit: test-deps ## unit tests with the race detector
	go test -race -count=1 -timeout 15m ./...
	go test -count=1 -run '^TestAllocations$$' $$(git ls-files -co --exclude-standard '*/testdata/allocs.txt' | sed 's|^|./|; s|/testdata/.*||') # which the race detector changes

lint: deps ## formatting, vet and the linters of .golangci.yml
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt'd:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	@mkdir -p bin; [ -x bin/golangci-lint ] && bin/golangci-lint version 2>/dev/null | grep -q "$$(awk '/golangci-lint\/v2 v/{print substr($$2,2)}' tools/lint/go.mod)" \
	  || (cd tools/lint && go build -o ../../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint)
	GOLANGCI_LINT_CACHE='$(CURDIR)/bin/lint-cache' bin/golangci-lint run ./... # its cache remembers paths: another checkout's would mislead

# Docker's own clients at the versions their modules pin, each in a folder that serves as DOCKER_CONFIG.
# $(1): the module below tools/, $(2): the command's import path, $(3): the variable that holds its version, $(4): the plugin's name
define client
bin/$(1)/cli-plugins/$(4): tools/$(1)/go.mod tools/$(1)/go.sum
	@mkdir -p $$(@D)
	cd tools/$(1) && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X $(3)=$$$$(go list -m -f '{{.Version}}' $(patsubst %/cmd,%,$(2:/cmd/buildx=)))" -o ../../$$@ $(2)
	@touch $$@
endef
$(eval $(call client,compose2,github.com/docker/compose/v2/cmd,github.com/docker/compose/v2/internal.Version,docker-compose))
$(eval $(call client,compose5,github.com/docker/compose/v5/cmd,github.com/docker/compose/v5/internal.Version,docker-compose))
$(eval $(call client,buildx,github.com/docker/buildx/cmd/buildx,github.com/docker/buildx/version.Version,docker-buildx))

clients: bin/compose2/cli-plugins/docker-compose bin/compose5/cli-plugins/docker-compose bin/buildx/cli-plugins/docker-buildx ## the compose and buildx plugins the tests drive, once

# An old docker CLI for the tests: Debian's, out of its package, so that no second engine is installed and started.
bin/docker-20.10:
	@dir=$$(mktemp -d); trap 'rm -rf '$$dir EXIT; chmod 755 $$dir; cd $$dir && apt-get download -qq docker.io >/dev/null 2>&1 && dpkg-deb -x docker.io_*.deb . && cp usr/bin/docker '$(CURDIR)/$@'

integration: build test-deps clients bin/docker-20.10 ## whole-system tests with the docker CLI and real containers (as root)
	@./integration/install-dockerd
	go test -tags integration -count=1 -timeout 45m ./integration/...

SOAK ?= 30m

soak: build ## random concurrent verbs on 50 containers for 30 minutes (SOAK=duration), ending with no leak
	SOAK=$(SOAK) go test -tags 'integration soak' -count=1 -timeout 0 -v -run '^TestSoak$$' ./integration

bench: build bin/coredns ## measure every number that is to be reached, against the Docker Engine (Debian's docker.io) and CoreDNS on this machine
	$(call install,$(BENCH_PACKAGES))
	./integration/bench/run

bin/coredns: tools/coredns/go.mod tools/coredns/go.sum
	@mkdir -p $(@D)
	cd tools/coredns && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../../$@ github.com/coredns/coredns
	@touch $@

bench-dns: bin/coredns ## measure the name service against CoreDNS and NSD on this machine
	$(call install,$(BENCH_PACKAGES))
	go test -tags bench -count=1 -timeout 20m -v -run '^TestBenchDNS$$' ./integration/bench

bench-plots: build ## draw how things grow with what there is into docs/plots (SCALE=0,100,500,1000 containers; as root)
	./integration/install-dockerd
	SCALE=$(SCALE) go test -tags bench -count=1 -timeout 60m -v -run '^TestBenchPlots$$' ./integration/bench

bench-memory: build ## measure what 1,000 containers (CONTAINERS=n) take of the host's memory, part by part (as root)
	CONTAINERS=$(CONTAINERS) go test -tags bench -count=1 -timeout 30m -v -run '^TestBenchMemory$$' ./integration/bench

bench-names: build ## measure how soon names come and go on every host of a fleet (as root)
	TRIALS=$(TRIALS) DEATHS=$(DEATHS) go test -tags bench -count=1 -timeout 60m -v -run '^TestBenchNames$$' ./integration/bench

clean: ## remove what was built
	rm -rf bin
